"""Smoothing over time, best frames and segments, with frames missing."""

from __future__ import annotations

import numpy as np
import pytest

from ag_networks.metrics import find_best_frames, find_segments, smooth_frames

NAMES = ["brain", "femur", "other"]
GAP = [np.nan] * 3


def plain_mean(p: np.ndarray, window: int) -> np.ndarray:
    """Mean of the frames that are there, one frame at a time."""
    half, result = window // 2, np.full(p.shape, np.nan)
    for frame in range(len(p)):
        if not np.isnan(p[frame]).any():
            result[frame] = np.nanmean(p[max(frame - half, 0) : frame + half + 1], axis=0)
    return result


@pytest.mark.parametrize("window", [1, 3, 7, 51])
@pytest.mark.parametrize("missing", [[], [0], [5, 6, 7], [19], list(range(1, 20))], ids=str)
def test_smoothing_is_the_mean_of_the_frames_that_are_there(window: int, missing: list[int]) -> None:
    p = np.random.default_rng(0).dirichlet([1, 1, 1], 20)
    p[missing] = np.nan
    smoothed = smooth_frames(p, window=window)
    np.testing.assert_allclose(smoothed, plain_mean(p, window), atol=1e-12)
    there = np.setdiff1d(np.arange(20), missing)
    np.testing.assert_allclose(smoothed[there].sum(axis=1), 1)


@pytest.mark.parametrize("window", [0, 2, -1])
def test_a_window_must_have_a_middle(window: int) -> None:
    with pytest.raises(ValueError, match="odd number"):
        smooth_frames([[1.0, 0.0]], window=window)


def test_half_a_frame_is_no_frame() -> None:
    with pytest.raises(ValueError, match="frame 1: only some"):
        smooth_frames([[1.0, 0.0], [np.nan, 1.0]])
    with pytest.raises(ValueError, match=r"\(frames, classes\)"):
        smooth_frames([1.0, 0.0])


def test_best_frames_keep_their_place_beside_a_gap() -> None:
    p = np.array([[0.9, 0.1, 0], [0.6, 0.4, 0], GAP, [0.1, 0.8, 0.1], [0.1, 0.7, 0.2]])
    best = find_best_frames(p, NAMES)
    assert {name: found.frame for name, found in best.items()} == {"brain": 0, "femur": 3}
    assert best["femur"].probability == 0.8


def test_a_class_is_shown_if_it_wins_or_reaches_the_threshold() -> None:
    p = np.array([[0.6, 0.4, 0.0], [0.55, 0.1, 0.35]])
    assert set(find_best_frames(p, NAMES)) == {"brain"}
    assert set(find_best_frames(p, NAMES, threshold=0.4)) == {"brain", "femur"}
    assert set(find_best_frames([[0.4, 0.3, 0.3]], NAMES, threshold=0.9)) == {"brain"}
    assert find_best_frames(p, NAMES, left_out=["brain"]) == {}
    with pytest.raises(ValueError, match="no class heart"):
        find_best_frames(p, NAMES, left_out=["heart"])


def test_of_equal_frames_the_better_one_by_itself_counts() -> None:
    smoothed = np.array([[0.7, 0.3, 0], [0.7 + 1e-16, 0.3, 0], [0.7, 0.3, 0]])
    single = np.array([[0.6, 0.4, 0], [0.7, 0.3, 0], [0.8, 0.2, 0]])
    found = find_best_frames(smoothed, NAMES, probabilities=single)["brain"]
    assert (found.frame, found.single_probability) == (2, 0.8)
    assert find_best_frames(np.full((3, 3), 1 / 3), NAMES)["brain"].frame == 0


def test_a_clip_without_a_readable_frame_shows_nothing() -> None:
    assert find_best_frames([GAP, GAP], NAMES) == {}
    assert find_segments([GAP, GAP], NAMES) == []


def test_segments_are_runs_that_a_gap_ends() -> None:
    p = [[0.9, 0.1, 0], [0.7, 0.3, 0], GAP, [0.8, 0.2, 0], [0.1, 0.9, 0]]
    segments = [(s.class_name, s.first, s.last, round(s.probability, 6)) for s in find_segments(p, NAMES)]
    assert segments == [("brain", 0, 1, 0.8), ("brain", 3, 3, 0.8), ("femur", 4, 4, 0.9)]


def test_shapes_must_fit_the_classes() -> None:
    with pytest.raises(ValueError, match=r"\(frames, 3\)"):
        find_segments([[0.5, 0.5]], NAMES)
    with pytest.raises(ValueError, match="shape of the smoothed"):
        find_best_frames([[1, 0, 0]], NAMES, probabilities=[[1, 0, 0], [1, 0, 0]])
