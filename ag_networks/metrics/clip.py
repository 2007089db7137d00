"""What a clip shows, from the probabilities of its frames."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import uniform_filter1d

__all__ = ["BestFrame", "Segment", "find_best_frames", "find_segments", "smooth_frames"]


@dataclass(frozen=True)
class BestFrame:
    """The frame of a clip that shows a class best.

    Args:
        class_name: the class.
        frame: number of the frame, from 0.
        probability: smoothed probability of the class there.
        single_probability: probability that the frame by itself was given.
    """

    class_name: str
    frame: int
    probability: float
    single_probability: float


@dataclass(frozen=True)
class Segment:
    """Consecutive frames with one prediction: the class, the first and the last frame, mean smoothed probability."""

    class_name: str
    first: int
    last: int
    probability: float


def smooth_frames(probabilities: ArrayLike, *, window: int = 5) -> NDArray[np.float64]:
    """Average the probabilities of every frame and its neighbors in time.

    The window is centered. At the ends of the clip and beside missing frames the mean is that of the frames that are
    there, so rows still sum to 1. A missing frame stays missing.

    Args:
        probabilities: (frames, classes); a row of ``nan`` is a frame that is missing.
        window: number of frames, odd; 1 changes nothing.

    Raises:
        ValueError: if the shape is wrong, the window is even or not positive, or a row is ``nan`` in part.

    Example:
        >>> smooth_frames([[1, 0], [0, 1], [1, 0]], window=3)[:, 0].round(2).tolist()
        [0.5, 0.67, 0.5]
    """
    p = np.asarray(probabilities, dtype=np.float64)
    if window < 1 or window % 2 == 0:
        raise ValueError(f"expected a window of an odd number of frames, got {window}")
    missing = _missing(p)
    if not len(p):
        return p
    present = np.where(missing, 0.0, 1.0)
    sums, counts = (
        uniform_filter1d(values, window, axis=0, mode="constant") for values in (np.where(missing, 0, p), present)
    )
    return np.where(missing, np.nan, sums / np.where(missing, 1, counts))


def find_best_frames(
    smoothed: ArrayLike,
    class_names: Sequence[str],
    *,
    probabilities: ArrayLike | None = None,
    threshold: float = 0.5,
    left_out: Collection[str] = (),
) -> dict[str, BestFrame]:
    """Find the frame with the highest smoothed probability of every class that the clip shows.

    A class is shown if it is the most probable one of any frame, or reaches the threshold in one. Of equal frames the
    one counts that by itself has the higher probability, then the first.

    Args:
        smoothed: (frames, classes) of :func:`smooth_frames`.
        class_names: name of every class.
        probabilities: (frames, classes) before smoothing.
        threshold: smoothed probability from which on a class is shown although another one wins.
        left_out: classes that no frame is searched for, such as the one that says "none of the others".

    Raises:
        ValueError: if shapes do not fit the classes, or a class that is left out does not exist.

    Example:
        >>> best = find_best_frames([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8]], ["brain", "femur"])
        >>> {name: frame.frame for name, frame in best.items()}
        {'brain': 0, 'femur': 2}
    """
    p = _checked(smoothed, class_names)
    single = p if probabilities is None else _checked(probabilities, class_names)
    if single.shape != p.shape:
        raise ValueError(f"expected probabilities of the shape of the smoothed ones, {p.shape}, got {single.shape}")
    if unknown := [name for name in left_out if name not in class_names]:
        raise ValueError(f"there is no class {', '.join(unknown)} to leave out")
    there = np.flatnonzero(~_missing(p)[:, 0])
    winners = set(p[there].argmax(axis=1).tolist())
    best = {}
    for index, name in enumerate(class_names):
        if name in left_out or not len(there):
            continue
        # Sums of the same numbers in another order differ by rounding.
        frame = max(there.tolist(), key=lambda frame: (round(p[frame, index], 9), single[frame, index]))
        if index in winners or p[frame, index] >= threshold:
            best[name] = BestFrame(name, frame, float(p[frame, index]), float(single[frame, index]))
    return best


def find_segments(smoothed: ArrayLike, class_names: Sequence[str]) -> list[Segment]:
    """Split a clip into runs of frames with one most probable class; a missing frame ends a run.

    Args:
        smoothed: (frames, classes) of :func:`smooth_frames`.
        class_names: name of every class.

    Raises:
        ValueError: if the shape does not fit the classes.

    Example:
        >>> segments = find_segments([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8]], ["brain", "femur"])
        >>> [(segment.class_name, segment.first, segment.last) for segment in segments]
        [('brain', 0, 1), ('femur', 2, 2)]
    """
    p = _checked(smoothed, class_names)
    winner = np.where(_missing(p)[:, 0], -1, np.nan_to_num(p, nan=-1).argmax(axis=1))
    segments = []
    for index, run in groupby(range(len(p)), key=lambda frame: int(winner[frame])):
        frames = list(run)
        if index >= 0:
            segments.append(Segment(class_names[index], frames[0], frames[-1], float(p[frames, index].mean())))
    return segments


def _checked(probabilities: ArrayLike, class_names: Sequence[str]) -> NDArray[np.float64]:
    p = np.asarray(probabilities, dtype=np.float64)
    if p.ndim != 2 or p.shape[1] != len(class_names):
        raise ValueError(f"expected probabilities of shape (frames, {len(class_names)}), got {p.shape}")
    return p


def _missing(p: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return whether a frame is missing, (frames, 1)."""
    if p.ndim != 2:
        raise ValueError(f"expected probabilities of shape (frames, classes), got {p.shape}")
    gaps = np.isnan(p)
    missing = gaps.all(axis=1, keepdims=True)
    if (gaps & ~missing).any():
        raise ValueError(f"frame {int((gaps & ~missing).any(axis=1).argmax())}: only some of its probabilities are nan")
    return np.asarray(missing)
