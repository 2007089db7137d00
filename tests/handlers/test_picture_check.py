"""What is said about the pictures of a training before it starts."""

import logging
from typing import Any

import pytest
import torch
from monai.data import MetaTensor

from ag_networks.data import CaseError
from ag_networks.handlers import check_pictures


def pictures(*, structured: bool = True, number: int = 8, **meta: Any) -> list[dict[str, Any]]:
    """Return items as a dataset has them: one scene with noise, or noise alone."""
    generator = torch.Generator().manual_seed(0)
    scene = torch.linspace(0, 4, 32)[None, :, None] * torch.linspace(-1, 1, 32)[None, None] * structured
    items = []
    for i in range(number):
        image = scene + 0.3 * torch.randn(3, 32, 32, generator=generator)
        own = {"filename_or_obj": f"folder/{i}.png", "spatial_shape": (64, 64), "picture_warnings": ""}
        items.append({"image": MetaTensor(image, meta={**own, **meta}), "label": 0})
    return items


def test_a_structured_set_is_described(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    check_pictures(pictures())
    (record,) = caplog.records
    assert record.levelno == logging.INFO
    assert record.getMessage().startswith("8 pictures, each like the mean of the others by 1.00")


def test_what_reading_found_odd_is_said_once_with_the_names(caplog: pytest.LogCaptureFixture) -> None:
    items = pictures()
    for i in (2, 5):
        items[i]["image"].meta["picture_warnings"] = "grey picture, as three equal channels; small picture"
    check_pictures(items)
    texts = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert texts == [
        "2 of 8 pictures: grey picture, as three equal channels: 2.png, 5.png",
        "2 of 8 pictures: small picture: 2.png, 5.png",
    ]


def test_a_set_without_structure_is_refused_where_one_map_is_to_be_learnt() -> None:
    items = pictures(structured=False)
    with pytest.raises(CaseError, match=r"nothing in common .* --attention none trains without a map$"):
        check_pictures(items)
    check_pictures(items, structured=False)


def test_another_aspect_is_warned_of_by_the_field_of_view_where_it_is_known(caplog: pytest.LogCaptureFixture) -> None:
    items = pictures()
    items[3]["image"].meta["spatial_shape"] = (64, 128)
    check_pictures(items)
    assert "of another aspect than the others, whose height by width is 1.00: 3.png (0.50)" in caplog.text
    caplog.clear()
    items[3]["image"].meta["fundus_box"] = [0, 30, 64, 94]
    check_pictures(items)
    assert "aspect" not in caplog.text
