"""AttentionGatedUNet: its data flow written again, published sizes, any input size, both kinds of deep supervision."""

import copy
import pickle
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from monai.losses import DeepSupervisionLoss, DiceLoss
from network_helpers import as_if_trained, gradients, relative_error
from torch import nn

from ag_networks.blocks import AttentionGate, MultiAttentionGate
from ag_networks.nets import AttentionGatedUNet
from ag_networks.registry import create_network

DIMS = pytest.mark.parametrize("dims", [2, 3], ids=["2d", "3d"])
TRAINING = pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
CHANNELS = (4, 6, 8)


def small(dims: int = 2, in_channels: int = 1, out_channels: int = 3, **kwargs: Any) -> AttentionGatedUNet:
    """A network whose every parameter matters."""
    return as_if_trained(AttentionGatedUNet(dims, in_channels, out_channels, **{"channels": CHANNELS, **kwargs}))


def image(*shape: int, channels: int = 1) -> torch.Tensor:
    return torch.randn(2, channels, *shape, dtype=torch.float64)


def up(x: torch.Tensor, size: Any, align_corners: bool = False) -> torch.Tensor:
    return F.interpolate(x, size, mode=("bilinear", "trilinear")[x.dim() - 4], align_corners=align_corners)


def scores(network: Any, x: torch.Tensor, strides: Any, from_bottleneck: bool) -> list[torch.Tensor]:
    """Class scores of the decoder levels, finest first, as section 2 of the paper draws the network."""
    pool = F.max_pool3d if x.dim() == 5 else F.max_pool2d
    skips, found = [], []
    for block in network.encoder:
        skips.append(block(x))
        x = pool(skips[-1], strides)
    x = network.bottleneck(x)
    g = x if network.gating is None else network.gating(x)
    for level in reversed(range(len(skips))):
        part = network.decoder[f"level{level}"]
        gated = skips[level] if part.gate is None else part.gate(skips[level], g)[0]
        x = part.up(gated, x)
        g = g if from_bottleneck else x
        found.insert(0, part.head(x) if part.head is not None else None)
    return found


WIRINGS: dict[str, dict[str, Any]] = {
    "default": {},
    "plain": {"gates": 0},
    "one gate": {"gates": 1},
    "one gate, not fused": {"gates": 1, "fuse_gates": False},
    "three gates": {"gates": 3},
    "gated by the bottleneck": {"gating_source": "bottleneck"},
    "gating convolution": {"gating_channels": 5},
    "gating convolution for all": {"gating_channels": 5, "gating_source": "bottleneck"},
    "anisotropic": {"kernel_size": (3, 3, 1), "strides": (2, 2, 1)},
    "stride per axis": {"strides": (1, 2, 3)},
    "two levels": {"channels": (4, 6)},
    "instance norm": {"norm": "instance", "act": "leakyrelu"},
    "corners": {"align_corners": True},
    "gate options": {"gate_options": {"inter_channels": 3, "sub_sample_factor": 1, "normalization": "softmax"}},
}


@DIMS
@TRAINING
@pytest.mark.parametrize("wiring", WIRINGS.values(), ids=WIRINGS)
def test_the_output_is_the_fusion_of_all_levels(dims: int, training: bool, wiring: dict[str, Any]) -> None:
    wiring = {k: v[-dims:] if k in ("kernel_size", "strides") else v for k, v in wiring.items()}
    ours: Any = small(dims, **{"channels": (3, 4, 5, 6), **wiring}).train(training)
    theirs = copy.deepcopy(ours)
    strides = wiring.get("strides", 2)
    x = image(*(8, 16, 27 if isinstance(strides, tuple) else 8)[-dims:])
    corners = wiring.get("align_corners", False)
    found = scores(theirs, x, strides, "bottleneck" in wiring.get("gating_source", ""))
    expected = theirs.fuse(torch.cat([up(score, x.shape[2:], corners) for score in found], dim=1))
    actual = ours(x)
    torch.testing.assert_close(actual, expected)
    torch.testing.assert_close(
        gradients((actual,), tuple(ours.parameters())), gradients((expected,), tuple(theirs.parameters()))
    )


