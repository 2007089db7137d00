"""The pixel CNN is what the paper writes, from memory as from chunks."""

from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from network_helpers import as_if_trained, relative_error

from ag_networks.blocks import PixelChunks, PixelCNN, PixelWeights
from ag_networks.data import PixelStack

SPATIAL = {"2d": (7, 6), "3d": (5, 4, 6)}
DIMS = pytest.mark.parametrize("size", SPATIAL.values(), ids=SPATIAL)


def reference(source: PixelCNN, pixels: torch.Tensor) -> np.ndarray:
    """Sum over channels and neighbors, in numpy."""
    weight, bias = source.conv1.weight.detach().numpy(), source.conv1.bias.detach().numpy()
    last, last_bias = source.conv2.weight.detach().numpy(), source.conv2.bias.detach().numpy()
    spatial, half = pixels.shape[1:], weight.shape[-1] // 2
    padded = np.pad(pixels.numpy(), [(0, 0), *[(half, half)] * len(spatial)])
    hidden = np.zeros((len(weight), *spatial)) + bias.reshape(-1, *[1] * len(spatial))
    for offset in product(range(weight.shape[-1]), repeat=len(spatial)):
        window = padded[(slice(None), *(slice(o, o + n) for o, n in zip(offset, spatial, strict=True)))]
        hidden += np.tensordot(weight[(..., *offset)], window, axes=1)
    score = np.tensordot(last.reshape(-1), np.maximum(hidden, 0), axes=1) + last_bias
    return 1 / (1 + np.exp(-score))[None, None]


@pytest.mark.parametrize(
    ("images", "channels", "hidden", "count"),
    [(170, 1, 128, 196_097), (413, 3, 32, 356_897), (413, 3, 128, 1_427_585)],
    ids=str,
)
@pytest.mark.parametrize("chunked", [False, True], ids=["memory", "chunks"])
def test_parameters_are_the_papers_formula(images: int, channels: int, hidden: int, count: int, chunked: bool) -> None:
    pixels: Any = torch.zeros(images * channels, 2, 2)
    if chunked:
        pixels = PixelStack(np.zeros((images, channels, 2, 2), dtype=np.float32))
    source = PixelCNN(pixels, hidden_channels=hidden)
    assert sum(parameter.numel() for parameter in source.parameters()) == count
    assert count == hidden * (9 * images * channels + 1) + (hidden + 1)


@DIMS
@pytest.mark.parametrize("kernel", [1, 3, 5])
def test_it_is_the_papers_equation(size: tuple[int, ...], kernel: int) -> None:
    pixels = torch.randn(6, *size, dtype=torch.float64)
    source = PixelCNN(pixels, hidden_channels=4, kernel_size=kernel).double()
    source = as_if_trained(source)
    source.pixels = pixels[None]
    values = source()
    assert values.shape == (1, 1, *size)
    assert values.std() > 0.01
    np.testing.assert_allclose(values.detach().numpy(), reference(source, pixels), rtol=1e-10)


def test_images_are_not_in_the_state_dict() -> None:
    source = PixelCNN(torch.randn(6, 7, 6), hidden_channels=4)
    assert set(source.state_dict()) == {"conv1.weight", "conv1.bias", "conv2.weight", "conv2.bias"}
    assert set(PixelCNN(PixelStack.of([torch.randn(3, 7, 6)])).state_dict()) == set(source.state_dict())


def in_memory_and_chunked(stack: PixelStack) -> tuple[PixelCNN, PixelCNN]:
    memory, chunked = PixelCNN(stack.tensor(), hidden_channels=5), PixelCNN(stack, hidden_channels=5)
    chunked.load_state_dict(memory.state_dict())
    return memory, chunked


@DIMS
@pytest.mark.parametrize("chunk", [1, 2, 4, 9, 100])
@pytest.mark.parametrize("on_disk", [False, True], ids=["float", "uint8 map"])
def test_chunks_give_the_same_map_and_gradients(
    size: tuple[int, ...], chunk: int, on_disk: bool, tmp_path: Path
) -> None:
    images = [torch.randn(2, *size) for _ in range(9)]
    stack = PixelStack.of(images, file=tmp_path / "set.npy" if on_disk else None)
    stack.chunk_images = chunk
    memory, chunked = in_memory_and_chunked(stack)
    expected, actual = memory(), chunked()
    assert relative_error(actual, expected) < 1e-5
    weights = torch.randn_like(expected)
    for values in (expected, actual):
        (values * weights).sum().backward()
    for (name, a), b in zip(chunked.named_parameters(), memory.parameters(), strict=True):
        assert relative_error(a.grad, b.grad) < 1e-5, name


