"""Checkpoints of the original code, against its modules written again as functions of their parameters.

The functions restate the published formulas under the original parameter names, for sizes and options beyond those
of the stored references (test_original_references.py).
"""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from ag_networks.interop import from_original
from ag_networks.interop.original import rename_keys

State = dict[str, torch.Tensor]
Tensors = tuple[torch.Tensor, ...]
CORNERS = pytest.mark.parametrize("align_corners", [False, True], ids=["centers", "corners"])
C, CG = 5, 7
GRIDS = {2: ((9, 8), (4, 3)), 3: ((8, 7, 6), (4, 3, 2))}


# The original modules, as functions


def conv(s: State, name: str, x: torch.Tensor, **options: Any) -> torch.Tensor:
    weight = s[f"{name}.weight"]
    return (F.conv2d if weight.dim() == 4 else F.conv3d)(x, weight, s.get(f"{name}.bias"), **options)


def norm(s: State, name: str, x: torch.Tensor) -> torch.Tensor:
    if f"{name}.weight" not in s:
        return x
    names = ("running_mean", "running_var", "weight", "bias")
    mean, variance, weight, bias = (s[f"{name}.{n}"].view(-1, *[1] * (x.dim() - 2)) for n in names)
    return (x - mean) / (variance + 1e-5).sqrt() * weight + bias


def resize(x: torch.Tensor, size: Any, align_corners: bool) -> torch.Tensor:
    return F.interpolate(x, size, mode=("bilinear", "trilinear")[x.dim() - 4], align_corners=align_corners)


def normalized(mode: str, score: torch.Tensor) -> torch.Tensor:
    q = score.flatten(1)
    shifted = q - q.amin(1, keepdim=True)
    alpha = {
        "concatenation": q.sigmoid,
        "concatenation_debug": q.sigmoid,
        "concatenation_residual": lambda: q.softmax(1),
        "concatenation_softmax": lambda: q.softmax(1),
        "concatenation_sigmoid": q.sigmoid,
        "concatenation_mean": lambda: q / q.sum(1, keepdim=True),
        "concatenation_mean_flow": lambda: shifted / shifted.sum(1, keepdim=True),
        "concatenation_range_normalise": lambda: shifted / shifted.amax(1, keepdim=True),
    }[mode]()
    return alpha.view_as(score)


def gate(s: State, x: torch.Tensor, g: torch.Tensor, config: dict[str, Any], ac: bool, p: str = "") -> Tensors:
    """Both families of gates; a map that has no parameters is the identity."""

    def strided(name: str, y: torch.Tensor) -> torch.Tensor:
        weight = s.get(f"{p}{name}.weight")
        return y if weight is None else conv(s, p + name, y, stride=weight.shape[2:])

    mode = config.get("mode", config.get("nonlocal_mode", "concatenation"))
    local = strided("theta", x)
    f = local + resize(strided("phi", g), local.shape[2:], ac)
    if config.get("nonlinearity1", "relu"):
        f = F.softplus(f) if mode == "concatenation_debug" else F.relu(f)
    alpha = resize(normalized(mode, strided("psi", f)), x.shape[2:], ac)
    y = alpha * x
    if f"{p}W.0.weight" in s:
        y = norm(s, f"{p}W.1", conv(s, f"{p}W.0", y))
    elif f"{p}W.weight" in s:
        y = conv(s, f"{p}W", y)
    return y, alpha


def multi_gate(s: State, x: torch.Tensor, g: torch.Tensor, config: dict[str, Any], ac: bool, p: str = "") -> Tensors:
    parts = [f"{p}gate_block_{i}." for i in (1, 2) if f"{p}gate_block_{i}.theta.weight" in s]
    features, alphas = zip(*(gate(s, x, g, config, ac, part) for part in parts), strict=True)
    y = conv(s, f"{p}combine_gates.0", torch.cat(features, 1))
    return F.relu(norm(s, f"{p}combine_gates.1", y)), torch.cat(alphas, 1)


