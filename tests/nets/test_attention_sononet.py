"""AG-SonoNet: counts, aggregations, outputs of training and evaluation, maps, and their equations written out."""

import copy
import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from network_helpers import as_if_trained
from torch import nn

from ag_networks.blocks import AttentionGate
from ag_networks.nets import AGGREGATIONS, AttentionGatedSonoNet, SonoNet
from ag_networks.visualize import capture_attention

EVERY = pytest.mark.parametrize("aggregation", AGGREGATIONS)
DIMS = pytest.mark.parametrize("dims", [2, 3], ids=["2d", "3d"])
CLASSES = 3
COUNTS = {
    8: (177_068, 177_068, 177_040, 179_322, 177_670),
    16: (700_716, 700_716, 700_688, 705_210, 701_318),
    32: (2_787_884, 2_787_884, 2_787_856, 2_796_858, 2_788_486),
    64: (11_121_708, 11_121_708, 11_121_680, 11_139_642, 11_122_310),
}
Network = AttentionGatedSonoNet


def build(dims: int = 2, **options: Any) -> AttentionGatedSonoNet:
    return as_if_trained(Network(dims, 1, CLASSES, filters=4, convolutions=(1, 1, 2, 1, 1), **options)).eval()


def image(dims: int = 2) -> torch.Tensor:
    return torch.randn(2, 1, *(50, 37, 33)[:dims], dtype=torch.float64)


@contextmanager
def counted(network: nn.Module) -> Iterator[list[str]]:
    """Names of the leaf modules in the order in which they run."""
    ran: list[str] = []
    leaves = [(name, m) for name, m in network.named_modules() if not list(m.children())]
    handles = [m.register_forward_hook(lambda *_, name=name: ran.append(name)) for name, m in leaves]
    yield ran
    for handle in handles:
        handle.remove()


@pytest.mark.parametrize("filters", COUNTS)
def test_parameters_are_as_published(filters: int) -> None:
    with torch.device("meta"):
        networks = [Network(2, 1, 14, filters=filters, aggregation=aggregation) for aggregation in AGGREGATIONS]
    assert tuple(sum(p.numel() for p in network.parameters()) for network in networks) == COUNTS[filters]


def reference(network: AttentionGatedSonoNet, x: torch.Tensor) -> dict[str, Any]:
    """Vectors and logits from the maps, by the papers' equations."""
    maps = network.features(x)
    s = network.state_dict()
    vectors, alphas = [], []
    for i, local in enumerate(maps[:2]):
        options: dict[str, Any] = {"sub_sample_factor": 1, "output": None, "gating_bias": False}
        gate = AttentionGate(x.dim() - 2, local.shape[1], 32, 32, normalization="shifted_sum", **options).to(x.dtype)
        gate.load_state_dict(network.gates[i].state_dict())
        gated, alpha = gate(local, maps[2])
        vectors.append(gated.flatten(2).sum(2))
        alphas.append(alpha)
    vectors.append(maps[2].flatten(2).mean(2))
    logits = []
    if "classifiers.0.weight" in s:
        logits = [F.linear(v, s[f"classifiers.{i}.weight"], s[f"classifiers.{i}.bias"]) for i, v in enumerate(vectors)]
    joint = None
    if network.joint is not None:
        parts = logits if network.aggregation == "fine_tune" else vectors
        joint = F.linear(torch.cat(parts, 1), s["joint.weight"], s["joint.bias"])
    return {"maps": maps, "alphas": alphas, "vectors": vectors, "logits": logits, "joint": joint}


@DIMS
@EVERY
def test_scores_are_those_of_the_equations(dims: int, aggregation: str) -> None:
    network, x = build(dims, aggregation=aggregation), image(dims)
    expected = reference(network, x)
    scores = network(x)
    assert scores.shape == (2, CLASSES)
    if aggregation in ("mean", "max"):
        probabilities = torch.stack([p.softmax(1) for p in expected["logits"]])
        combined = probabilities.mean(0) if aggregation == "mean" else probabilities.amax(0)
        torch.testing.assert_close(scores, combined.log())
        torch.testing.assert_close(scores.softmax(1), combined / combined.sum(1, keepdim=True))
    else:
        torch.testing.assert_close(scores, expected["joint"])


