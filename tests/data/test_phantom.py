"""The phantom: same seed same bits, organs of human size where they belong, whatever the grid."""

import os
import subprocess
import sys
import time
import zlib

import numpy as np
import pytest

from ag_networks.data.phantom import Phantom, make_phantom

PANCREAS, SPLEEN, KIDNEYS, LIVER = 1, 2, 3, 4
COARSE = {"spacing": (5.0, 5.0, 5.0), "shape": (84, 68, 62)}
SEEDS = (0, 1, 2)


@pytest.fixture(scope="module")
def phantoms() -> dict[int, Phantom]:
    """Return whole abdomens on a coarse grid, by seed."""
    return {seed: make_phantom(seed, **COARSE) for seed in SEEDS}


@pytest.fixture(params=SEEDS)
def phantom(request: pytest.FixtureRequest, phantoms: dict[int, Phantom]) -> Phantom:
    """Return each of them in turn."""
    return phantoms[request.param]


def volume_ml(phantom: Phantom, organ: int) -> float:
    """Return an organ's volume."""
    return float((phantom.label == organ).sum() * np.prod(phantom.spacing) / 1000)


def places_mm(phantom: Phantom, organ: int) -> np.ndarray:
    """Return the RAS coordinates of an organ's voxels, shape (n, 3)."""
    return np.argwhere(phantom.label == organ) @ phantom.affine[:3, :3].T + phantom.affine[:3, 3]


def test_the_same_seed_gives_the_same_bits(phantoms: dict[int, Phantom]) -> None:
    again = make_phantom(2, **COARSE)
    np.testing.assert_array_equal(again.image, phantoms[2].image)
    np.testing.assert_array_equal(again.label, phantoms[2].label)
    np.testing.assert_array_equal(again.affine, phantoms[2].affine)