def convs(s: State, x: torch.Tensor, p: str = "") -> torch.Tensor:
    for name in (f"{p}conv1", f"{p}conv2"):
        if f"{name}.0.weight" in s:
            padding = [k // 2 for k in s[f"{name}.0.weight"].shape[2:]]
            x = F.relu(norm(s, f"{name}.1", conv(s, f"{name}.0", x, padding=padding)))
    return x


def up(s: State, skip: torch.Tensor, x: torch.Tensor, ac: bool, p: str = "") -> torch.Tensor:
    return convs(s, torch.cat([skip, resize(x, skip.shape[2:], ac)], 1), f"{p}conv.")


def unet(s: State, x: torch.Tensor, config: dict[str, Any], ac: bool) -> torch.Tensor:
    size = x.shape[2:]
    stride = [min(k, 2) for k in s["conv1.conv1.0.weight"].shape[2:]]
    skips = []
    for i in range(1, 5):
        skips.append(convs(s, x, f"conv{i}."))
        x = (F.max_pool2d if x.dim() == 4 else F.max_pool3d)(skips[-1], stride)
    x = convs(s, x, "center.")
    g = convs(s, x, "gating.") if "gating.conv1.0.weight" in s else x
    scores = []
    for i in (4, 3, 2, 1):
        skip, p = skips[i - 1], f"attentionblock{i}."
        if f"{p}combine_gates.0.weight" in s:
            skip = multi_gate(s, skip, g, config, ac, p)[0]
        elif f"{p}theta.weight" in s:
            skip = gate(s, skip, g, config, ac, p)[0]
        x = up(s, skip, x, ac, f"up_concat{i}.")
        if "attentionblock4.combine_gates.0.weight" in s:
            g = x
        if "dsv1.weight" in s:
            scores.insert(0, resize(conv(s, "dsv1" if i == 1 else f"dsv{i}.dsv.0", x), size, ac))
    return conv(s, "final", torch.cat(scores, 1) if scores else x)


# Their parameters: numbers of single precision, as in a checkpoint, to be computed with in double precision


def conv_state(name: str, out: int, inn: int, kernel: tuple[int, ...], bias: bool = True) -> State:
    weight = torch.randn(out, inn, *kernel)
    s = {f"{name}.weight": (weight * (2 / weight[0].numel()) ** 0.5).double()}
    return s | ({f"{name}.bias": torch.randn(out).double()} if bias else {})


def norm_state(name: str, n: int) -> State:
    values = {k: torch.randn(n).double() for k in ("weight", "bias", "running_mean")}
    values |= {"running_var": (torch.rand(n) + 0.5).double(), "num_batches_tracked": torch.tensor(3)}
    return {f"{name}.{k}": v for k, v in values.items()}


def layer_state(p: str, out: int, inn: int, kernel: tuple[int, ...], batch_norm: bool = True) -> State:
    return conv_state(f"{p}0", out, inn, kernel) | (norm_state(f"{p}1", out) if batch_norm else {})


def gate_state(c: int, cg: int, ci: int, factor: tuple[int, ...], p: str = "") -> State:
    """A segmentation gate."""
    one = (1,) * len(factor)
    s = layer_state(f"{p}W.", c, c, one) | conv_state(f"{p}theta", ci, c, factor, bias=False)
    return s | conv_state(f"{p}phi", ci, cg, one) | conv_state(f"{p}psi", 1, ci, one)


def classification_state(c: int, cg: int, ci: int, factor: tuple[int, ...], without: str, output: str) -> State:
    """A classification gate without some of its maps (their names in one string)."""
    one = (1,) * len(factor)
    s = conv_state("theta", ci, c, factor, bias=False) | conv_state("phi", ci, cg, factor, bias=False)
    s |= conv_state("psi", 1, ci, one)
    s |= {"none": {}, "conv": conv_state("W", c, c, one), "conv and norm": layer_state("W.", c, c, one)}[output]
    return {k: v for k, v in s.items() if k.partition(".")[0] not in without.split()}


def multi_state(c: int, cg: int, ci: int, factor: tuple[int, ...], count: int, p: str = "") -> State:
    s = layer_state(f"{p}combine_gates.", c, count * c, (1,) * len(factor))
    for i in range(count):
        s |= gate_state(c, cg, ci, factor, f"{p}gate_block_{i + 1}.")
    return s


def convs_state(p: str, out: int, inn: int, kernel: tuple[int, ...], bn: bool = True) -> State:
    return layer_state(f"{p}conv1.", out, inn, kernel, bn) | layer_state(f"{p}conv2.", out, out, kernel, bn)


def unet_state(kind: str, kernel: tuple[int, ...], in_channels: int = 1, classes: int = 3, bn: bool = True) -> State:
    """A U-Net: `plain`, `dsv`, `single` or `multi` (gate blocks with dsv), or `grid` (gates, one signal, no dsv)."""
    widths, one, factor = (3, 4, 5, 6, 7), (1,) * len(kernel), tuple(min(k, 2) for k in kernel)
    s: State = convs_state("center.", widths[4], widths[3], kernel, bn)
    if kind not in ("plain", "dsv"):
        cg = widths[3] if kind == "grid" else widths[4]
        s |= layer_state("gating.conv1.", cg, widths[4], one, bn)
    for i in range(1, 5):
        width, coarser, p = widths[i - 1], widths[i], f"attentionblock{i}."
        s |= convs_state(f"conv{i}.", width, widths[i - 2] if i > 1 else in_channels, kernel, bn)
        s |= convs_state(f"up_concat{i}.conv.", width, width + coarser, kernel, bn)
        if i > 1 and kind in ("single", "multi"):
            s |= multi_state(width, coarser, width, factor, 1 + (kind == "multi"), p)
        if i > 1 and kind == "grid":
            s |= gate_state(width, cg, width, factor, p)
        if kind not in ("plain", "grid"):
            s |= conv_state("dsv1" if i == 1 else f"dsv{i}.dsv.0", classes, width, one)
    return s | conv_state("final", classes, widths[0] if kind in ("plain", "grid") else 4 * classes, one)


def images(dims: int, dtype: torch.dtype = torch.float64) -> Tensors:
    return tuple(torch.randn(2, c, *grid, dtype=dtype) for c, grid in zip((C, CG), GRIDS[dims], strict=True))


def agrees(module: nn.Module, inputs: Tensors, expected: Any) -> None:
    assert not any(m.training for m in module.modules())
    torch.testing.assert_close(module.double()(*inputs), expected)


SEGMENTATION_GATES: dict[str, tuple[int, tuple[int, ...], dict[str, Any]]] = {
    "2d": (4, (2, 2), {"mode": "concatenation"}),
    "3d": (C, (2, 2, 2), {"mode": "concatenation"}),
    "mode left out": (3, (1, 1, 1), {}),
    "softplus": (3, (2, 2), {"mode": "concatenation_debug"}),
    "softmax": (3, (2, 1, 1), {"mode": "concatenation_residual"}),
    "mode of a network": (3, (2, 2, 1), {"nonlocal_mode": "concatenation_residual"}),
}


@CORNERS
@pytest.mark.parametrize(("inter", "factor", "config"), SEGMENTATION_GATES.values(), ids=SEGMENTATION_GATES)
def test_segmentation_gates(inter: int, factor: tuple[int, ...], config: dict[str, Any], align_corners: bool) -> None:
    s, inputs = gate_state(C, CG, inter, factor), images(len(factor))
    module = from_original(config, s, align_corners=align_corners)
    agrees(module, inputs, gate(s, *inputs, config, align_corners))


MODES = ("softmax", "sigmoid", "mean", "mean_flow", "range_normalise")
# name -> inter channels, gating channels, sub-sampling, absent maps, output, further options
CLASSIFICATION_GATES: dict[str, tuple[int, int, tuple[int, ...], str, str, dict[str, Any]]] = {
    "2d": (4, CG, (1, 1), "", "none", {}),
    "3d with output": (4, CG, (1, 1, 1), "", "conv and norm", {}),
    "output without norm": (4, CG, (1, 1), "", "conv", {}),
    "sub-sampled": (4, CG, (2, 2), "", "none", {}),
    "sub-sampled per axis": (4, CG, (2, 1, 2), "", "conv and norm", {}),
    "no nonlinearity": (4, CG, (1, 1), "", "none", {"nonlinearity1": None}),
    "no phi": (CG, CG, (2, 2), "phi", "none", {}),
    "no theta": (C, CG, (1, 1), "theta", "none", {}),
    "no psi": (1, CG, (1, 1), "psi", "none", {}),
    "psi alone": (C, C, (1, 1), "theta phi", "conv", {}),
}


@CORNERS
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("inter", "gating", "factor", "without", "output", "options"),
    CLASSIFICATION_GATES.values(),
    ids=CLASSIFICATION_GATES,
)
def test_classification_gates(
    inter: int,
    gating: int,
    factor: tuple[int, ...],
    without: str,
    output: str,
    options: dict[str, Any],
    mode: str,
    align_corners: bool,
) -> None:
    config = {"mode": f"concatenation_{mode}", **options}
    s = classification_state(C, gating, inter, factor, without, output)
    x, g = images(len(factor))
    inputs = (x, g[:, :gating])
    module = from_original(config, s, align_corners=align_corners)
    agrees(module, inputs, gate(s, *inputs, config, align_corners))


