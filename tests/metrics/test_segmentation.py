"""Segmentation scores against closed forms, a brute-force implementation and MONAI."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from monai.metrics import compute_average_surface_distance, compute_hausdorff_distance, compute_surface_dice
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, gaussian_filter

from ag_networks.metrics import CaseScores, score_case

Mask = NDArray[np.bool_]
ANISOTROPIC = (0.7, 1.3, 2.9)


def blob(shape: Sequence[int], seed: int) -> Mask:
    """Return a random smooth mask; it touches the border of the image."""
    noise = gaussian_filter(np.random.default_rng(seed).normal(size=shape), 1.5)
    return np.asarray(noise > np.quantile(noise, 0.8))


def ball(radius_mm: float, spacing: Sequence[float], shape: Sequence[int]) -> Mask:
    """Return a ball in the middle of the image."""
    offsets = [(np.arange(size) - size // 2) * step for size, step in zip(shape, spacing, strict=True)]
    return np.asarray(sum(axis**2 for axis in np.meshgrid(*offsets, indexing="ij")) <= radius_mm**2)


def brute_force_surface(mask: Mask, known: Mask | None) -> Mask:
    """Visit each voxel and its face neighbors; beyond the image is outside, or unknown if `known` is given."""
    surface = np.zeros_like(mask)
    for index in np.argwhere(mask):
        for step in [sign * row for row in np.eye(mask.ndim, dtype=int) for sign in (1, -1)]:
            near = tuple(index + step)
            inside = all(0 <= i < n for i, n in zip(near, mask.shape, strict=True))
            outside_mask = not mask[near] and (known is None or known[near]) if inside else known is None
            surface[tuple(index)] |= outside_mask
    return surface


def brute_force(
    first: Mask, second: Mask, spacing: Sequence[float], tolerance: float, known: Mask | None = None
) -> dict[str, float]:
    """Distance transforms of the whole image and the definitions, written again."""
    if known is not None:
        first, second = first & known, second & known
    surfaces = brute_force_surface(first, known), brute_force_surface(second, known)
    forward = distance_transform_edt(~surfaces[1], sampling=spacing)[surfaces[0]]
    backward = distance_transform_edt(~surfaces[0], sampling=spacing)[surfaces[1]]
    within = (forward <= tolerance).sum() + (backward <= tolerance).sum()
    return {
        "dsc": 2 * (first & second).sum() / (first.sum() + second.sum()),
        "precision": (first & second).sum() / first.sum(),
        "recall": (first & second).sum() / second.sum(),
        "s2s_mm": (forward.sum() + backward.sum()) / (forward.size + backward.size),
        "nsd": within / (forward.size + backward.size),
        "hd95_mm": max(np.quantile(forward, 0.95), np.quantile(backward, 0.95)),
    }


def assert_scores(scores: CaseScores, expected: dict[str, float]) -> None:
    got = {name: getattr(scores, name) for name in expected}
    assert got == pytest.approx(expected, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize(
    ("offset", "spacing", "distance"),
    [
        pytest.param((3, 4), (1.0, 1.0), 5.0, id="2D"),
        pytest.param((0, 0, 2), (1.0, 1.0, 3.0), 6.0, id="2 voxels at 3 mm"),
        pytest.param((1, 2, 2), (4.0, 1.0, 0.5), math.sqrt(16 + 4 + 1), id="oblique, anisotropic"),
    ],
)
def test_single_voxels_are_their_distance_apart(
    offset: tuple[int, ...], spacing: tuple[float, ...], distance: float
) -> None:
    reference = np.zeros((8,) * len(offset), bool)
    reference[(2,) * len(offset)] = True
    prediction = np.roll(reference, offset, axis=tuple(range(len(offset))))
    scores = score_case(prediction, reference, spacing=spacing, tolerance_mm=distance - 0.01)
    assert_scores(scores, {"dsc": 0, "precision": 0, "recall": 0, "s2s_mm": distance, "hd95_mm": distance, "nsd": 0})
    assert not scores.failed
    assert score_case(prediction, reference, spacing=spacing, tolerance_mm=distance).nsd == 1


def test_parallel_plates() -> None:
    prediction, reference = np.zeros((2, 9, 9, 9), bool)
    reference[:, :, 2] = prediction[:, :, 5] = True
    scores = score_case(prediction, reference, spacing=(0.5, 0.5, 2.5))
    assert (scores.s2s_mm, scores.hd95_mm, scores.nsd) == pytest.approx((7.5, 7.5, 0))
    assert scores.reference_ml == pytest.approx(81 * 0.5 * 0.5 * 2.5 / 1000)


def test_shifted_cubes_have_the_overlap_of_their_sides() -> None:
    reference = np.zeros((12, 12, 12), bool)
    reference[2:7, 2:7, 2:7] = True
    prediction = np.zeros_like(reference)
    prediction[4:9, 2:7, 2:5] = True
    scores = score_case(prediction, reference, spacing=ANISOTROPIC)
    assert_scores(scores, {"dsc": 2 * 45 / (75 + 125), "precision": 45 / 75, "recall": 45 / 125})
    volume = math.prod(ANISOTROPIC) / 1000
    assert (scores.prediction_ml, scores.reference_ml) == pytest.approx((75 * volume, 125 * volume))


def test_concentric_balls_are_their_radii_apart() -> None:
    spacing, shape = (0.5, 0.5, 1.0), (61, 61, 33)
    small, large = ball(8, spacing, shape), ball(12, spacing, shape)
    scores = score_case(small, large, spacing=spacing)
    # A surface voxel's center lies up to about half a voxel inside the true surface.
    assert scores.s2s_mm == pytest.approx(4, abs=0.3)
    assert scores.hd95_mm == pytest.approx(4, abs=0.6)
    assert scores.prediction_ml == pytest.approx(4 / 3 * math.pi * 0.8**3, rel=0.02)
    assert scores.recall == pytest.approx((8 / 12) ** 3, rel=0.02)
    assert scores.precision == 1


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("shape", "spacing"),
    [((14, 12, 9), ANISOTROPIC), ((14, 12, 9), (2.0, 2.0, 2.0)), ((24, 17), (0.4, 1.6)), ((1, 16, 12), ANISOTROPIC)],
    ids=["anisotropic", "isotropic", "2D", "one slice"],
)
def test_agrees_with_brute_force(shape: tuple[int, ...], spacing: tuple[float, ...], seed: int) -> None:
    first, second = blob(shape, seed), blob(shape, seed + 100) | blob(shape, seed)
    scores = score_case(first, second, spacing=spacing, tolerance_mm=1.5)
    assert_scores(scores, brute_force(first, second, spacing, 1.5))


@pytest.mark.filterwarnings("ignore:.*always_return_as_numpy")  # MONAI calls its own deprecated argument
@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), ANISOTROPIC], ids=["1 mm", "anisotropic"])
def test_agrees_with_monai_given_the_spacing(spacing: tuple[float, float, float]) -> None:
    first, second = ball(5, spacing, (24, 20, 14)), np.roll(ball(6, spacing, (24, 20, 14)), (2, 1, 1), (0, 1, 2))
    tensors = [torch.as_tensor(mask)[None, None].float() for mask in (first, second)]
    scores = score_case(first, second, spacing=spacing)
    assert_scores(
        scores,
        {
            "s2s_mm": compute_average_surface_distance(
                *tensors, include_background=True, symmetric=True, spacing=spacing
            ).item(),
            "hd95_mm": compute_hausdorff_distance(
                *tensors, include_background=True, percentile=95, spacing=spacing
            ).item(),
            "nsd": compute_surface_dice(
                *tensors, class_thresholds=[2.0], include_background=True, spacing=spacing
            ).item(),
        },
    )


def test_exchanging_the_masks_exchanges_precision_and_recall_only() -> None:
    first, second = blob((12, 12, 12), 1), blob((12, 12, 12), 2)
    there, back = score_case(first, second, spacing=ANISOTROPIC), score_case(second, first, spacing=ANISOTROPIC)
    swapped = replace(
        back,
        precision=back.recall,
        recall=back.precision,
        prediction_ml=back.reference_ml,
        reference_ml=back.prediction_ml,
    )
    assert there.as_dict() == pytest.approx(swapped.as_dict())


def test_lengths_scale_with_the_spacing() -> None:
    first, second = blob((12, 12, 12), 3), blob((12, 12, 12), 4)
    one = score_case(first, second, spacing=(1, 1, 2), tolerance_mm=1.0)
    three = score_case(first, second, spacing=(3, 3, 6), tolerance_mm=3.0)
    assert (three.s2s_mm, three.hd95_mm) == pytest.approx((3 * one.s2s_mm, 3 * one.hd95_mm))
    assert three.prediction_ml == pytest.approx(27 * one.prediction_ml)
    assert (three.dsc, three.nsd) == pytest.approx((one.dsc, one.nsd))


def test_a_distance_of_exactly_the_tolerance_counts() -> None:
    reference = np.zeros((40, 3, 3), bool)
    reference[1, 1, 1] = True
    # Multiples of 0.1 are rounded in binary: 24 * 0.1 - 1 * 0.1 exceeds 2.3.
    scores = score_case(np.roll(reference, 23, axis=0), reference, spacing=(0.1, 1, 1), tolerance_mm=2.3)
    assert scores.nsd == 1


@pytest.mark.parametrize("which", ["prediction", "reference"])
@pytest.mark.parametrize(
    ("shape", "spacing", "diagonal"),
    [((10, 20, 5), (1.0, 2.0, 4.0), math.sqrt(100 + 1600 + 400)), ((30, 40), (0.5, 0.5), 25.0)],
    ids=["3D", "2D"],
)
def test_one_empty_mask_is_a_failure(
    which: str, shape: tuple[int, ...], spacing: tuple[float, ...], diagonal: float
) -> None:
    masks = {"prediction": np.ones(shape, bool), "reference": np.ones(shape, bool)}
    masks[which] = np.zeros(shape, bool)
    scores = score_case(**masks, spacing=spacing)
    worst = {"dsc": 0, "precision": 0, "recall": 0, "nsd": 0, "s2s_mm": diagonal, "hd95_mm": diagonal}
    assert_scores(scores, worst)
    assert scores.failed
    assert "empty" in scores.reason


def test_no_real_distance_reaches_that_of_a_failure() -> None:
    corner, other, nothing = np.zeros((3, 6, 7, 8), bool)
    corner[0, 0, 0] = other[-1, -1, -1] = True
    far = score_case(other, corner, spacing=ANISOTROPIC)
    assert far.s2s_mm < score_case(nothing, corner, spacing=ANISOTROPIC).s2s_mm


def test_two_empty_masks_are_right() -> None:
    scores = score_case(np.zeros((5, 5, 5)), np.zeros((5, 5, 5)), spacing=(1, 1, 1))
    best = {"dsc": 1, "precision": 1, "recall": 1, "nsd": 1, "s2s_mm": 0, "hd95_mm": 0, "prediction_ml": 0}
    assert_scores(scores, best)
    assert not scores.failed


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.float32])
def test_label_picks_the_class(dtype: type[np.generic]) -> None:
    labels = (blob((10, 10, 10), 5) + 2 * blob((10, 10, 10), 6)).astype(dtype)
    other = np.roll(labels, 1, axis=0)
    expected = score_case(other == 2, labels == 2, spacing=ANISOTROPIC)
    assert score_case(other, labels, spacing=ANISOTROPIC, label=2) == expected
    assert score_case(torch.as_tensor(other), torch.as_tensor(labels), spacing=ANISOTROPIC, label=2) == expected


def test_volumes_of_2d_cases_are_unknown() -> None:
    assert math.isnan(score_case(np.ones((4, 4)), np.ones((4, 4)), spacing=(1, 1)).prediction_ml)


@pytest.mark.parametrize("seed", range(3))
def test_sparse_reference_agrees_with_brute_force(seed: int) -> None:
    shape, known = (12, 11, 10), np.zeros((12, 11, 10), bool)
    known[:, 1:, [0, 3, 4, 8]] = True
    first, second = blob(shape, seed), blob(shape, seed + 50) | blob(shape, seed)
    scores = score_case(first, second, spacing=ANISOTROPIC, tolerance_mm=1.5, valid=known)
    assert_scores(scores, brute_force(first, second, ANISOTROPIC, 1.5, known))
    assert scores.prediction_ml == pytest.approx((first & known).sum() * math.prod(ANISOTROPIC) / 1000)


def test_unknown_voxels_take_no_part() -> None:
    shape, known = (12, 12, 12), np.zeros((12, 12, 12), bool)
    known[:, :, ::4] = True
    first, second, noise = (blob(shape, seed) for seed in (1, 2, 3))
    scores = score_case(first, second, spacing=ANISOTROPIC, valid=known)
    changed = score_case(
        np.where(known, first, noise), np.where(known, second, ~noise), spacing=ANISOTROPIC, valid=known
    )
    assert changed == scores


def test_far_slices_are_compared_by_their_contours() -> None:
    """Also a mask that covers all slices has its contours, not the faces towards unknown slices, as its surface."""
    first, second = np.zeros((2, 16, 16, 9), bool)
    first[4:10, 4:10], second[4:10, 6:12] = True, True
    known = np.zeros_like(first)
    known[:, :, [0, 5]] = True
    scores = score_case(first, second, spacing=(1.5, 0.5, 100.0), valid=known)
    plane = score_case(first[:, :, 0], second[:, :, 0], spacing=(1.5, 0.5))
    assert (scores.s2s_mm, scores.hd95_mm, scores.nsd) == pytest.approx((plane.s2s_mm, plane.hd95_mm, plane.nsd))
    assert scores.s2s_mm > 0


def test_a_prediction_that_fills_all_that_is_known_is_scored() -> None:
    reference, known = np.zeros((2, 8, 8, 8), bool)
    reference[2:4, 2:4, 2:4] = known[:, :, 3] = True
    scores = score_case(np.ones_like(reference), reference, spacing=(1, 1, 1), valid=known)
    assert (scores.recall, scores.precision) == (1, 4 / 64)
    assert scores.s2s_mm > 0


ONES = np.ones((4, 4, 4), bool)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param({"prediction": np.ones((4, 4, 5))}, r"shape \(4, 4, 5\).*shape \(4, 4, 4\)", id="shapes"),
        pytest.param({"prediction": ONES * 0.7}, "prediction.*argmax", id="probabilities"),
        pytest.param({"reference": np.full((4, 4, 4), np.nan)}, "reference.*NaN", id="NaN"),
        pytest.param({"prediction": ONES[None], "reference": ONES[None]}, "2D or 3D", id="channel dimension"),
        pytest.param({"spacing": (1, 1)}, "3 positive spacings", id="spacing of 2D"),
        pytest.param({"spacing": (1, 1, 0)}, "3 positive spacings", id="zero spacing"),
        pytest.param({"spacing": (1, 1, math.nan)}, "3 positive spacings", id="NaN spacing"),
        pytest.param({"tolerance_mm": -1}, "tolerance", id="negative tolerance"),
        pytest.param({"valid": np.zeros((4, 4, 4))}, "nothing to score", id="nothing known"),
        pytest.param({"valid": np.ones((4, 4))}, "valid mask has shape", id="shape of valid"),
    ],
)
def test_bad_input_is_refused(arguments: dict[str, object], message: str) -> None:
    fine: dict[str, object] = {"prediction": ONES, "reference": ONES, "spacing": (1, 1, 1)}
    with pytest.raises(ValueError, match=message):
        score_case(**{**fine, **arguments})  # type: ignore[arg-type]