@pytest.mark.slow
@pytest.mark.parametrize("threads", ["1", "2"])
def test_another_process_gives_the_same_bits(threads: str, phantoms: dict[int, Phantom]) -> None:
    code = (
        "import zlib; from ag_networks.data.phantom import make_phantom;"
        f"print(zlib.crc32(make_phantom(2, **{COARSE}).image.tobytes()))"
    )
    environment = {**os.environ, "OMP_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads}
    printed = subprocess.check_output([sys.executable, "-c", code], env=environment, text=True)
    assert int(printed) == zlib.crc32(phantoms[2].image.tobytes())


def test_another_seed_gives_another_body(phantoms: dict[int, Phantom]) -> None:
    overlap = (phantoms[0].label == LIVER) & (phantoms[1].label == LIVER)
    assert overlap.sum() < 0.9 * min((phantoms[seed].label == LIVER).sum() for seed in (0, 1))


def test_types_and_grid(phantom: Phantom) -> None:
    assert phantom.image.dtype == np.int16
    assert phantom.label.dtype == np.uint8
    assert phantom.image.shape == phantom.label.shape == COARSE["shape"]
    assert phantom.spacing == COARSE["spacing"]
    np.testing.assert_array_equal(phantom.affine[:3, :3], np.diag(COARSE["spacing"]))
    np.testing.assert_array_equal(phantom.affine[3], [0, 0, 0, 1])


def test_the_labels_are_the_four_organs(phantom: Phantom) -> None:
    assert set(np.unique(phantom.label).tolist()) == {0, PANCREAS, SPLEEN, KIDNEYS, LIVER}


@pytest.mark.parametrize(
    ("organ", "low", "high"),
    [(PANCREAS, 38, 135), (SPLEEN, 60, 450), (KIDNEYS, 130, 550), (LIVER, 700, 2500)],
    ids=["pancreas", "spleen", "kidneys", "liver"],
)
def test_volumes_in_ml_are_human(organ: int, low: float, high: float, phantom: Phantom) -> None:
    assert low < volume_ml(phantom, organ) < high


def test_right_is_right_and_up_is_up(phantom: Phantom) -> None:
    """RAS: x grows to the patient's right, y to the front, z to the head."""
    centers = {organ: places_mm(phantom, organ).mean(axis=0) for organ in (PANCREAS, SPLEEN, KIDNEYS, LIVER)}
    assert centers[LIVER][0] > centers[PANCREAS][0] + 30 > centers[SPLEEN][0] + 60
    assert centers[LIVER][2] > centers[KIDNEYS][2]
    assert centers[SPLEEN][2] > centers[KIDNEYS][2]
    assert centers[PANCREAS][1] > centers[KIDNEYS][1] + 20
    top, bottom = phantom.image[:, :, -1], phantom.image[:, :, 0]
    lung = (top > -920) & (top < -750)
    assert lung.sum() > 2 * ((bottom > -920) & (bottom < -750)).sum()


def test_the_pancreas_reaches_from_the_right_of_the_spine_toward_the_spleen(phantom: Phantom) -> None:
    gland, kidneys, spleen = (places_mm(phantom, organ) for organ in (PANCREAS, KIDNEYS, SPLEEN))
    midline = (kidneys[:, 0].min() + kidneys[:, 0].max()) / 2
    assert gland[:, 0].max() > midline + 15
    assert gland[:, 0].min() < midline - 40
    tail = gland[gland[:, 0] < gland[:, 0].min() + 12]
    distance = np.linalg.norm(tail[:, None] - spleen[None, ::3], axis=-1).min()
    assert distance < 45


def test_tissues_look_like_tissues(phantom: Phantom) -> None:
    median = {organ: np.median(phantom.image[phantom.label == organ]) for organ in (PANCREAS, SPLEEN, KIDNEYS, LIVER)}
    assert 10 < median[PANCREAS] < 150
    assert 20 < median[SPLEEN] < 160
    assert 15 < median[KIDNEYS] < 240
    assert 10 < median[LIVER] < 150
    assert phantom.image.min() >= -1024
    assert phantom.image.max() > 200  # bone


def test_the_pancreas_is_not_found_by_intensity(phantom: Phantom) -> None:
    """Most voxels that look like the gland are something else."""
    low, high = np.percentile(phantom.image[phantom.label == PANCREAS], [25, 75])
    alike = (phantom.image >= low) & (phantom.image <= high)
    assert (alike & (phantom.label == 0)).sum() > 5 * (alike & (phantom.label == PANCREAS)).sum()


@pytest.mark.parametrize(
    ("spacing", "shape"),
    [((5.0, 5.0, 3.0), (84, 68, 104)), ((4.0, 4.0, 5.0), (105, 85, 62))],
    ids=["thin slices", "fine plane"],
)
def test_the_body_does_not_depend_on_the_spacing(
    spacing: tuple[float, float, float], shape: tuple[int, int, int], phantoms: dict[int, Phantom]
) -> None:
    other = make_phantom(1, spacing=spacing, shape=shape)
    for organ, tolerance in ((PANCREAS, 0.06), (SPLEEN, 0.04), (KIDNEYS, 0.04), (LIVER, 0.02)):
        assert volume_ml(other, organ) == pytest.approx(volume_ml(phantoms[1], organ), rel=tolerance)
        moved = places_mm(other, organ).mean(axis=0) - places_mm(phantoms[1], organ).mean(axis=0)
        assert np.abs(moved).max() < 2.0


def test_a_smaller_shape_is_a_crop_of_the_same_body(phantoms: dict[int, Phantom]) -> None:
    small = make_phantom(1, spacing=COARSE["spacing"], shape=(64, 48, 42))
    inner = tuple(slice(10, -10) for _ in range(3))
    np.testing.assert_array_equal(small.label, phantoms[1].label[inner])
    np.testing.assert_allclose(small.affine[:3, 3], phantoms[1].affine[:3, 3] + 50, atol=0.02)


def test_spacing_and_field_of_view_are_drawn_from_the_seed() -> None:
    drawn = [make_phantom(seed, shape=(6, 5, 4)).spacing for seed in range(5)]
    assert len(set(drawn)) == 5
    for x, y, z in drawn:
        assert 0.6 <= x == y <= 1.0
        assert 0.8 <= z <= 5.0
    views = [np.array(make_phantom(seed, spacing=(25.0, 25.0, 25.0)).image.shape[:2]) * 25 for seed in range(8)]
    assert np.ptp(views) > 75
    assert np.min(views) >= 150
    assert np.max(views) <= 450


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"seed": -1}, "seed must not be negative, got -1"),
        ({"seed": 0, "spacing": (1.0, 0.0, 1.0)}, r"spacing must be three positive numbers .* got \(1.0, 0.0, 1.0\)"),
        ({"seed": 0, "shape": (10, 10)}, r"shape must be three positive numbers .* got \(10, 10\)"),
    ],
    ids=["negative seed", "zero spacing", "two axes"],
)
def test_bad_arguments_are_named(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_phantom(**arguments)


@pytest.mark.slow
def test_a_training_volume_is_made_in_seconds() -> None:
    start = time.process_time()
    make_phantom(5, spacing=(2.0, 2.0, 2.0), shape=(160, 160, 120))
    assert time.process_time() - start < 5  # about 1.3 s on a free core
