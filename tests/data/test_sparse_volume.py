"""Volumes of which only some slices are annotated."""

from typing import Any

import nibabel as nib
import numpy as np
import pytest

from ag_networks.data import UNLABELLED, make_sparse_volume

ROWS, COLUMNS = 6, 4


def slices(*values: float) -> list[np.ndarray]:
    return [np.full((ROWS, COLUMNS), value, np.float32) for value in values]


def labels(*values: int) -> list[np.ndarray]:
    return [np.full((ROWS, COLUMNS), value, np.uint8) for value in values]


def make(numbers: list[int], values: list[float], **options: Any) -> Any:
    options = {"margins": [0] * len(numbers), "pixel_mm": 1.5, "thickness": 1, **options}
    return make_sparse_volume(slices(*values), labels(*range(len(numbers))), numbers, **options)


def test_slices_stand_at_their_numbers_with_straight_lines_between() -> None:
    volume = make([10, 14, 16], [0, 100, 40])
    assert volume.image.shape == volume.label.shape == (COLUMNS, ROWS, 7)
    assert volume.image[1, 2].tolist() == [0, 25, 50, 75, 100, 70, 40]
    assert (volume.image == volume.image[:1, :1]).all()
    assert volume.image.dtype == np.int16
    assert volume.label[1, 2].tolist() == [0, 255, 255, 255, 1, 255, 2]
    assert volume.label.dtype == np.uint8
    assert UNLABELLED == 255


def test_the_order_of_the_slices_does_not_matter() -> None:
    sorted_, shuffled = make([10, 14, 16], [0, 100, 40]), make([16, 10, 14], [40, 0, 100])
    np.testing.assert_array_equal(sorted_.image, shuffled.image)
    assert shuffled.label[0, 0].tolist() == [1, 255, 255, 255, 2, 255, 0]


@pytest.mark.parametrize(
    ("thickness", "expected"),
    [(1, [0, 255, 255, 1, 2]), (2, [0, 0, 255, 1, 2]), (9, [0, 0, 0, 1, 2])],
    ids=["1", "2", "9"],
)
def test_a_label_fills_planes_up_to_the_next(thickness: int, expected: list[int]) -> None:
    assert make([1, 4, 5], [0, 0, 0], thickness=thickness).label[0, 0].tolist() == expected


def test_where_one_slice_has_no_image_the_other_counts_alone() -> None:
    volume = make([0, 4], [100, 20], margins=[0, 1])
    assert volume.image[1, 1].tolist() == [100, 80, 60, 40, 20]
    assert volume.image[0, 0].tolist() == [100, 100, 100, 100, 0]
    assert make([0, 2], [100, 20], margins=[1, 1]).image[0, 0].tolist() == [0, 0, 0]


def test_the_grid_is_that_of_slices_as_displayed() -> None:
    image, label = slices(0, 0), labels(0, 0)
    image[0][0, 0] = 50  # anterior, right of the patient, and toward the head, where numbers start
    volume = make_sparse_volume(image, label, [3, 5], margins=[0, 0], pixel_mm=1.5, slice_mm=2.0)
    assert nib.aff2axcodes(volume.affine) == ("L", "P", "I")
    assert nib.affines.voxel_sizes(volume.affine).tolist() == [1.5, 1.5, 2.0]
    index = np.argwhere(volume.image == 50)[0]
    corner = nib.affines.apply_affine(volume.affine, index)
    others = nib.affines.apply_affine(volume.affine, np.argwhere(volume.image == 0))
    assert (corner >= others).all()  # RAS: most right, most anterior, most superior


BAD = [
    pytest.param({"numbers": [3]}, "at least two slices with different numbers", id="one slice"),
    pytest.param({"numbers": [3, 3]}, r"different numbers, got \[3, 3\]", id="a number twice"),
    pytest.param({"images": [np.zeros((6, 4)), np.zeros((6, 5))]}, "must share one size", id="sizes"),
    pytest.param({"labels": labels(0, 0)[:1] + [np.zeros((5, 4))]}, "must share one size", id="size of a label"),
]


@pytest.mark.parametrize(("change", "message"), BAD)
def test_what_makes_no_volume_is_refused(change: dict[str, Any], message: str) -> None:
    arguments: dict[str, Any] = {"images": slices(0, 1), "labels": labels(0, 1), "numbers": [1, 2], **change}
    with pytest.raises(ValueError, match=message):
        make_sparse_volume(**arguments, margins=[0, 0], pixel_mm=1.0)