@EVERY
def test_training_gives_what_the_losses_need(aggregation: str) -> None:
    network, x = build(aggregation=aggregation), image()
    expected = reference(network, x)
    network.training = True  # the network alone: its norms keep their statistics
    outputs = network(x)
    if aggregation in ("concat", "fine_tune"):
        torch.testing.assert_close(outputs, expected["joint"])
    else:
        joint = [expected["joint"]] if aggregation == "deep_supervision" else []
        torch.testing.assert_close(outputs, joint + expected["logits"])


@DIMS
@EVERY
def test_maps_come_with_the_scores_from_one_pass(dims: int, aggregation: str) -> None:
    network, x = build(dims, aggregation=aggregation), image(dims)
    expected = reference(network, x)
    with counted(network) as alone:
        scores = network(x)
    with counted(network) as together:
        with_maps, coefficients, activation = network.with_maps(x)
    assert alone == together
    torch.testing.assert_close(with_maps, scores)
    torch.testing.assert_close(coefficients, expected["alphas"])
    assert activation.shape == (2, CLASSES, *(3, 2, 2)[:dims])
    contribution = activation.flatten(2).mean(2)  # what the coarsest scale contributes
    v3, s = expected["vectors"][2], network.state_dict()
    if aggregation == "concat":
        torch.testing.assert_close(contribution, v3 @ s["joint.weight"][:, -v3.shape[1] :].T)
    elif aggregation == "fine_tune":
        torch.testing.assert_close(contribution, expected["logits"][2] @ s["joint.weight"][:, -CLASSES:].T)
    else:
        torch.testing.assert_close(contribution, expected["logits"][2])


def test_the_activation_of_a_place_depends_on_that_place() -> None:
    network = build()
    maps = network.features(image())[2].detach()
    moved = maps.clone()
    moved[:, :, 1, 0] += 1.0
    changed = (network._activation(moved) - network._activation(maps)).abs().amax(1) > 1e-9
    assert changed[:, 1, 0].all()
    assert changed.sum() == 2


def test_the_released_prediction_is_the_largest_mean_probability() -> None:
    network, x = build(), image()
    expected = torch.stack([p.softmax(1) for p in reference(network, x)["logits"]]).mean(0).argmax(1)
    assert torch.equal(network(x).argmax(1), expected)


@pytest.mark.parametrize("aggregation", ["mean", "max"])
def test_very_sure_scales_give_finite_scores(aggregation: str) -> None:
    network = build(aggregation=aggregation)
    with torch.no_grad():
        for i, classifier in enumerate(network.classifiers):
            classifier.bias.copy_(1e4 * F.one_hot(torch.tensor(i), CLASSES))
    scores = network(image())
    assert scores.isfinite().all()
    torch.testing.assert_close(scores.softmax(1), torch.full_like(scores, 1 / 3), rtol=0, atol=0.05)


def test_fine_tuning_starts_as_the_mean_of_the_logits() -> None:
    network = Network(2, 1, CLASSES, filters=4, aggregation="fine_tune").eval().double()
    x = image()
    torch.testing.assert_close(network(x), torch.stack(reference(network, x)["logits"]).mean(0))


@pytest.mark.parametrize("normalization", ["shifted_sum", "softmax", "sigmoid", "sum", "range"])
def test_every_normalization_is_used(normalization: str) -> None:
    network = build(normalization=normalization)
    assert {gate.normalization.name for gate in network.gates} == {normalization}
    assert network(image()).isfinite().all()


def test_gates_have_the_widths_of_the_papers() -> None:
    network = Network(2, 1, 14, filters=8)
    shapes = [(g.theta.weight.shape[:2], g.phi.weight.shape[:2], g.psi.weight.shape[:2]) for g in network.gates]
    assert shapes == [((64, 32), (64, 64), (1, 64)), ((64, 64), (64, 64), (1, 64))]
    assert all(gate.phi.bias is None for gate in network.gates)
    assert Network(2, 1, 14, filters=8, inter_channels=5).gates[0].theta.weight.shape[:2] == (5, 32)
    assert {gate.align_corners for gate in Network(2, 1, 14, filters=8, align_corners=True).gates} == {True}


