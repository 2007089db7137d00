"""Boxes and maps go back to where they were cut out of the frame."""

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import CenterSpatialCrop, Compose, Flip, Resize, Rotate90

from ag_networks.transforms import BoxOnFramed, FindSector, box_on_frame, map_on_frame


def frame(rows: int = 100, columns: int = 140) -> MetaTensor:
    values = torch.zeros(1, rows, columns)
    values[:, 40:60, 50:90] = 1
    return MetaTensor(values, affine=torch.eye(3), meta={"spatial_shape": np.array([rows, columns])})


CHAINS = {
    "resize": Compose([Resize((50, 70), mode="area")]),
    "enlarge": Compose([Resize((200, 280), mode="bilinear")]),
    "box": Compose([FindSector(box=(20, 30, 80, 110)), Resize((30, 40), mode="area")]),
    "mirrored": Compose([FindSector(box=(20, 30, 80, 110)), Flip(1), Resize((60, 80))]),
    "mirrored twice": Compose([Resize((50, 70), mode="area"), Flip((0, 1))]),
    "box and center": Compose([FindSector(box=(20, 30, 80, 110)), Resize((60, 80)), CenterSpatialCrop((40, 60))]),
}


@pytest.mark.parametrize("name", CHAINS)
def test_the_bright_part_is_found_again(name: str) -> None:
    image = CHAINS[name](frame())
    rows, columns = (np.flatnonzero((image[0].numpy() > 0.5).any(axis=axis)) for axis in (1, 0))
    box = (rows[0], columns[0], rows[-1] + 1, columns[-1] + 1)
    assert box_on_frame(box, image.affine) == pytest.approx((40, 50, 60, 90), abs=1e-3)
    back = map_on_frame(image[0].numpy(), image.affine, image.shape[1:], (100, 140))
    assert back.shape == (100, 140)
    inner = np.zeros((100, 140), bool)
    inner[42:58, 52:88] = True
    assert back[inner].min() > 0.9
    assert back[:37].max() < 0.1
    assert back[:, 93:].max() < 0.1


def test_a_map_of_few_cells_covers_what_the_network_saw() -> None:
    image = CHAINS["box"](frame())
    back = map_on_frame(np.ones((2, 3)), image.affine, image.shape[1:], (100, 140))
    assert back[20:80, 30:110].min() == 1
    assert back.sum() == 60 * 80


def test_what_lies_outside_of_the_frame_is_cut() -> None:
    back = map_on_frame(np.ones((4, 4)), [[1, 0, -2], [0, 1, 3], [0, 0, 1]], (4, 4), (4, 5))
    assert back.tolist() == [[0, 0, 0, 1, 1], [0, 0, 0, 1, 1], [0, 0, 0, 0, 0], [0, 0, 0, 0, 0]]


def test_boxes_become_whole_pixels_within_the_frame() -> None:
    image = MetaTensor(torch.zeros(1, 10, 10), affine=torch.tensor([[3.0, 0, -4], [0, 3.0, -4], [0, 0, 1]]))
    image.meta["spatial_shape"] = np.array([20, 24])
    item = {"image": image, "box": torch.tensor([0.0, 2.0, 10.0, 10.0]), "none": torch.full((4,), torch.nan)}
    result = BoxOnFramed(["box", "none"])(item)
    assert result["box"].tolist() == [0, 1, 20, 24]
    assert result["none"].isnan().all()


def test_a_map_of_few_cells_is_mirrored_back() -> None:
    back = map_on_frame([[0.0, 1.0]], Flip(1)(frame()).affine, (100, 140), (100, 140))
    assert back[:, 0].min() == 1
    assert back[:, -1].max() == 0


@pytest.mark.parametrize("name", CHAINS)
def test_the_inverse_affine_brings_a_box_to_the_input(name: str) -> None:
    image = CHAINS[name](frame())
    inside = box_on_frame((40, 50, 60, 90), np.linalg.inv(image.affine))
    assert box_on_frame(inside, image.affine) == pytest.approx((40, 50, 60, 90))


def test_turned_pictures_have_no_box() -> None:
    image = Rotate90()(frame())
    with pytest.raises(ValueError, match="expected a crop, a resize and a mirror at most"):
        box_on_frame((0, 0, 1, 1), image.affine)
