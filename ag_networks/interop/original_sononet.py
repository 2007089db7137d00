"""SonoNet and AG-SonoNet of the original implementation, read into ours."""

import re
from collections.abc import Callable, Mapping
from typing import Any

import torch

from ag_networks.nets import AttentionGatedSonoNet, SonoNet

__all__ = ["build_attention_sononet", "build_sononet", "classification_normalization", "rename_sononet"]

State = Mapping[str, torch.Tensor]

# mode of the original classification gate -> normalization of the coefficients
CLASSIFICATION_MODES = {
    "concatenation_softmax": "softmax",
    "concatenation_sigmoid": "sigmoid",
    "concatenation_mean": "sum",
    "concatenation_mean_flow": "shifted_sum",
    "concatenation_range_normalise": "range",
}

_NAMES: list[tuple[str, str | Callable[[re.Match[str]], str]]] = [
    (r"^conv(\d)\.conv(\d)\.", lambda m: f"features.stages.{int(m[1]) - 1}.{int(m[2]) - 1}."),
    (r"^conv5_p\.cbr_unit\.", "adaptation.0."),
    (r"^conv6_p\.cb_unit\.", "adaptation.1."),
    (r"^((?:features|adaptation)\..*\.)0\.(?=\w+$)", r"\1conv."),
    (r"^((?:features|adaptation)\..*\.)1\.(?=\w+$)", r"\1norm."),
    (r"^compatibility_score(\d)\.", lambda m: f"gates.{int(m[1]) - 1}."),
    (r"^classifier(\d)\.", lambda m: f"classifiers.{int(m[1]) - 1}."),
    (r"^classifier\.", "joint."),
]


def build_sononet(config: dict[str, Any], state: State, align_corners: bool) -> SonoNet:
    """The network that the parameters of an original SonoNet fit; nothing in it is resampled."""
    return SonoNet(out_channels=state["conv6_p.cb_unit.0.weight"].shape[0], **_feature_arguments(state))


def build_attention_sononet(config: dict[str, Any], state: State, align_corners: bool) -> AttentionGatedSonoNet:
    """The network that the parameters of an original AG-SonoNet fit.

    They tell the aggregations apart, but ``mean`` from ``max``: for that the option ``aggregation`` is asked.
    """
    classifier = state["classifier1.weight" if "classifier1.weight" in state else "classifier.weight"]
    return AttentionGatedSonoNet(
        out_channels=classifier.shape[0],
        aggregation=_aggregation(config, state),
        inter_channels=state["compatibility_score1.theta.weight"].shape[0],
        normalization=classification_normalization(config),
        align_corners=align_corners,
        **_feature_arguments(state),
    )


def rename_sononet(key: str) -> str:
    """Our name of an original parameter."""
    for pattern, replacement in _NAMES:
        key = re.sub(pattern, replacement, key)
    return key


def classification_normalization(config: Mapping[str, Any]) -> str:
    """The normalization that the mode of a classification gate stands for.

    Raises:
        ValueError: for an unknown mode or none.
    """
    mode = config.get("mode") or config.get("nonlocal_mode")
    if mode not in CLASSIFICATION_MODES:
        known = ", ".join(CLASSIFICATION_MODES)
        raise ValueError(f"mode of a classification gate must be one of {known}, got {mode!r}.")
    return CLASSIFICATION_MODES[mode]


def _feature_arguments(state: State) -> dict[str, Any]:
    first = state["conv1.conv1.0.weight"]
    counts = [sum(bool(re.fullmatch(rf"conv{i}\.conv\d\.0\.weight", key)) for key in state) for i in range(1, 6)]
    return {
        "spatial_dims": first.dim() - 2,
        "in_channels": first.shape[1],
        "filters": first.shape[0],
        "convolutions": counts,
        "bias": "conv1.conv1.0.bias" in state,
    }


def _aggregation(config: Mapping[str, Any], state: State) -> str:
    if "classifier.weight" not in state:
        return "max" if config.get("aggregation") == "max" else "mean"
    if "classifier1.weight" not in state:
        return "concat"
    on_logits = state["classifier.weight"].shape[1] == 3 * state["classifier1.weight"].shape[0]
    return "fine_tune" if on_logits else "deep_supervision"
