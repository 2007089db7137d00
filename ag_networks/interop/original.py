"""Checkpoints of the original implementation, read into our blocks and networks."""

import re
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from ag_networks.blocks import AttentionGate, ConvBlock, GatingSignal, MultiAttentionGate, UpBlock
from ag_networks.interop.original_sononet import (
    build_attention_sononet,
    build_sononet,
    classification_normalization,
    rename_sononet,
)
from ag_networks.nets import AttentionGatedUNet

__all__ = ["from_original", "rename_keys"]

State = Mapping[str, torch.Tensor]

# mode of the original code -> sigma_1, sigma_2; "residual" has no residual and "debug" nothing to debug
SEGMENTATION_MODES: dict[str, tuple[type[nn.Module], str]] = {
    "concatenation": (nn.ReLU, "sigmoid"),
    "concatenation_debug": (nn.Softplus, "sigmoid"),  # which MONAI's factory of activations lacks
    "concatenation_residual": (nn.ReLU, "softmax"),
}

_GATE = [(r"^W\.0\.", "W.conv."), (r"^W\.1\.", "W.norm."), (r"^W\.(?=weight|bias)", "W.conv.")]
_CONVS = [(r"^(conv\d)\.0\.", r"\1.conv."), (r"^(conv\d)\.1\.", r"\1.norm.")]
_MULTI = [(r"^combine_gates\.0\.", "fuse.conv."), (r"^combine_gates\.1\.", "fuse.norm.")]


def from_original(config: Mapping[str, Any], state_dict: State, *, align_corners: bool = False) -> nn.Module:
    """Build our block or network from a checkpoint of the original implementation (Attention-Gated-Networks).

    The parameters say what they belong to; ``config`` is asked only for what they do not show: the gates' mode
    (``mode`` or ``nonlocal_mode``), ``nonlinearity1`` of the classification gate, ``scale_factor`` of a deep
    supervision head, and whether AG-SonoNet predicts by the mean or the ``max`` (``aggregation``). A ``module.``
    prefix (DataParallel) is dropped.

    Args:
        config: the options of the original module or network.
        state_dict: its parameters and buffers.
        align_corners: what linear up-sampling meant when the checkpoint was trained: True up to PyTorch 0.3.1, for
            which the code was written, False since.

    Returns:
        the module in evaluation mode, with the same inputs and outputs: gates ``(x, g) -> (features, coefficients)``
        (a multi-gate block: all coefficients, as channels), up-sampling blocks ``(skip, coarse) -> features``, others
        ``x -> y``. A network returns logits; AG-SonoNet returns one tensor of scores, see its ``aggregation``, where
        the original returns a list of logits.

    Raises:
        ValueError: if the keys belong to no known module, or the mode is unknown.
    """
    state = {key.removeprefix("module."): value for key, value in state_dict.items()}
    for is_kind, build, rename in _KINDS:
        if is_kind(state):
            try:
                module = build(dict(config), state, align_corners)
            except KeyError as error:
                raise ValueError(f"the parameter {error} is missing.") from error
            _set_activation(module, config)
            try:
                module.load_state_dict({rename(key): value for key, value in state.items()})
            except RuntimeError as error:
                reason = " ".join(str(error).split())[:300]
                raise ValueError(f"these parameters fit no module that the papers describe: {reason}") from error
            return module.eval()
    shown = ", ".join(sorted(state)[:4]) or "none"
    raise ValueError(f"no module of the original implementation has these parameters: {shown}, ...")


def rename_keys(state_dict: State) -> dict[str, str]:
    """Map every key of an original checkpoint to the key of the module that :func:`from_original` builds."""
    state = {key.removeprefix("module."): value for key, value in state_dict.items()}
    rename = next(rename for is_kind, _, rename in _KINDS if is_kind(state))
    return {key: rename(key.removeprefix("module.")) for key in state_dict}


def _substitute(key: str, rules: list[tuple[str, str]]) -> str:
    for pattern, replacement in rules:
        key = re.sub(pattern, replacement, key)
    return key


def _rename_gate(key: str) -> str:
    return _substitute(key, _GATE)


def _rename_multi(key: str) -> str:
    number = re.match(r"gate_block_(\d+)\.", key)
    if number:
        return f"gates.{int(number[1]) - 1}." + _rename_gate(key[number.end() :])
    return _substitute(key, _MULTI)


def _rename_convs(key: str) -> str:
    return _substitute(key, _CONVS)


def _rename_gating(key: str) -> str:
    return _substitute(key, [(r"^conv1\.0\.", "conv."), (r"^conv1\.1\.", "norm.")])


def _rename_up(key: str) -> str:
    return _rename_convs(key.removeprefix("conv."))


def _rename_head(key: str) -> str:
    return key.removeprefix("dsv.")


