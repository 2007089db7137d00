"""How well probabilities keep their promise: bins of equal width, and their expected calibration error."""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from monai.metrics import calibration_binning
from monai.utils import optional_import
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

__all__ = ["Reliability", "draw_reliability", "near_organ", "pool", "reliability"]

plt, _ = optional_import("matplotlib.pyplot")


class Reliability(NamedTuple):
    """By bin of the probability: number of voxels, sum of their probabilities, and how many are the organ."""

    count: NDArray[np.float64]
    promised: NDArray[np.float64]
    kept: NDArray[np.float64]

    @property
    def ece(self) -> float:
        """Expected calibration error: mean over voxels of the bin's |mean probability - share of organ| (Guo 2017)."""
        return float(np.abs(self.promised - self.kept).sum() / max(self.count.sum(), 1))

    @property
    def ace(self) -> float:
        """The same, where every bin that holds a voxel counts alike."""
        filled = self.count > 0
        return float((np.abs(self.promised - self.kept)[filled] / self.count[filled]).mean()) if filled.any() else 0.0


def reliability(probability: torch.Tensor, organ: torch.Tensor, bins: int = 10) -> Reliability:
    """Sort voxels, in any shape, into bins from 0 to 1; `organ` is what is true of them."""
    means, shares, count = calibration_binning(
        probability.flatten()[None, None].double(), organ.flatten()[None, None].double(), num_bins=bins
    )
    number = count[0, 0].double().numpy()
    promised, kept = (np.nan_to_num(values[0, 0].double().numpy()) * number for values in (means, shares))
    return Reliability(number, promised, kept)


def pool(parts: Iterable[Reliability]) -> Reliability:
    """Put the voxels of several cases together."""
    return Reliability(*(np.sum(columns, axis=0) for columns in zip(*parts, strict=True)))


def near_organ(organ: NDArray[np.bool_], spacing: tuple[float, ...], distance_mm: float) -> NDArray[np.bool_]:
    """Return the voxels within a distance of a mask: far from it, all probabilities are 0 and right."""
    if not organ.any():
        return np.zeros_like(organ)
    return np.asarray(distance_transform_edt(~organ, sampling=spacing) <= distance_mm)


def draw_reliability(curves: dict[str, Reliability], path: Path) -> None:
    """Save the reliability diagram: share of organ over mean probability, and below it the number of voxels."""
    figure, (top, bottom) = plt.subplots(2, 1, figsize=(5, 6), height_ratios=[3, 1], sharex=True, layout="constrained")
    top.plot([0, 1], [0, 1], color="0.6", linestyle="--", label="perfect")
    for name, curve in curves.items():
        filled = curve.count > 0
        count = curve.count[filled]
        top.plot(curve.promised[filled] / count, curve.kept[filled] / count, marker="o", label=name)
        edges = np.linspace(0, 1, len(curve.count) + 1)
        bottom.stairs(np.maximum(curve.count, 0.5), edges, label=name)
    top.set(ylabel="share of voxels that are pancreas", xlim=(0, 1), ylim=(0, 1))
    bottom.set(xlabel="predicted probability of pancreas", ylabel="voxels", yscale="log")
    top.legend()
    figure.savefig(path, dpi=120, metadata={"Software": None})
    plt.close(figure)