@CORNERS
@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("factor", [(2, 2), (2, 2, 2), (2, 2, 1)], ids=str)
@pytest.mark.parametrize("mode", ["concatenation", "concatenation_debug", "concatenation_residual"])
def test_multi_gate_blocks(count: int, factor: tuple[int, ...], mode: str, align_corners: bool) -> None:
    s, inputs = multi_state(C, CG, 4, factor, count), images(len(factor))
    config = {"nonlocal_mode": mode}
    module = from_original(config, s, align_corners=align_corners)
    agrees(module, inputs, multi_gate(s, *inputs, config, align_corners))


@pytest.mark.parametrize("kernel", [(3, 3), (3, 3, 3), (3, 3, 1)], ids=str)
@pytest.mark.parametrize("bn", [True, False], ids=["batch norm", "no norm"])
def test_convolution_blocks_gating_signals_and_up_blocks(kernel: tuple[int, ...], bn: bool) -> None:
    dims = len(kernel)
    x, g = images(dims)
    s = convs_state("", 4, C, kernel, bn)
    agrees(from_original({}, s), (x,), convs(s, x))
    s = layer_state("conv1.", 4, CG, (1,) * dims, bn)
    agrees(from_original({}, s), (g,), convs(s, g))
    s = convs_state("conv.", C, C + CG, kernel, bn)
    for align_corners in (False, True):
        module = from_original({}, s, align_corners=align_corners)
        agrees(module, (x, g), up(s, x, g, align_corners))