def _rename_network(key: str, fused: bool) -> str:
    part, rest = key.split(".", 1)
    level = int(part[-1]) - 1 if part[-1].isdigit() else None
    name = part.rstrip("0123456789")
    if name == "conv":
        return f"encoder.{level}." + _rename_convs(rest)
    if name == "center":
        return "bottleneck." + _rename_convs(rest)
    if name == "gating":
        return "gating." + _rename_gating(rest)
    if name == "attentionblock":
        multi = rest.startswith(("gate_block", "combine_gates"))
        return f"decoder.level{level}.gate." + (_rename_multi(rest) if multi else _rename_gate(rest))
    if name == "up_concat":
        return f"decoder.level{level}.up." + _rename_up(rest)
    if name == "dsv":
        return f"decoder.level{level}.head." + rest.removeprefix("dsv.0.")
    if name != "final":
        raise ValueError(f"{key} belongs to no part of the U-Nets that the papers describe.")
    return ("fuse." if fused else "decoder.level0.head.") + rest


def _spatial(weight: torch.Tensor) -> tuple[int, ...]:
    return tuple(weight.shape[2:])


def _mode(config: Mapping[str, Any]) -> str | None:
    return config.get("mode") or config.get("nonlocal_mode")


def _set_activation(module: nn.Module, config: Mapping[str, Any]) -> None:
    """Give every segmentation gate the activation of its mode."""
    activation, _ = SEGMENTATION_MODES.get(_mode(config) or "", (nn.ReLU, ""))
    if activation is not nn.ReLU:
        for gate in module.modules():
            if isinstance(gate, AttentionGate):
                gate.act = activation()


def _gate_arguments(config: dict[str, Any], state: State, prefix: str = "") -> dict[str, Any]:
    """Constructor arguments of a segmentation gate, from its parameters."""
    mode = _mode(config) or "concatenation"
    if mode not in SEGMENTATION_MODES:
        raise ValueError(f"mode of a segmentation gate must be one of {', '.join(SEGMENTATION_MODES)}, got {mode!r}.")
    theta = state[prefix + "theta.weight"]
    return {
        "inter_channels": theta.shape[0],
        "sub_sample_factor": _spatial(theta),
        "normalization": SEGMENTATION_MODES[mode][1],
        "norm": "batch",
    }


def _build_gate(config: dict[str, Any], state: State, align_corners: bool) -> nn.Module:
    if "phi.bias" not in state:
        return _build_classification_gate(config, state, align_corners)
    theta, phi = state["theta.weight"], state["phi.weight"]
    arguments = _gate_arguments(config, state)
    return AttentionGate(theta.dim() - 2, theta.shape[1], phi.shape[1], align_corners=align_corners, **arguments)


def _build_classification_gate(config: dict[str, Any], state: State, align_corners: bool) -> nn.Module:
    """The gate of AG-SonoNet: `phi` strided and without bias, each of its four maps optional."""
    normalization = classification_normalization(config)
    maps = {name: state.get(f"{name}.weight") for name in ("theta", "phi", "psi")}
    output = state.get("W.0.weight", state.get("W.weight"))
    known_map = next(w for w in (*maps.values(), output) if w is not None)
    dims = known_map.dim() - 2
    theta, phi = maps["theta"], maps["phi"]
    inter = next((w.shape[0] for w in (theta, phi) if w is not None), known_map.shape[1])
    channels = theta.shape[1] if theta is not None else (output.shape[1] if output is not None else inter)
    gate = AttentionGate(
        dims,
        channels,
        phi.shape[1] if phi is not None else inter,
        inter,
        sub_sample_factor=_spatial(theta) if theta is not None else 1,
        act="relu" if config.get("nonlinearity1", "relu") else None,
        normalization=normalization,
        output=None if output is None else ("conv_norm" if "W.1.weight" in state else "conv"),
        gating_bias=False,
        align_corners=align_corners,
    )
    for name, weight in maps.items():
        if weight is None:
            setattr(gate, name, nn.Identity())
    if phi is not None and max(_spatial(phi)) > 1:
        gate.phi = type(gate.phi)(phi.shape[1], inter, _spatial(phi), stride=_spatial(phi), bias=False)
    return gate


def _build_multi(config: dict[str, Any], state: State, align_corners: bool) -> nn.Module:
    first = "gate_block_1."
    theta, phi = state[first + "theta.weight"], state[first + "phi.weight"]
    count = sum(key.endswith(".theta.weight") for key in state)
    arguments = _gate_arguments(config, state, first)
    return MultiAttentionGate(
        theta.dim() - 2, theta.shape[1], phi.shape[1], num_gates=count, align_corners=align_corners, **arguments
    )


def _norm(state: State, prefix: str) -> str | None:
    return "batch" if f"{prefix}1.weight" in state else None