def test_chunks_pass_the_check_of_their_gradient() -> None:
    stack = PixelStack.of([torch.randn(2, 4, 3) for _ in range(3)])
    stack.chunk_images = 2
    source = as_if_trained(PixelCNN(stack, hidden_channels=2))
    names, parameters = zip(*source.named_parameters(), strict=True)

    def values(*tensors: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(source, dict(zip(names, tensors, strict=True)), ())

    assert torch.autograd.gradcheck(values, parameters)


def test_chunks_under_autocast_give_about_the_same() -> None:
    memory, chunked = in_memory_and_chunked(PixelStack.of([torch.randn(3, 7, 6) for _ in range(5)]))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        values = chunked()
    values.float().sum().backward()
    memory().sum().backward()
    assert relative_error(values.float(), memory()) < 0.02
    assert relative_error(chunked.conv1.weight.grad, memory.conv1.weight.grad) < 0.05


class Lying:
    """Chunks of another number of channels than it says."""

    channels, spatial_size = 6, (4, 4)

    def __init__(self, *sizes: int) -> None:
        self.sizes = sizes

    def chunks(self) -> Iterator[torch.Tensor]:
        yield from (torch.zeros(n, *self.spatial_size) for n in self.sizes)


@pytest.mark.parametrize("sizes", [(), (3,), (3, 2), (3, 4), (7,), (6, 1)], ids=str)
def test_chunks_of_other_channels_are_refused(sizes: tuple[int, ...]) -> None:
    source = PixelCNN(Lying(*sizes), hidden_channels=2)
    with pytest.raises(ValueError, match="expected chunks of 6 channels in all"):
        source()
    assert isinstance(Lying(), PixelChunks)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16], ids=str)
def test_pixels_of_another_precision_are_converted(dtype: torch.dtype) -> None:
    source = PixelCNN(torch.ones(6, 7, 6, dtype=dtype), hidden_channels=4)
    assert source().dtype == torch.float32
    assert source.double()().dtype == torch.float64


def test_pixels_need_no_gradient_and_no_metadata() -> None:
    source = PixelCNN(MetaTensor(torch.randn(6, 7, 6, requires_grad=True)), hidden_channels=4)
    assert type(source.pixels) is torch.Tensor
    assert not source.pixels.requires_grad
    assert type(source()) is torch.Tensor


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (torch.zeros(7, 6), r"must be \(NC, H, W\) or \(NC, D, H, W\), float, got \[7, 6\]"),
        (torch.zeros(1, 2, 3, 4, 5), r"got \[1, 2, 3, 4, 5\]"),
        (torch.zeros(0, 7, 6), r"got \[0, 7, 6\]"),
        (torch.zeros(6, 7, 6, dtype=torch.uint8), "torch.uint8"),
        (torch.full((6, 7, 6), torch.nan), "finite"),
        (torch.full((6, 7, 6), torch.inf), "finite"),
        (np.zeros((6, 7, 6), dtype=np.float32), "got ndarray"),
    ],
    ids=["1d", "4d", "empty", "uint8", "nan", "infinite", "array"],
)
def test_pixels_that_are_none_are_refused(pixels: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PixelCNN(pixels)


def test_a_pace_changes_the_way_and_not_the_start() -> None:
    pixels = torch.randn(6, 7, 6)
    moved = []
    for pace in (1.0, 5.0):
        torch.manual_seed(3)
        source = PixelCNN(pixels, hidden_channels=4, pace=pace)
        before = source().detach()
        optimizer = torch.optim.Adam([source.conv1.weight], lr=1e-5)
        source().mean().backward()
        optimizer.step()
        moved.append((before, before - source().detach()))
    torch.testing.assert_close(moved[0][0], moved[1][0])
    torch.testing.assert_close(moved[1][1], 5 * moved[0][1], rtol=0.02, atol=1e-6)


@pytest.mark.parametrize("pace", [0, -1.0, float("inf"), float("nan")], ids=str)
def test_a_pace_that_is_none_is_refused(pace: float) -> None:
    with pytest.raises(ValueError, match="expected a positive pace"):
        PixelCNN(torch.randn(6, 7, 6), pace=pace)
    with pytest.raises(ValueError, match="1 for pixels in chunks, got 2"):
        PixelCNN(PixelStack.of([torch.randn(3, 7, 6)]), pace=2)


@pytest.mark.parametrize("options", [{"hidden_channels": 0}, {"kernel_size": 2}, {"kernel_size": 0}], ids=str)
def test_other_layers_are_refused(options: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="at least one hidden channel and an odd kernel"):
        PixelCNN(torch.zeros(6, 7, 6), **options)


def test_pixel_weights_are_free_and_ones_at_first() -> None:
    source = PixelWeights((3, 4))
    assert torch.equal(source(), torch.ones(1, 1, 3, 4))
    with torch.no_grad():
        source.weight.copy_(torch.arange(-6.0, 6.0).view(1, 1, 3, 4))
    assert torch.equal(source(), source.weight)
    source().sum().backward()
    assert torch.equal(source.weight.grad, torch.ones(1, 1, 3, 4))
