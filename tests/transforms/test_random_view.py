"""Random views are the geometry that they promise, behind the map and in training alone."""

import copy
import pickle
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from scipy.ndimage import map_coordinates
from torch import nn

from ag_networks.blocks import GlobalSpatialAttention
from ag_networks.transforms import RandomView

ALL: dict[str, Any] = {"rotate": 20, "zoom": 0.15, "shift": 0.05, "flips": [0, 1], "contrast": 0.15, "brightness": 0.3}
SIZES = pytest.mark.parametrize("size", [(12, 12), (11, 12), (16, 9)], ids=str)


@pytest.fixture
def draws(monkeypatch: pytest.MonkeyPatch) -> list[torch.Tensor]:
    """The numbers that are drawn, in 0..1."""
    drawn: list[torch.Tensor] = []
    rand = torch.rand

    def spy(*args: Any, **kwargs: Any) -> torch.Tensor:
        drawn.append(rand(*args, **kwargs))
        return drawn[-1]

    monkeypatch.setattr(torch, "rand", spy)
    return drawn


def always(monkeypatch: pytest.MonkeyPatch, value: float) -> None:
    """Let every draw be one value: 1 for the largest amount and no flip, 0 for minus the largest and a flip."""
    monkeypatch.setattr(torch, "rand", lambda *size, **kwargs: torch.full(size, value, **kwargs))


@SIZES
def test_no_amount_is_no_change(size: tuple[int, int]) -> None:
    x = torch.randn(4, 3, *size)
    assert torch.equal(RandomView(fill=[1.0, 2.0, 3.0])(x), x)


@SIZES
@pytest.mark.parametrize("axes", [[0], [1], [0, 1], [1, 0, 0]], ids=str)
def test_flips_mirror_exactly(size: tuple[int, int], axes: list[int]) -> None:
    x = torch.randn(64, 3, *size)
    y = RandomView(flips=axes, fill=[0.3])(x)
    ways = [()] + [(2 + axis,) for axis in sorted(set(axes))] + ([(2, 3)] if len(set(axes)) == 2 else [])
    counts = dict.fromkeys(ways, 0)
    for image, view in zip(x[:, None], y[:, None], strict=True):
        fitting = [way for way in ways if torch.allclose(view, image.flip(way) if way else image, atol=1e-5)]
        assert len(fitting) == 1
        counts[fitting[0]] += 1
    assert min(counts.values()) > 64 / len(ways) / 3, "each about as often"


@SIZES
@pytest.mark.parametrize("options", [{"rotate": 180}, {"zoom": 0.4}, {"shift": 0.3}, ALL], ids=str)
def test_geometry_is_that_of_pixels_on_the_plane(
    size: tuple[int, int], options: dict[str, Any], draws: list[torch.Tensor]
) -> None:
    x, fill = torch.randn(6, 2, *size, dtype=torch.float64), (0.5, -2.0)
    view = RandomView(**{**options, "contrast": 0, "brightness": 0}, fill=fill)
    y = view(x)
    for i in range(len(x)):
        angle = np.deg2rad((2 * draws[0][i].item() - 1) * view.rotate)
        field = 1 + (2 * draws[1][i].item() - 1) * view.zoom
        dx, dy = ((2 * draws[2][i].flatten() - 1) * view.shift).numpy() * size[::-1]
        mirrored = [1 - 2 * bool(d[i] < 0.5) for d in draws[3:]] or [1, 1]
        middle = np.subtract(size, 1) / 2
        rows, columns = np.indices(size)
        rows, columns = mirrored[0] * (rows - middle[0]), mirrored[1] * (columns - middle[1])
        sources = [
            field * (np.sin(angle) * columns + np.cos(angle) * rows) + dy + middle[0],
            field * (np.cos(angle) * columns - np.sin(angle) * rows) + dx + middle[1],
        ]
        for channel, outside in enumerate(fill):
            expected = map_coordinates(x[i, channel].numpy(), sources, order=1, mode="grid-constant", cval=outside)
            np.testing.assert_allclose(y[i, channel].numpy(), expected, atol=2e-5)


def test_a_round_object_stays_round_in_an_image_that_is_not_square() -> None:
    rows, columns = torch.meshgrid(torch.arange(40) - 19.5, torch.arange(64) - 31.5, indexing="ij")
    x = torch.exp(-(rows**2 + columns**2) / 2 / 6**2).expand(8, 1, -1, -1)
    y = RandomView(rotate=180)(x)
    assert (y - x).abs().max() < 0.01
    assert (RandomView(shift=0.3)(x) - x).abs().max() > 0.1