def _build_convs(config: dict[str, Any], state: State, align_corners: bool) -> nn.Module:
    weight = state["conv1.0.weight"]
    return ConvBlock(
        weight.dim() - 2, weight.shape[1], weight.shape[0], kernel_size=_spatial(weight), norm=_norm(state, "conv1.")
    )


def _build_gating(config: dict[str, Any], state: State, align_corners: bool) -> nn.Module:
    weight = state["conv1.0.weight"]
    return GatingSignal(weight.dim() - 2, weight.shape[1], weight.shape[0], norm=_norm(state, "conv1."))


def _build_up(config: dict[str, Any], state: State, align_corners: bool) -> nn.Module:
    weight = state["conv.conv1.0.weight"]
    out_channels = weight.shape[0]
    kernel, dims = _spatial(weight), weight.dim() - 2
    # the skip of an original U-Net has as many channels as the block's output
    up = UpBlock(
        dims,
        out_channels,
        weight.shape[1] - out_channels,
        out_channels,
        kernel_size=kernel,
        norm=_norm(state, "conv.conv1."),
        align_corners=align_corners,
    )
    return up


def _build_head(config: dict[str, Any], state: State, align_corners: bool) -> nn.Module:
    weight = state["dsv.0.weight"]
    dims = weight.dim() - 2
    if "scale_factor" not in config:
        raise ValueError("the configuration of a deep supervision head must give its 'scale_factor'.")
    scale = config["scale_factor"]
    conv = (nn.Conv2d, nn.Conv3d)[dims - 2](weight.shape[1], weight.shape[0], 1)
    mode = "trilinear" if dims == 3 else "bilinear"
    return nn.Sequential(conv, nn.Upsample(scale_factor=scale, mode=mode, align_corners=align_corners))


def _build_network(config: dict[str, Any], state: State, align_corners: bool) -> nn.Module:
    levels = sum(bool(re.fullmatch(r"conv\d\.conv1\.0\.weight", key)) for key in state)
    first, center = state["conv1.conv1.0.weight"], state["center.conv1.0.weight"]
    kernel = _spatial(first)
    multi = "attentionblock2.gate_block_1.theta.weight" in state
    gated = multi or "attentionblock2.theta.weight" in state
    options: dict[str, Any] = {}
    if gated:
        prefix = "attentionblock2.gate_block_1." if multi else "attentionblock2."
        gates = sum(bool(re.fullmatch(r"attentionblock2\.(gate_block_\d\.)?theta\.weight", key)) for key in state)
        options = {
            "gating_channels": state["gating.conv1.0.weight"].shape[0],
            "gating_source": "decoder" if multi else "bottleneck",
            "fuse_gates": multi,
            "gate_options": _gate_options(config, state, prefix),
        }
    fused = "dsv1.weight" in state
    return AttentionGatedUNet(
        len(kernel),
        first.shape[1],
        state["final.weight"].shape[0],
        channels=[*(state[f"conv{i}.conv1.0.weight"].shape[0] for i in range(1, levels + 1)), center.shape[0]],
        kernel_size=kernel,
        strides=tuple(2 if k > 1 else 1 for k in kernel),  # the original pools where it convolves
        gates=gates if gated else 0,
        deep_supervision="fused" if fused else None,
        norm=_norm(state, "conv1.conv1."),
        align_corners=align_corners,
        **options,
    )


def _gate_options(config: dict[str, Any], state: State, prefix: str) -> dict[str, Any]:
    """Options of all gates of a network: theirs is as many inter channels as the skip has, or a constant number."""
    options = _gate_arguments(config, state, prefix)
    theta = state[prefix + "theta.weight"]
    if theta.shape[0] == theta.shape[1]:
        del options["inter_channels"]
    return options


Kind = tuple[Callable[[State], bool], Callable[[dict[str, Any], State, bool], nn.Module], Callable[[str], str]]

_KINDS: list[Kind] = [
    (lambda s: "compatibility_score1.psi.weight" in s, build_attention_sononet, rename_sononet),
    (lambda s: "conv6_p.cb_unit.0.weight" in s, build_sononet, rename_sononet),
    (lambda s: "final.weight" in s and "dsv1.weight" in s, _build_network, lambda k: _rename_network(k, True)),
    (lambda s: "final.weight" in s, _build_network, lambda k: _rename_network(k, False)),
    (lambda s: "gate_block_1.theta.weight" in s, _build_multi, _rename_multi),
    (lambda s: "conv.conv1.0.weight" in s, _build_up, _rename_up),
    (lambda s: "conv2.0.weight" in s, _build_convs, _rename_convs),
    (lambda s: "conv1.0.weight" in s, _build_gating, _rename_gating),
    (lambda s: "dsv.0.weight" in s, _build_head, lambda k: k.replace("dsv.0.", "0.")),
    (lambda s: any(f"{n}.weight" in s for n in ("theta", "phi", "psi")), _build_gate, _rename_gate),
]