@CORNERS
@pytest.mark.parametrize("scale", [2, 8, (2, 2, 1)], ids=str)
def test_deep_supervision_heads(scale: Any, align_corners: bool) -> None:
    s, x = conv_state("dsv.0", 3, C, (1, 1, 1)), images(3)[0][..., :2]
    size = [n * k for n, k in zip(x.shape[2:], scale if isinstance(scale, tuple) else [scale] * 3, strict=True)]
    expected = resize(conv(s, "dsv.0", x), size, align_corners)
    agrees(from_original({"scale_factor": scale}, s, align_corners=align_corners), (x,), expected)


NETWORKS: dict[str, tuple[str, tuple[int, ...], dict[str, Any]]] = {
    "U-Net": ("plain", (3, 3, 1), {}),
    "U-Net with deep supervision": ("dsv", (3, 3, 3), {}),
    "one gate per skip": ("single", (3, 3, 3), {}),
    "two gates per skip": ("multi", (3, 3, 3), {}),
    "two gates per skip, softmax": ("multi", (3, 3, 3), {"nonlocal_mode": "concatenation_residual"}),
    "two gates per skip, softplus": ("multi", (3, 3, 3), {"nonlocal_mode": "concatenation_debug"}),
    "one gating signal for all": ("grid", (3, 3, 1), {}),
    "2d": ("multi", (3, 3), {}),
}


