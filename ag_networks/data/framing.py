"""Whether the pictures of a set show the same thing at the same place, which one weight map for all of them needs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike

from ag_networks.data.cases import CaseError

__all__ = ["Framing", "check_framing"]

CELLS = 16  # rows and columns of what is compared
NOTHING_IN_COMMON = 0.2
LITTLE_IN_COMMON = 0.5
STANDS_OUT = 0.5  # of the median likeness
OTHER_ASPECT = 1.2  # times the median or less than its inverse
STRETCHED = 1.5
MANY = 0.25
FEWEST = 5  # pictures that a refusal needs
SHOWN = 5


@dataclass(frozen=True)
class Framing:
    """How alike the pictures of a set are framed.

    Args:
        names: the pictures.
        likeness: of each, the correlation with the mean of the others (coarse, gray), in [-1, 1].
        aspects: height by width of each before it was resized; empty if unknown.
        warnings: one line per doubt.
    """

    names: tuple[str, ...]
    likeness: tuple[float, ...]
    aspects: tuple[float, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def median(self) -> float:
        """Median likeness."""
        return float(np.median(self.likeness))

    def __str__(self) -> str:
        count = (
            f"{len(self.names)} pictures, each like the mean of the others by {self.median:.2f} (median correlation)"
        )
        lowest = f", {min(self.likeness):.2f} the least"
        aspects = f"; height by width {min(self.aspects):.2f} to {max(self.aspects):.2f}" if self.aspects else ""
        return count + lowest + aspects


def check_framing(
    pictures: Iterable[tuple[str, ArrayLike]], *, sizes: Sequence[Sequence[int]] | None = None
) -> Framing:
    """Measure how alike the pictures of a set are framed; warn of those that stand out, refuse what has no structure.

    A set is structured where all its pictures record the same object, so that a pixel means the same in each (Xu et
    al., Definition 1). Each picture, gray and averaged to 16 x 16, is correlated with the mean of the others. Medians,
    and 5 % quantiles, that were measured: fundus photographs of IDRiD, cropped and mirrored, 0.96 (0.86), not mirrored
    0.93 (0.79), not cropped 0.97 (0.89); CT slices at the pancreas 0.48; ultrasound frames of any fetal plane 0.29;
    parts of fundus photographs, cut out anywhere, 0.14; noise 0. Ultrasound frames among fundus photographs have 0.5 at
    most. What is below half of the median stands out; a median below 0.2 is refused, below 0.5 warned of. Mirrored
    or slightly turned pictures are not found, as the mean of a set changes little by them.

    Args:
        pictures: name and array (C, H, W) of each, as the network gets them.
        sizes: (H, W) of each in the same order, before they were resized; an aspect other than the median's by more
            than 20 % is warned of, and refused where a quarter of the pictures have another by more than 50 %.

    Raises:
        CaseError: one line, if the set is not structured, or has fewer than two pictures.
        ValueError: if there is not one size for each picture.

    Example:
        >>> shades = np.arange(64.0).reshape(1, 8, 8)
        >>> print(check_framing([("a", shades), ("b", 2 * shades), ("c", shades**1.5)]))
        3 pictures, each like the mean of the others by 1.00 (median correlation), 0.99 the least
    """
    named = [(name, _coarse(array)) for name, array in pictures]
    names = tuple(name for name, _ in named)
    if len(names) < 2:
        raise CaseError(f"{len(names)} pictures; expected a set of at least 2 that show the same object")
    if sizes is not None and len(sizes) != len(names):
        raise ValueError(f"expected a size for each of {len(names)} pictures, got {len(sizes)}.")
    likeness = _likeness(np.stack([coarse for _, coarse in named]))
    aspects = np.array([height / width for height, width in sizes or ()])
    framing = Framing(names, tuple(likeness.tolist()), tuple(aspects.tolist()))
    if len(names) >= FEWEST:
        _refuse(framing)
    return Framing(framing.names, framing.likeness, framing.aspects, tuple(_doubts(framing)))


def _coarse(array: ArrayLike) -> np.ndarray:
    gray = torch.as_tensor(np.asarray(array, dtype=np.float32)).mean(dim=0, keepdim=True)
    return np.asarray(torch.nn.functional.adaptive_avg_pool2d(gray, CELLS).numpy().ravel())


def _likeness(values: np.ndarray) -> np.ndarray:
    """Correlate each row with the mean of the other rows, all standardized; 0 where one is constant."""
    unit = _unit(values - values.mean(axis=1, keepdims=True))
    return np.asarray((unit * _unit(unit.sum(axis=0) - unit)).sum(axis=1))


def _unit(rows: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.divide(rows, length, out=np.zeros_like(rows), where=length > 1e-4)


def _off(framing: Framing, factor: float) -> list[int]:
    """The pictures whose aspect is further from the median than by `factor`."""
    if not framing.aspects:
        return []
    away = np.abs(np.log(np.array(framing.aspects) / np.median(framing.aspects)))
    return [int(index) for index in np.flatnonzero(away > np.log(factor))]


def _refuse(framing: Framing) -> None:
    expected = "expected a structured set: the same object, at the same place, in every picture"
    if framing.median < NOTHING_IN_COMMON:
        found = f"the {len(framing.names)} pictures have nothing in common (median correlation with the mean of the "
        raise CaseError(f"{found}others {framing.median:.2f}, at least {NOTHING_IN_COMMON} needed); {expected}")
    stretched = _off(framing, STRETCHED)
    if len(stretched) >= MANY * len(framing.names):
        found = f"{len(stretched)} of {len(framing.names)} pictures are framed differently (height by width "
        raise CaseError(f"{found}{min(framing.aspects):.2f} to {max(framing.aspects):.2f}); {expected}")


def _doubts(framing: Framing) -> list[str]:
    doubts = []
    if framing.median < LITTLE_IN_COMMON:
        doubts.append(
            "the pictures have little in common (median correlation with the mean of the others "
            f"{framing.median:.2f}): one map for all of them may be of no use"
        )
    order = np.argsort(framing.likeness)
    outside = [int(index) for index in order if framing.likeness[index] < STANDS_OUT * framing.median]
    if outside:
        listed = _listed([f"{framing.names[index]} ({framing.likeness[index]:.2f})" for index in outside])
        doubts.append(f"unlike the other pictures, whose median correlation is {framing.median:.2f}: {listed}")
    other = _off(framing, OTHER_ASPECT)
    if other:
        listed = _listed([f"{framing.names[index]} ({framing.aspects[index]:.2f})" for index in other])
        median = float(np.median(framing.aspects))
        doubts.append(f"of another aspect than the others, whose height by width is {median:.2f}: {listed}")
    return doubts


def _listed(texts: Sequence[str]) -> str:
    return ", ".join(texts[:SHOWN]) + (f" and {len(texts) - SHOWN} more" if len(texts) > SHOWN else "")