@DIMS
@pytest.mark.parametrize("deep_supervision", ["list", None])
def test_the_scores_of_the_levels_are_the_output(dims: int, deep_supervision: str | None) -> None:
    network = small(dims, deep_supervision=deep_supervision).train()
    x = image(*[16] * dims)
    expected = scores(copy.deepcopy(network), x, 2, False)
    actual = copy.deepcopy(network)(x)
    if deep_supervision is None:
        assert torch.is_tensor(actual)
        torch.testing.assert_close(actual, expected[0])
        assert not any("head" in name for name in network.state_dict() if "level0" not in name)
    else:
        torch.testing.assert_close(actual, expected)
    evaluated = network.eval()(x)
    assert torch.is_tensor(evaluated)
    torch.testing.assert_close(evaluated, scores(network, x, 2, False)[0])


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("unet", 5_888_004),
        ("attention_unet", 6_407_018),
        ("unet_6m44", 6_444_328),
        ("unet_10m40", 10_403_190),
        ("attention_unet_released", 6_473_322),
        ("attention_unet_single_gate", 6_214_151),
    ],
)
def test_the_presets_have_the_published_number_of_parameters(name: str, count: int) -> None:
    assert sum(p.numel() for p in create_network(name).parameters()) == count


@pytest.mark.parametrize(("gates", "count"), [(0, 1_473_516), (1, 1_555_695), (2, 1_620_770)])
def test_half_the_width_has_the_released_number_of_parameters(gates: int, count: int) -> None:
    options = {"channels": (8, 16, 32, 64, 128), "gates": gates, "gating_channels": 128}
    assert sum(p.numel() for p in create_network("attention_unet", **options).parameters()) == count