@CORNERS
@pytest.mark.parametrize("bn", [True, False], ids=["batch norm", "no norm"])
@pytest.mark.parametrize(("kind", "kernel", "config"), NETWORKS.values(), ids=NETWORKS)
def test_networks(kind: str, kernel: tuple[int, ...], config: dict[str, Any], bn: bool, align_corners: bool) -> None:
    s = unet_state(kind, kernel, in_channels=2, bn=bn)
    x = torch.randn(1, 2, *[16 if k > 1 else 3 for k in kernel], dtype=torch.float64)
    module = from_original(config, s, align_corners=align_corners)
    agrees(module, (x,), unet(s, x, config, align_corners))


@pytest.mark.parametrize(
    "make",
    [
        lambda: gate_state(C, CG, 4, (2, 2)),
        lambda: multi_state(C, CG, 4, (2, 2), 2),
        lambda: unet_state("multi", (3, 3)),
    ],
    ids=["gate", "multi-gate block", "network"],
)
def test_a_data_parallel_checkpoint_is_the_same(make: Callable[[], State]) -> None:
    s = make()
    prefixed = {f"module.{k}": v for k, v in s.items()}
    kept = copy.deepcopy(prefixed)
    expected, actual = (from_original({}, state).state_dict() for state in (s, prefixed))
    torch.testing.assert_close(dict(actual), dict(expected), rtol=0, atol=0)
    torch.testing.assert_close(prefixed, kept, rtol=0, atol=0)
    names = rename_keys(prefixed)
    assert set(names) == set(prefixed)
    assert set(names.values()) == set(actual)
    for theirs, ours in names.items():
        assert torch.equal(prefixed[theirs].to(actual[ours]), actual[ours])


def without(s: State, name: str) -> State:
    return {k: v for k, v in s.items() if k != name}


REFUSED: dict[str, tuple[dict[str, Any], Callable[[], State], str]] = {
    "nothing": ({}, dict, "no module of the original implementation has these parameters: none"),
    "another network": (
        {},
        lambda: {"layer1.weight": torch.zeros(1), "fc.bias": torch.zeros(1)},
        "no module of the original implementation has these parameters: fc.bias, layer1.weight",
    ),
    "mode of a segmentation gate": (
        {"mode": "dot_product"},
        lambda: gate_state(C, CG, 4, (2, 2)),
        "mode of a segmentation gate must be one of concatenation, .*, got 'dot_product'",
    ),
    "mode of a network": (
        {"nonlocal_mode": "concatenation_mean"},
        lambda: unet_state("multi", (3, 3)),
        "mode of a segmentation gate must be one of concatenation, .*, got 'concatenation_mean'",
    ),
    "mode of a classification gate": (
        {"mode": "concatenation"},
        lambda: classification_state(C, CG, 4, (1, 1), "", "none"),
        "mode of a classification gate must be one of concatenation_softmax, .*, got 'concatenation'",
    ),
    "a classification gate without a mode": (
        {},
        lambda: classification_state(C, CG, 4, (1, 1), "", "none"),
        "mode of a classification gate must be one of concatenation_softmax, .*, got None",
    ),
    "a head without a scale": ({}, lambda: conv_state("dsv.0", 3, C, (1, 1)), "must give its 'scale_factor'"),
    "a part too many": (
        {},
        lambda: unet_state("plain", (3, 3)) | conv_state("nonlocal2.g", 2, 3, (1, 1)),
        r"nonlocal2\.g",
    ),
    "a parameter too few": (
        {},
        lambda: without(unet_state("plain", (3, 3)), "center.conv2.0.bias"),
        r"conv2\.(0|conv)\.bias",
    ),
    "a gate without theta": ({}, lambda: without(gate_state(C, CG, 4, (2, 2)), "theta.weight"), r"theta\.weight"),
}


@pytest.mark.parametrize(("config", "make", "message"), REFUSED.values(), ids=REFUSED)
def test_what_is_not_understood_is_refused(config: dict[str, Any], make: Callable[[], State], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        from_original(config, make())
