"""A classifier behind a map: what its backbone sees, what is saved, and what is exported."""

import io
from pathlib import Path

import pytest
import torch
from monai.networks.nets import DenseNet
from network_helpers import as_if_trained, relative_error
from torch import nn
from torch.nn import functional as F

from ag_networks.blocks import PixelCNN
from ag_networks.losses import MapPenaltyLoss
from ag_networks.nets import GlobalAttentionClassifier

SIZES = {"2d": (32, 24), "3d": (16, 24, 16)}
DIMS = pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
CLASSES = 5


def build(size: tuple[int, ...] = SIZES["2d"]) -> GlobalAttentionClassifier:
    backbone = DenseNet(len(size), 3, CLASSES, init_features=4, growth_rate=2, block_config=(1, 1))
    return GlobalAttentionClassifier(as_if_trained(backbone, torch.float32), size).eval()


def learnt(size: tuple[int, ...] = SIZES["2d"]) -> tuple[GlobalAttentionClassifier, PixelCNN]:
    network, source = build(size), PixelCNN(torch.randn(6, *size), hidden_channels=4)
    network.attention.learn(as_if_trained(source, torch.float32))
    return network, source


def images(size: tuple[int, ...] = SIZES["2d"]) -> torch.Tensor:
    return torch.randn(2, 3, *size)


@DIMS
def test_a_map_of_zeros_shows_the_backbone_nothing(size: tuple[int, ...]) -> None:
    network, source = learnt(size)
    with torch.no_grad():
        source.conv2.bias.fill_(-torch.inf)
    for training in (True, False):
        seen: list[torch.Tensor] = []
        handle = network.backbone.register_forward_pre_hook(lambda _, inputs, seen=seen: seen.append(inputs[0]))
        network.train(training)(images(size))
        handle.remove()
        assert (seen[0] == 0).all()
    assert torch.equal(network(images(size)), network.backbone(torch.zeros(2, 3, *size)))


@DIMS
def test_a_map_of_ones_is_the_backbone_alone(size: tuple[int, ...]) -> None:
    network, x = build(size), images(size)
    assert torch.equal(network(x), network.backbone(x))
    source = learnt(size)[1]
    with torch.no_grad():
        source.conv2.bias.fill_(torch.inf)
    network.attention.learn(source)
    assert torch.equal(network(x), network.backbone(x))


@DIMS
def test_the_backbone_sees_the_weighed_images(size: tuple[int, ...]) -> None:
    network, source = learnt(size)
    x = images(size)
    assert source().std() > 0.01
    torch.testing.assert_close(network(x), network.backbone(x * source()))
    assert relative_error(network(x), network.backbone(x)) > 1e-3


def test_a_step_is_that_of_equation_1() -> None:
    network, source = learnt()
    loss = MapPenaltyLoss(nn.CrossEntropyLoss(), network.attention, weight=0.3)
    x, labels = images().requires_grad_(), torch.tensor([1, 4])
    wanted = [x, *source.parameters(), *network.backbone.parameters()]
    network.train()
    cost = loss(network(x), labels)
    gradients = torch.autograd.grad(cost, wanted)

    hidden = F.conv2d(source.pixels, source.conv1.weight, source.conv1.bias, padding=1).relu()
    values = F.conv2d(hidden, source.conv2.weight, source.conv2.bias).sigmoid()
    expected = F.cross_entropy(network.backbone(x * values), labels) + 0.3 * values.mean()
    torch.testing.assert_close(cost, expected)
    for actual, of_reference in zip(gradients, torch.autograd.grad(expected, wanted), strict=True):
        assert actual.abs().max() > 0
        torch.testing.assert_close(actual, of_reference, rtol=1e-4, atol=1e-6)


def test_its_weights_are_the_backbones_and_a_map() -> None:
    network, source = learnt()
    network.train()
    with torch.no_grad():
        source.conv2.bias.add_(1.0)  # as a step does
    file = io.BytesIO()
    torch.save(network.state_dict(), file)
    file.seek(0)
    state = torch.load(file, weights_only=True)
    assert [key for key in state if not key.startswith("backbone.")] == ["attention.map"]
    assert {key.removeprefix("backbone.") for key in state} - {"attention.map"} == set(network.backbone.state_dict())
    restored, x = build(), images()
    restored.load_state_dict(state)
    torch.testing.assert_close(restored(x), network.eval()(x))
    assert torch.equal(restored.attention.map, source())
    assert {id(p) for p in network.parameters()}.isdisjoint(id(p) for p in source.parameters())


@DIMS
def test_a_frozen_network_is_the_one_of_the_last_evaluation(size: tuple[int, ...]) -> None:
    network, x = learnt(size)[0], images(size)
    expected = network(x)
    network.attention.freeze()
    assert torch.equal(network(x), expected)


@DIMS
@pytest.mark.parametrize("frozen", [True, False], ids=["frozen", "learning"])
def test_torchscript_computes_the_same(size: tuple[int, ...], frozen: bool) -> None:
    network, x = learnt(size)[0], images(size)
    if frozen:
        network.attention.freeze()
    file = io.BytesIO()
    torch.jit.save(torch.jit.script(network), file)
    file.seek(0)
    scripted = torch.jit.load(file)
    assert relative_error(scripted(x), network(x)) < 1e-5
    assert set(scripted.state_dict()) == set(network.state_dict())


@DIMS
def test_torch_export_computes_the_same(size: tuple[int, ...]) -> None:
    network, x = learnt(size)[0], images(size)
    network.attention.freeze()
    exported = torch.export.export(network, (x,)).module()
    assert relative_error(exported(x), network(x)) < 1e-5


def test_onnx_computes_the_same(tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    network, x = learnt()[0], images()
    network.attention.freeze()
    program = torch.onnx.export(network, (x,), dynamo=True, verbose=False)
    assert program is not None
    program.save(tmp_path / "network.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "network.onnx")
    (output,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    assert relative_error(torch.from_numpy(output), network(x)) < 1e-4


def test_a_map_for_another_size_is_refused() -> None:
    with pytest.raises(RuntimeError, match=r"size mismatch for attention\.map"):
        build((24, 32)).load_state_dict(learnt()[0].state_dict())
    with pytest.raises(ValueError, match=r"a map of shape \(1, 1, 24, 32\), got one of \(1, 1, 32, 24\)"):
        build((24, 32)).attention.learn(learnt()[1])
    with pytest.raises(ValueError, match=r"expected images of \[32, 24\] pixels, as the map has, got \[2, 3, 24, 32\]"):
        build()(images((24, 32)))