@pytest.mark.parametrize(("value", "turns"), [(1.0, 1), (0.0, -1)], ids=["one way", "the other"])
def test_a_right_angle_is_a_turn_of_the_array(value: float, turns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    always(monkeypatch, value)
    x = torch.randn(2, 3, 9, 9)
    torch.testing.assert_close(RandomView(rotate=90)(x), x.rot90(turns, (2, 3)), atol=1e-5, rtol=0)


def test_what_comes_from_outside_has_the_fill_value(monkeypatch: pytest.MonkeyPatch) -> None:
    always(monkeypatch, 1.0)
    x, fill = torch.randn(2, 3, 8, 8), [-2.0, 0.5, 7.0]
    y = RandomView(shift=0.25, fill=fill)(x)
    torch.testing.assert_close(y[:, :, :6, :6], x[:, :, 2:, 2:], atol=1e-5, rtol=0)
    for channel, value in enumerate(fill):
        torch.testing.assert_close(y[:, channel, 6:], torch.full((2, 2, 8), value))
        torch.testing.assert_close(y[:, channel, :, 6:], torch.full((2, 8, 2), value))
    assert (RandomView(shift=0.25)(x)[:, :, 6:] == 0).all()
    assert (RandomView(shift=0.25, fill=[3.0])(x)[:, :, 6:] == 3).all()


@pytest.mark.parametrize("value", [0.0, 0.25, 1.0])
def test_contrast_and_brightness_are_as_large_as_they_may(value: float, monkeypatch: pytest.MonkeyPatch) -> None:
    always(monkeypatch, value)
    x = torch.randn(2, 3, 8, 8)
    expected = x * (1 + 0.2 * (2 * value - 1)) + 0.3 * (2 * value - 1)
    torch.testing.assert_close(RandomView(contrast=0.2, brightness=0.3)(x), expected)


def test_contrast_is_the_images_and_brightness_the_channels() -> None:
    x = torch.ones(50, 3, 4, 4)
    y = RandomView(contrast=0.2)(x)
    assert (y == y[:, :1, :1, :1]).all()
    assert 0.8 <= y.min() < 0.83
    assert 1.17 < y.max() <= 1.2
    y = RandomView(brightness=0.3)(x)
    assert (y == y[:, :, :1, :1]).all()
    assert (y[:, 0] - y[:, 1]).abs().mean() > 0.1
    assert 0.7 <= y.min() < 0.73
    assert 1.27 < y.max() <= 1.3


def test_every_image_has_its_own_view_and_a_seed_brings_it_back() -> None:
    x, view = torch.randn(1, 3, 12, 12).expand(5, -1, -1, -1), RandomView(**ALL)
    torch.manual_seed(3)
    y = view(x)
    assert all((a - b).abs().max() > 0.1 for a, b in pairwise(y))
    torch.manual_seed(3)
    assert torch.equal(view(x), y)
    assert not torch.equal(view(x), y)


def network(view: RandomView) -> tuple[nn.Sequential, Any]:
    whole = nn.Sequential(GlobalSpatialAttention((12, 12)), nn.Sequential(nn.Identity()))
    return whole, view.attach(whole[1])


def test_attached_it_works_in_training_alone_and_behind_the_map() -> None:
    whole, handle = network(RandomView(shift=0.3, fill=[9.0]))
    whole[0].map.zero_()
    x = torch.randn(6, 3, 12, 12)
    y = whole.train()(x)
    assert set(y.round(decimals=3).unique().tolist()) > {0.0, 9.0}, "moved zeros, and the fill of the border"
    assert (whole.eval()(x) == 0).all()
    handle.remove()
    assert (whole.train()(x) == 0).all()


def test_copies_keep_their_views_and_scripts_need_them_detached() -> None:
    whole, handle = network(RandomView(**ALL))
    x = torch.randn(2, 3, 12, 12)
    for twin in (copy.deepcopy(whole), pickle.loads(pickle.dumps(whole))):
        torch.manual_seed(1)
        y = twin.train()(x)
        torch.manual_seed(1)
        assert torch.equal(y, whole.train()(x))
        assert not torch.equal(y, x)
    handle.remove()
    assert torch.equal(torch.jit.script(whole.eval())(x), x)


def test_autocast_places_the_samples_as_exactly() -> None:
    x, view = torch.randn(3, 3, 64, 64), RandomView(rotate=20, zoom=0.15, shift=0.05)
    torch.manual_seed(2)
    expected = view(x)
    torch.manual_seed(2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(view(x), expected)


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float16, 0.01), (torch.bfloat16, 0.05)], ids=str
)
def test_other_precisions(dtype: torch.dtype, tolerance: float, monkeypatch: pytest.MonkeyPatch) -> None:
    always(monkeypatch, 1.0)
    x = torch.randn(2, 3, 64, 64).to(dtype)
    view = RandomView(rotate=20, zoom=0.15, shift=0.05, fill=[0.5])
    y = view(x)
    assert y.dtype == dtype
    torch.testing.assert_close(y.double(), view(x.double()), atol=tolerance, rtol=tolerance)


def test_other_devices_and_metadata() -> None:
    view = RandomView(**ALL, fill=[1.0, 2.0, 3.0])
    assert view(torch.empty(2, 3, 12, 12, device="meta")).device.type == "meta"
    x = torch.randn(2, 3, 12, 12)
    torch.manual_seed(4)
    expected = view(x)
    torch.manual_seed(4)
    torch.testing.assert_close(view(MetaTensor(x)).as_tensor(), expected)


def test_gradients_pass_through() -> None:
    x = torch.randn(2, 3, 12, 12, requires_grad=True)
    RandomView(**ALL)(x).square().sum().backward()
    assert x.grad is not None
    assert x.grad.abs().max() > 0


@pytest.mark.parametrize(
    "options",
    [
        {"rotate": -1},
        {"zoom": 1},
        {"contrast": 1.0},
        {"shift": -0.1},
        {"brightness": float("nan")},
        {"rotate": float("inf")},
        {"flips": [2]},
        {"flips": [-1]},
    ],
    ids=str,
)
def test_other_amounts_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="expected amounts from 0, zoom and contrast below 1, axes 0 and 1, got"):
        RandomView(**options)


@pytest.mark.parametrize(
    ("x", "fill"),
    [
        (torch.zeros(2, 3, 4, 4, 4), ()),
        (torch.zeros(3, 4, 4), ()),
        (torch.zeros(2, 3, 4, 4, dtype=torch.uint8), ()),
        (torch.zeros(2, 3, 4, 4), (1.0, 2.0)),
    ],
    ids=["3d", "no batch", "uint8", "fill of two"],
)
def test_other_images_are_refused(x: torch.Tensor, fill: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match=r"expected float images \(N, C, H, W\)"):
        RandomView(rotate=5, fill=fill)(x)
