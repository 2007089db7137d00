"""SonoNet and AG-SonoNet checkpoints of the original code, against its networks written again as functions."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from ag_networks.interop import from_original
from ag_networks.interop.original import rename_keys
from ag_networks.nets import AttentionGatedSonoNet, SonoNet

State = dict[str, torch.Tensor]
CLASSES, FILTERS = 5, (2, 4, 8, 16, 16)
CORNERS = pytest.mark.parametrize("align_corners", [False, True], ids=["centers", "corners"])
AGGREGATIONS = {"mean": "mean", "deep_sup": "deep_supervision", "ft": "fine_tune", "concat": "concat"}


# Their parameters, for four classes of checkpoints


def random(*shape: int) -> torch.Tensor:
    return torch.randn(shape) * (2 / (torch.Size(shape[1:]).numel() or 1)) ** 0.5


def layer(p: str, out: int, inn: int, kernel: int) -> State:
    s = {f"{p}.0.weight": random(out, inn, kernel, kernel), f"{p}.0.bias": random(out)}
    s |= {f"{p}.1.{name}": torch.randn(out) for name in ("weight", "bias", "running_mean")}
    return s | {f"{p}.1.running_var": torch.rand(out) + 0.5, f"{p}.1.num_batches_tracked": torch.tensor(3)}


def features(convolutions: tuple[int, ...], in_channels: int = 2) -> State:
    s, width = {}, in_channels
    for i, (channels, count) in enumerate(zip(FILTERS, convolutions, strict=True), 1):
        for j in range(1, count + 1):
            s |= layer(f"conv{i}.conv{j}", channels, width, 3)
            width = channels
    return s


def sononet_state(convolutions: tuple[int, ...]) -> State:
    s = features(convolutions) | layer("conv5_p.cbr_unit", 8, 16, 1)
    return s | layer("conv6_p.cb_unit", CLASSES, 8, 1)


def linear(p: str, inn: int) -> State:
    return {f"{p}.weight": random(CLASSES, inn), f"{p}.bias": random(CLASSES)}


def attention_state(aggregation: str, inter: int = 16) -> State:
    s = features((3, 3, 3, 2, 2))
    for i, width in enumerate((8, 16), 1):
        p = f"compatibility_score{i}"
        s |= {f"{p}.theta.weight": random(inter, width, 1, 1), f"{p}.phi.weight": random(inter, 16, 1, 1)}
        s |= {f"{p}.psi.weight": random(1, inter, 1, 1), f"{p}.psi.bias": random(1)}
    if aggregation != "concat":
        s |= linear("classifier1", 8) | linear("classifier2", 16) | linear("classifier3", 16)
    if aggregation != "mean":
        s |= linear("classifier", 3 * CLASSES if aggregation == "ft" else 40)
    return s


# The original networks, as functions


def conv_norm(s: State, p: str, x: torch.Tensor) -> torch.Tensor:
    weight = s[f"{p}.0.weight"]
    x = F.conv2d(x, weight, s.get(f"{p}.0.bias"), padding=weight.shape[-1] // 2)
    return F.batch_norm(x, *(s[f"{p}.1.{name}"] for name in ("running_mean", "running_var", "weight", "bias")))


def stages(s: State, x: torch.Tensor) -> list[torch.Tensor]:
    maps = []
    for i in range(1, 6):
        x = F.max_pool2d(x, 2) if i > 1 else x
        j = 1
        while f"conv{i}.conv{j}.0.weight" in s:
            x = F.relu(conv_norm(s, f"conv{i}.conv{j}", x))
            j += 1
        maps.append(x)
    return maps[2:]


def sononet(s: State, x: torch.Tensor) -> torch.Tensor:
    x = F.relu(conv_norm(s, "conv5_p.cbr_unit", stages(s, x)[2]))
    return conv_norm(s, "conv6_p.cb_unit", x).mean((2, 3))


def attention_sononet(s: State, x: torch.Tensor, aggregation: str, align_corners: bool) -> list[torch.Tensor]:
    maps = stages(s, x)
    vectors = []
    for i, local in enumerate(maps[:2], 1):
        p = f"compatibility_score{i}"
        g = F.interpolate(
            F.conv2d(maps[2], s[f"{p}.phi.weight"]), local.shape[2:], mode="bilinear", align_corners=align_corners
        )
        q = F.conv2d(
            F.relu(F.conv2d(local, s[f"{p}.theta.weight"]) + g), s[f"{p}.psi.weight"], s[f"{p}.psi.bias"]
        ).flatten(2)
        q = q - q.amin(2, keepdim=True)
        vectors.append((q / q.sum(2, keepdim=True) * local.flatten(2)).sum(2))
    vectors.append(maps[2].mean((2, 3)))
    if aggregation == "concat":
        return [F.linear(torch.cat(vectors, 1), s["classifier.weight"], s["classifier.bias"])]
    logits = [F.linear(v, s[f"classifier{i}.weight"], s[f"classifier{i}.bias"]) for i, v in enumerate(vectors, 1)]
    if aggregation == "mean":
        return logits
    joint = F.linear(
        torch.cat(logits if aggregation == "ft" else vectors, 1), s["classifier.weight"], s["classifier.bias"]
    )
    return [joint] if aggregation == "ft" else [joint, *logits]


def double(s: State) -> State:
    return {k: v.double() if v.is_floating_point() else v for k, v in s.items()}


def image() -> torch.Tensor:
    return torch.randn(2, 2, 49, 36, dtype=torch.float64)


def as_list(outputs: Any) -> list[torch.Tensor]:
    return outputs if isinstance(outputs, list) else [outputs]


@pytest.mark.parametrize("convolutions", [(3, 3, 3, 2, 2), (2, 2, 3, 3, 3)], ids=str)
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
def test_sononet(convolutions: tuple[int, ...], bias: bool) -> None:
    s = {k: v for k, v in sononet_state(convolutions).items() if bias or not k.endswith(".0.bias")}
    network, x = from_original({"model_type": "sononet2"}, s), image()
    assert isinstance(network, SonoNet)
    assert not network.training
    torch.testing.assert_close(network.double()(x), sononet(double(s), x))


@CORNERS
@pytest.mark.parametrize("aggregation", AGGREGATIONS)
@pytest.mark.parametrize("inter", [16, 3], ids=["inter as wide as the last map", "narrow"])
def test_attention_sononet(aggregation: str, inter: int, align_corners: bool) -> None:
    s, x = attention_state(aggregation, inter), image()
    config = {"nonlocal_mode": "concatenation_mean_flow", "aggregation_mode": aggregation}
    network: Any = from_original(config, s, align_corners=align_corners)
    assert isinstance(network, AttentionGatedSonoNet)
    assert network.aggregation == AGGREGATIONS[aggregation]
    network.double().training = True  # the network alone, so that it returns what the original returns
    torch.testing.assert_close(as_list(network(x)), attention_sononet(double(s), x, aggregation, align_corners))


def test_prediction_by_the_maximum_is_asked_from_the_options() -> None:
    s = attention_state("mean")
    config = {"nonlocal_mode": "concatenation_mean_flow", "aggregation_mode": "mean"}
    found = [from_original({**config, "aggregation": rule}, s).aggregation for rule in ("max", "mean", "weighted_mean")]
    assert found == ["max", "mean", "mean"]


@pytest.mark.parametrize(("mode", "name"), [("softmax", "softmax"), ("sigmoid", "sigmoid"), ("mean", "sum")])
def test_modes(mode: str, name: str) -> None:
    network: Any = from_original({"nonlocal_mode": f"concatenation_{mode}"}, attention_state("ft"))
    assert {gate.normalization.name for gate in network.gates} == {name}


def test_a_data_parallel_checkpoint_is_the_same() -> None:
    s = attention_state("deep_sup")
    config = {"nonlocal_mode": "concatenation_mean_flow"}
    prefixed = {f"module.{key}": value for key, value in s.items()}
    expected, actual = (from_original(config, state).state_dict() for state in (s, prefixed))
    torch.testing.assert_close(dict(actual), dict(expected), rtol=0, atol=0)
    names = rename_keys(prefixed)
    assert set(names.values()) == set(actual)
    assert all(torch.equal(prefixed[theirs], actual[ours]) for theirs, ours in names.items())


@pytest.mark.parametrize(
    ("config", "gone", "message"),
    [
        ({}, "", "must be one of concatenation_softmax, .*, got None"),
        ({"nonlocal_mode": "concatenation"}, "", "must be one of concatenation_softmax, .*, got 'concatenation'"),
        ({"nonlocal_mode": "concatenation_mean"}, "compatibility_score1.theta.weight", "theta.weight' is missing"),
        ({"nonlocal_mode": "concatenation_mean"}, "classifier2.bias", r"classifiers\.1\.bias"),
        ({"nonlocal_mode": "concatenation_mean"}, "conv2.conv2.0.weight", r"stages\.1\.2"),
    ],
)
def test_what_is_not_understood_is_refused(config: dict[str, Any], gone: str, message: str) -> None:
    s = {key: value for key, value in attention_state("mean").items() if key != gone}
    with pytest.raises(ValueError, match=message):
        from_original(config, s)