def test_shared_parameters_have_the_names_of_sononet() -> None:
    options: dict[str, Any] = {"filters": 4, "convolutions": (2, 2, 3, 3, 3), "bias": False}
    plain, gated = SonoNet(2, 1, CLASSES, **options).state_dict(), Network(2, 1, CLASSES, **options).state_dict()
    ours = {key: value.shape for key, value in gated.items() if key.startswith("features.")}
    assert ours == {key: value.shape for key, value in plain.items() if key.startswith("features.")}
    assert {key.split(".")[0] for key in plain.keys() - ours.keys()} == {"adaptation"}
    assert not any(key.endswith("conv.bias") for key in gated)


@EVERY
def test_scripted_it_gives_the_same_in_training_and_evaluation(aggregation: str) -> None:
    network = build(aggregation=aggregation)
    file = io.BytesIO()
    torch.jit.save(torch.jit.script(copy.deepcopy(network)), file)
    file.seek(0)
    scripted, x = torch.jit.load(file), image()
    torch.testing.assert_close(scripted(x), network(x))
    torch.testing.assert_close(scripted.with_maps(x), network.with_maps(x))
    with torch.no_grad():
        torch.testing.assert_close(scripted(x), network(x))
    torch.testing.assert_close(scripted.train()(x), network.train()(x))


def test_its_gates_are_captured() -> None:
    network, x = build(), image()
    with capture_attention(network) as attention:
        network(x)
    coefficients = network.with_maps(x)[1]
    assert list(attention) == ["gates.0", "gates.1"]
    torch.testing.assert_close(list(attention.values()), [c.detach() for c in coefficients])


@EVERY
@pytest.mark.parametrize("value", [0.0, 7.0])
def test_a_blank_image_gives_numbers(aggregation: str, value: float) -> None:
    network = build(aggregation=aggregation)
    for output in network.with_maps(torch.full_like(image(), value))[::2]:
        assert output.isfinite().all()


@EVERY
def test_the_losses_of_the_papers_reach_every_parameter(aggregation: str) -> None:
    network = build(aggregation=aggregation).train()
    outputs = network(image())
    weights = [1.0, 0.1, 0.1, 0.1] if aggregation == "deep_supervision" else [1.0, 1.0, 1.0]
    outputs = outputs if isinstance(outputs, list) else [outputs]
    target = torch.tensor([0, 2])
    losses = [w * F.cross_entropy(y, target) for w, y in zip(weights, outputs, strict=False)]
    torch.stack(losses).sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        if not name.endswith(("psi.bias", "conv.bias")):  # which a normalization takes out again
            assert parameter.grad.abs().max() > 1e-9, name


def test_an_unknown_aggregation_is_refused() -> None:
    with pytest.raises(ValueError, match=r"aggregation must be one of mean, max, .*, got 'ft'"):
        Network(2, 1, CLASSES, aggregation="ft")


def test_with_adaptation_layers_it_starts_as_the_sononet_it_is_warmed_by() -> None:
    teacher = as_if_trained(SonoNet(2, 1, CLASSES, filters=4, convolutions=(1, 1, 2, 1, 1))).eval()
    network = Network(
        2, 1, CLASSES, filters=4, convolutions=(1, 1, 2, 1, 1), aggregation="fine_tune", adaptation=True
    ).double()
    missing, extra = network.load_state_dict(teacher.state_dict(), strict=False)
    assert not extra
    assert {name.split(".")[0] for name in missing} == {"gates", "classifiers", "joint"}
    assert len(network.classifiers) == 2
    x = image()
    assert torch.allclose(network.eval()(x), teacher(x))


@pytest.mark.parametrize("aggregation", [a for a in AGGREGATIONS if a != "concat"])
def test_the_activation_map_of_adaptation_layers_averages_to_the_coarsest_logits(aggregation: str) -> None:
    network, x = build(aggregation=aggregation, adaptation=True), image()
    activation = network.with_maps(x)[2].flatten(2).mean(2)
    logits = network.adaptation(network.features(x)[2]).flatten(2).mean(2)
    if aggregation == "fine_tune":
        logits = logits @ network.joint.weight[:, -CLASSES:].T
    assert torch.allclose(activation, logits)
    trained = network.train()(x)
    if isinstance(trained, list):
        assert len(trained) == (4 if aggregation == "deep_supervision" else 3)


def test_adaptation_layers_need_classifiers_by_scale() -> None:
    with pytest.raises(ValueError, match="no place for adaptation"):
        Network(2, 1, CLASSES, filters=4, aggregation="concat", adaptation=True)
