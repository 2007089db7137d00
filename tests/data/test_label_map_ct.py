"""Volumes drawn from a small label map: anatomy, grey values, randomness."""

import numpy as np
import pytest

from ag_networks.data import make_ct_from_label_map

NAMES = {1: "liver", 2: "pancreas", 3: "lung_lower_lobe_left", 4: "vertebrae_L1", 5: "colon"}


def structures() -> np.ndarray:
    """A block of organs, 96 x 78 x 72 mm, with air of 40 mm or more around it."""
    made = np.zeros((48, 40, 32), np.uint8)
    made[8:40, 7:33, 4:28] = 1
    made[10:18, 10:20, 8:16], made[20:26, 10:20, 8:16], made[10:18, 22:30, 8:16] = 3, 4, 5
    made[28:36, 12:20, 10:20] = 2
    return np.pad(made, ((12, 12), (12, 12), (0, 0)))


def test_the_anatomy_is_that_of_the_map() -> None:
    volume = make_ct_from_label_map(structures(), NAMES, map_mm=3.0, seed=1)
    assert volume.image.shape == volume.label.shape
    assert volume.image.dtype == np.int16
    assert np.allclose(volume.affine, np.diag([2.0, 2.0, 2.0, 1.0]))
    ml = volume.label.sum() * 8 / 1000
    assert 8 * 8 * 10 * 27 / 1000 * 0.5 < ml < 8 * 8 * 10 * 27 / 1000 * 1.7
    x, y, z = np.argwhere(volume.label == 1).mean(axis=0) / volume.label.shape
    assert x > 0.5, "the target stays on its side"
    assert abs(y - 0.44) < 0.15
    assert 0 < z < 1


@pytest.mark.parametrize("seed", [0, 3])
def test_grey_values_are_those_of_tissue(seed: int) -> None:
    volume = make_ct_from_label_map(structures(), NAMES, map_mm=3.0, seed=seed)
    assert -30 < np.median(volume.image[volume.label == 1]) < 180
    assert np.median(volume.image[:2]) < -900, "air lies around the body"
    assert (volume.image < -600).mean() > 0.05
    assert np.percentile(volume.image, 99.8) > 150, "there is bone"


def test_the_seed_decides() -> None:
    first, same, other = (make_ct_from_label_map(structures(), NAMES, map_mm=3.0, seed=s) for s in (5, 5, 6))
    assert np.array_equal(first.image, same.image)
    assert first.image.shape != other.image.shape or not np.array_equal(first.image, other.image)


@pytest.mark.parametrize(
    ("array", "names"),
    [(structures(), {1: "liver"}), (structures()[..., 0], NAMES), (np.zeros((9, 9, 9), np.uint8), NAMES)],
    ids=["no such structure", "2D", "target not in the map"],
)
def test_a_map_without_the_target_is_refused(array: np.ndarray, names: dict[int, str]) -> None:
    with pytest.raises(ValueError, match=r"3D label map with a structure 'pancreas'"):
        make_ct_from_label_map(array, names, map_mm=3.0, seed=0)
