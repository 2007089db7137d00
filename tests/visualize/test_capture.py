"""capture_attention: names, channels and grids of the coefficients, and no trace of it afterwards."""

import gc
import weakref
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from monai.networks.nets import AttentionUnet, UNet
from network_helpers import as_if_trained
from torch import nn

from ag_networks.blocks import AttentionGate, MultiAttentionGate
from ag_networks.nets import AttentionGatedUNet
from ag_networks.visualize import capture_attention

CHANNELS = (4, 6, 8, 10)
OURS: dict[str, tuple[dict[str, Any], int]] = {
    "two gates": ({}, 2),
    "three gates": ({"gates": 3}, 3),
    "one gate": ({"gates": 1}, 1),
    "one gate, not fused": ({"gates": 1, "fuse_gates": False}, 1),
    "list": ({"deep_supervision": "list"}, 2),
    "softmax": ({"gate_options": {"normalization": "softmax"}}, 2),
}


def network(dims: int = 2, **kwargs: Any) -> AttentionGatedUNet:
    return as_if_trained(AttentionGatedUNet(dims, 1, 2, **{"channels": CHANNELS, **kwargs})).eval()


def monai_network(dims: int = 2) -> AttentionUnet:
    return as_if_trained(AttentionUnet(dims, 1, 2, channels=(4, 8, 16), strides=(2, 2))).eval()


def image(*shape: int) -> torch.Tensor:
    return torch.randn(2, 1, *shape, dtype=torch.float64)


def hooks(module: nn.Module) -> int:
    found = [m._forward_hooks for m in module.modules()] + [m._forward_pre_hooks for m in module.modules()]
    return sum(map(len, found))


@pytest.mark.parametrize(("kwargs", "channels"), OURS.values(), ids=OURS)
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_every_gate_yields_its_coefficients(kwargs: dict[str, Any], channels: int, training: bool) -> None:
    net: Any = network(**kwargs).train(training)
    expected = {}

    def remember(gate: nn.Module, inputs: Any) -> None:
        gates = getattr(gate, "gates", [gate])
        expected[gate] = torch.cat([g.coefficients(*inputs) for g in gates], dim=1)

    names = [f"decoder.level{level}.gate" for level in (1, 2)]
    handles = [net.get_submodule(name).register_forward_pre_hook(remember) for name in names]
    with capture_attention(net) as attention:
        net(image(20, 24))
    for handle in handles:
        handle.remove()
    assert set(attention) == set(names)
    for name, shape in zip(names, [(12, 12), (6, 6)], strict=True):
        alpha = attention[name]
        assert alpha.shape == (2, channels, *shape)
        assert not alpha.requires_grad
        torch.testing.assert_close(alpha, expected[net.get_submodule(name)].detach())


@pytest.mark.parametrize(
    ("shape", "padded", "kwargs"),
    [
        ((16, 24), (16, 24), {}),
        ((13, 22), (16, 24), {}),
        ((9, 10, 8), (16, 16, 8), {}),
        ((9, 10, 5), (16, 16, 5), {"kernel_size": (3, 3, 1), "strides": (2, 2, 1)}),
    ],
    ids=str,
)
def test_on_the_input_grid_the_padding_is_cut_off(
    shape: tuple[int, ...], padded: tuple[int, ...], kwargs: dict[str, Any]
) -> None:
    net, x = network(len(shape), **kwargs), image(*shape)
    with capture_attention(net) as coarse:
        net(x)
    with capture_attention(net, on_input_grid=True) as fine:
        net(x)
    mode = ("bilinear", "trilinear")[len(shape) - 2]
    inside = (..., *[slice(0, n) for n in shape])
    for name, alpha in coarse.items():
        assert fine[name].shape == (2, 2, *shape)
        torch.testing.assert_close(fine[name], F.interpolate(alpha, padded, mode=mode)[inside])


def test_the_coefficients_lie_where_they_were_computed() -> None:
    net = network(channels=(4, 6, 8))
    with torch.no_grad():  # every convolution copies; the gates answer to the mean of the skip alone
        for module in net.modules():
            if isinstance(module, AttentionGate):
                module.phi.weight.zero_()
                module.theta.weight.fill_(1.0)
                module.psi.weight.fill_(1.0)
                module.psi.bias.fill_(-20.0)
        for block in net.encoder:
            for layer in (block.conv1, block.conv2):
                layer.norm.reset_parameters()
                layer.conv.weight.zero_()
                layer.conv.weight[:, :, 1, 1] = 1.0
                layer.conv.bias.zero_()
    x = torch.zeros(1, 1, 37, 41, dtype=torch.float64)
    x[..., 30:34, 8:12] = 1.0
    with capture_attention(net, on_input_grid=True) as attention:
        net(x)
    (alpha,) = attention.values()
    bright = alpha[0, 0] / alpha[0, 0].sum()
    rows, columns = (torch.arange(n, dtype=torch.float64) for n in (37, 41))
    assert (bright.sum(1) @ rows).item() == pytest.approx(31.5, abs=0.5)
    assert (bright.sum(0) @ columns).item() == pytest.approx(9.5, abs=0.5)