@TRAINING
@pytest.mark.parametrize(
    ("dims", "shape", "kwargs"),
    [
        (2, (13, 22), {}),
        (2, (1, 1), {}),
        (2, (16, 9), {"align_corners": True}),
        (2, (7, 10), {"strides": (1, 3)}),
        (2, (13, 22), {"deep_supervision": None}),
        (3, (9, 8, 6), {}),
        (3, (9, 10, 5), {"strides": (2, 2, 1), "kernel_size": (3, 3, 1)}),
        (3, (5, 5, 5), {"gates": 0}),
    ],
    ids=str,
)
def test_any_size_equals_padding_at_the_end_and_cropping(
    training: bool, dims: int, shape: tuple[int, ...], kwargs: dict[str, Any]
) -> None:
    network = small(dims, **kwargs).train(training)
    x = image(*shape)
    strides = kwargs.get("strides", 2)
    multiples = [s**2 for s in ([strides] * dims if isinstance(strides, int) else strides)]
    legal = [-(-n // m) * m for n, m in zip(shape, multiples, strict=True)]
    padded = torch.zeros(2, 1, *legal, dtype=x.dtype)
    inside = (slice(None), slice(None), *[slice(0, n) for n in shape])
    padded[inside] = x
    expected = copy.deepcopy(network)(padded)
    assert torch.is_tensor(expected)
    actual = network(x)
    assert actual.shape == (2, 3, *shape)
    torch.testing.assert_close(actual, expected[inside])


@pytest.mark.parametrize(
    ("shape", "coarser"),
    [((16, 24), [(8, 12), (4, 6)]), ((13, 22), [(7, 11), (4, 6)]), ((17, 9), [(9, 5), (5, 3)])],
    ids=str,
)
def test_a_list_holds_every_level_without_its_padding(shape: tuple[int, ...], coarser: list[tuple[int, ...]]) -> None:
    network = small(2, channels=(4, 6, 8, 8), deep_supervision="list").train()
    legal = [-(-n // 8) * 8 for n in shape]
    x = F.pad(image(*shape), [0, legal[1] - shape[1], 0, legal[0] - shape[0]])
    whole = copy.deepcopy(network)(x)
    found = network(x[..., : shape[0], : shape[1]])
    assert [tuple(score.shape) for score in found] == [(2, 3, *size) for size in [shape, *coarser]]
    for part, full in zip(found, whole, strict=True):
        torch.testing.assert_close(part, full[..., : part.shape[2], : part.shape[3]])


@DIMS
def test_monais_deep_supervision_loss_trains_the_list(dims: int) -> None:
    torch.manual_seed(0)
    network = AttentionGatedUNet(dims, 1, 3, channels=CHANNELS, deep_supervision="list").train()
    loss_function = DeepSupervisionLoss(DiceLoss(softmax=True, to_onehot_y=True), weight_mode="exp")
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    shape = (18, 13, 10)[:dims]
    x = torch.rand(2, 1, *shape)
    target = (x * 3).long().clamp(max=2).float()
    losses = []
    for _ in range(15):
        optimizer.zero_grad()
        loss = loss_function(network(x), target)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())
    assert losses[-1] < 0.9 * losses[0]


@DIMS
@pytest.mark.parametrize("kwargs", [{}, {"deep_supervision": "list"}, {"deep_supervision": None}], ids=str)
def test_a_gradient_reaches_every_parameter(dims: int, kwargs: dict[str, Any]) -> None:
    network = AttentionGatedUNet(dims, 2, 3, channels=CHANNELS, gating_channels=5, norm="instance", **kwargs).train()
    outputs = network(torch.randn(2, 2, *[16] * dims))
    outputs = tuple(outputs) if isinstance(outputs, list) else (outputs,)
    names, parameters = zip(*network.named_parameters(), strict=True)
    # the bias before a normalization has none but for rounding
    for name, gradient in zip(names, gradients(outputs, parameters), strict=True):
        assert gradient.isfinite().all(), name
        assert gradient.abs().max() > 0, name


def test_the_plain_network_has_no_gate() -> None:
    plain, gated = small(gates=0), small(gates=2)
    assert not any(isinstance(m, (AttentionGate, MultiAttentionGate)) for m in plain.modules())
    shapes = {k: v.shape for k, v in gated.state_dict().items()}
    assert {k: v.shape for k, v in plain.state_dict().items()} == {k: v for k, v in shapes.items() if "gat" not in k}


@pytest.mark.parametrize("levels", [2, 3, 5])
def test_every_skip_but_the_finest_is_gated(levels: int) -> None:
    network = AttentionGatedUNet(2, 1, 2, channels=(4, 6, 8, 10, 12)[:levels])
    gates = {n: m for n, m in network.named_modules() if isinstance(m, MultiAttentionGate)}
    assert set(gates) == {f"decoder.level{i}.gate" for i in range(1, levels - 1)}
    for i in range(1, levels - 1):
        (gate, _) = gates[f"decoder.level{i}.gate"].gates
        assert gate.theta.weight.shape == (4 + 2 * i, 4 + 2 * i, 2, 2)
        assert gate.phi.weight.shape == (4 + 2 * i, 6 + 2 * i, 1, 1)


def test_a_gate_option_overrides_and_the_rest_stays() -> None:
    options = {"normalization": "range", "inter_channels": 5}
    network = AttentionGatedUNet(2, 1, 2, channels=CHANNELS, strides=(1, 2), gate_options=options)
    gates = [m for m in network.modules() if isinstance(m, AttentionGate)]
    assert [g.normalization.name for g in gates] == ["range"] * 2
    assert [g.theta.weight.shape for g in gates] == [(5, 6, 1, 2)] * 2
    released = AttentionGatedUNet(2, 1, 2, channels=CHANNELS, gate_options={"init": "released"})
    started = [m.psi.bias.item() for m in released.modules() if isinstance(m, AttentionGate)]
    assert max(started) < 1


def test_gates_start_open() -> None:
    for module in AttentionGatedUNet(3, 1, 2, channels=CHANNELS).modules():
        if isinstance(module, AttentionGate):
            assert module.psi.bias.sigmoid().item() == pytest.approx(0.95)


def test_dropout_reaches_the_levels() -> None:
    network = small(dropout=0.3)
    assert sum(isinstance(m, nn.Dropout2d) and m.p == 0.3 for m in network.modules()) == 5
    x = image(8, 8)
    assert not torch.equal(network(x), network(x))
    assert torch.equal(network.eval()(x), network(x))


@pytest.mark.parametrize(
    ("dims", "shape", "message"),
    [
        (2, (1, 1, 8, 8, 8), r"expected an input \(N, 1\) with 2 spatial axes, got .*\[1, 1, 8, 8, 8\]"),
        (3, (1, 1, 8, 8), r"expected an input \(N, 1\) with 3 spatial axes, got .*\[1, 1, 8, 8\]"),
        (2, (1, 3, 8, 8), r"expected an input \(N, 1\) with 2 spatial axes, got .*\[1, 3, 8, 8\]"),
    ],
    ids=["volume", "slice", "channels"],
)
def test_another_input_is_refused(dims: int, shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AttentionGatedUNet(dims, 1, 2, channels=(4, 8))(torch.zeros(shape))


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"spatial_dims": 1}, "spatial_dims must be 2 or 3, got 1"),
        ({"channels": (8,)}, r"channels must name at least two levels, got \(8,\)"),
        ({"gates": -1}, "gates must be 0, 1 or, if fused, more; got gates=-1"),
        ({"gates": 2, "fuse_gates": False}, "got gates=2, fuse_gates=False"),
        ({"gating_source": "encoder"}, "gating_source must be 'decoder' or 'bottleneck', got 'encoder'"),
        ({"deep_supervision": True}, "deep_supervision must be 'fused', 'list' or None, got True"),
        ({"strides": (2, 2, 2)}, "strides must be one positive integer or 2 of them"),
        ({"strides": 0}, "strides must be one positive integer or 2 of them, got 0"),
        ({"kernel_size": 2}, "kernel_size must be odd on every axis"),
        ({"gate_options": {"normalization": "none"}}, "normalization must be one of sigmoid"),
    ],
    ids=lambda value: value if isinstance(value, str) else str(value),
)
def test_bad_arguments_are_refused(kwargs: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AttentionGatedUNet(**{"spatial_dims": 2, "in_channels": 1, "out_channels": 2, **kwargs})


@pytest.mark.parametrize("make_copy", [copy.deepcopy, lambda n: pickle.loads(pickle.dumps(n))], ids=["copy", "pickle"])
def test_a_copy_computes_the_same(make_copy: Any) -> None:
    network = small().eval()
    x = image(9, 12)
    assert torch.equal(make_copy(network)(x), network(x))


def test_converting_to_synchronized_batch_norm_keeps_the_result() -> None:
    network = small().eval()
    converted = nn.SyncBatchNorm.convert_sync_batchnorm(copy.deepcopy(network))
    assert sum(isinstance(m, nn.SyncBatchNorm) for m in converted.modules()) == 13
    x = image(9, 12)
    torch.testing.assert_close(converted(x), network(x))


def test_the_names_in_a_checkpoint_stay() -> None:
    keys = set(AttentionGatedUNet(2, 1, 2, channels=CHANNELS, gating_channels=5).state_dict())
    assert keys >= {
        "encoder.0.conv1.conv.weight",
        "encoder.1.conv2.norm.running_var",
        "bottleneck.conv1.conv.bias",
        "gating.conv.weight",
        "gating.norm.weight",
        "decoder.level1.gate.gates.0.theta.weight",
        "decoder.level1.gate.gates.1.phi.bias",
        "decoder.level1.gate.gates.1.psi.bias",
        "decoder.level1.gate.gates.1.W.conv.weight",
        "decoder.level1.gate.gates.1.W.norm.running_mean",
        "decoder.level1.gate.fuse.conv.weight",
        "decoder.level1.up.conv1.conv.weight",
        "decoder.level1.head.weight",
        "decoder.level0.up.conv2.norm.bias",
        "decoder.level0.head.bias",
        "fuse.weight",
    }
    assert len(keys) == 114


@DIMS
@TRAINING
def test_half_precision_and_autocast_work(dims: int, training: bool) -> None:
    network = small(dims).float().train(training)
    x = image(*[16] * dims).float()
    exact = copy.deepcopy(network)(x)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = copy.deepcopy(network)(x)
    half = copy.deepcopy(network).bfloat16()(x.bfloat16())
    assert half.dtype == mixed.dtype == torch.bfloat16
    assert relative_error(mixed.float(), exact) < 0.1
    assert relative_error(half.float(), exact) < 0.1