@pytest.mark.parametrize("dims", [2, 3], ids=["2d", "3d"])
def test_monais_attention_unet_is_served(dims: int) -> None:
    net, x = monai_network(dims), image(*[16] * dims)
    plain = net(x)
    with capture_attention(net) as attention:
        captured = net(x)
    assert torch.equal(captured, plain)
    assert len(attention) == 2
    assert {alpha.shape[1:] for alpha in attention.values()} == {(1, *[16] * dims), (1, *[8] * dims)}
    for name, alpha in attention.items():
        assert alpha.min() > 0
        assert alpha.max() < 1
        block: Any = net.get_submodule(name)
        g, features = (torch.randn(2, block.W_x[0].in_channels, *[4] * dims, dtype=torch.float64) for _ in range(2))
        with capture_attention(block) as alone:
            gated = block(g, features)
        torch.testing.assert_close(gated, features * alone[""])
    with capture_attention(net, on_input_grid=True) as attention:
        net(x)
    assert {alpha.shape[1:] for alpha in attention.values()} == {(1, *[16] * dims)}


def test_a_gate_alone_has_no_name() -> None:
    for gate in (AttentionGate(2, 4, 6), MultiAttentionGate(2, 4, 6, num_gates=3)):
        x, g = torch.rand(1, 4, 9, 8), torch.rand(1, 6, 4, 4)
        with capture_attention(gate, on_input_grid=True) as attention:
            alpha = gate(x, g)[1]
        assert list(attention) == [""]
        assert torch.equal(attention[""], alpha)


def test_the_last_pass_counts() -> None:
    net, first, last = network(), image(16, 16), image(24, 8)
    with capture_attention(net, on_input_grid=True) as attention:
        net(first)
        net(last)
    with capture_attention(net, on_input_grid=True) as expected:
        net(last)
    torch.testing.assert_close(attention, expected, rtol=0, atol=0)


def test_the_output_and_its_gradient_stay_the_same() -> None:
    net, x = network(), image(13, 22).requires_grad_()
    plain = net(x)
    with capture_attention(net, on_input_grid=True):
        captured = net(x)
    assert torch.equal(captured, plain)
    assert torch.equal(*(torch.autograd.grad(y.sum(), x)[0] for y in (captured, plain)))


@pytest.mark.parametrize("make", [network, monai_network], ids=["ours", "MONAI's"])
def test_nothing_stays_registered(make: Any) -> None:
    net = make()
    with capture_attention(net) as attention:
        assert hooks(net) == 3  # two gates, and the shape of the input
        net(image(16, 16))
    assert hooks(net) == 0
    before = {name: alpha.clone() for name, alpha in attention.items()}
    net(image(8, 8))
    torch.testing.assert_close(attention, before, rtol=0, atol=0)


def test_nothing_stays_registered_after_an_error() -> None:
    net = network()
    with pytest.raises(RuntimeError, match="interrupted"), capture_attention(net):
        raise RuntimeError("interrupted")
    assert hooks(net) == 0
    with pytest.raises(ValueError, match="expected an input"), capture_attention(net):
        net(image(16, 16, 16))
    assert hooks(net) == 0


def test_it_keeps_no_network_alive() -> None:
    net = network()
    with capture_attention(net) as attention:
        net(image(16, 16))
    reference = weakref.ref(net)
    del net
    gc.collect()
    assert reference() is None
    assert len(attention) == 2


@pytest.mark.parametrize(
    "net",
    [AttentionGatedUNet(2, 1, 2, channels=(4, 8), gates=0), UNet(2, 1, 2, channels=(4, 8), strides=(2,))],
    ids=["ours", "MONAI's"],
)
def test_a_network_without_gates_is_refused(net: nn.Module) -> None:
    with pytest.raises(ValueError, match=f"{type(net).__name__} has no attention gate"), capture_attention(net):
        pass
    assert hooks(net) == 0


def test_the_input_may_be_given_by_name() -> None:
    net, x = network(), image(13, 22)
    with capture_attention(net, on_input_grid=True) as attention:
        net(x=x)
    assert {alpha.shape for alpha in attention.values()} == {(2, 2, 13, 22)}


@pytest.mark.parametrize("wrap", [nn.Sequential, nn.DataParallel], ids=["Sequential", "DataParallel"])
def test_a_wrapped_network_yields_the_same(wrap: Any) -> None:
    net, x = network(), image(13, 22)
    with capture_attention(net, on_input_grid=True) as plain:
        net(x)
    wrapped = wrap(net)
    with capture_attention(wrapped, on_input_grid=True) as attention:
        wrapped(x)
    assert [name.partition(".")[2] for name in attention] == list(plain)
    for ours, expected in zip(attention.values(), plain.values(), strict=True):
        torch.testing.assert_close(ours, expected)
