"""A set of images as one stack, in memory and on disk."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose

from ag_networks.data import CaseDataset, CaseError, PixelStack


def pictures(count: int = 7, channels: int = 3, size: tuple[int, ...] = (5, 4)) -> list[torch.Tensor]:
    return [torch.randn(channels, *size) * 3 + i for i in range(count)]


@pytest.mark.parametrize("size", [(5, 4), (3, 5, 4)], ids=["2d", "3d"])
@pytest.mark.parametrize("on_disk", [False, True], ids=["memory", "disk"])
@pytest.mark.parametrize("chunk", [1, 2, 7, 64])
def test_chunks_are_the_images_in_order(size: tuple[int, ...], on_disk: bool, chunk: int, tmp_path: Path) -> None:
    images = pictures(size=size)
    stack = PixelStack.of(images, file=tmp_path / "set.npy" if on_disk else None)
    stack.chunk_images = chunk
    chunks = list(stack.chunks())
    assert [len(part) for part in chunks] == [3 * min(chunk, 7 - i) for i in range(0, 7, chunk)]
    assert all(part.dtype == torch.float32 for part in chunks)
    assert (len(stack), stack.channels, stack.spatial_size) == (7, 21, size)
    expected = torch.cat(images)
    joined = torch.stack(images)
    dims = (0, *range(2, joined.dim()))
    span = (joined.amax(dims) - joined.amin(dims)).repeat(7).view(-1, *[1] * len(size))
    bound = span / 510 * 1.001 if on_disk else 0 * span
    for actual in (torch.cat(chunks), stack.tensor()):
        assert actual.shape == expected.shape
        assert ((actual - expected).abs() <= bound).all()
    assert stack.values.dtype == (np.uint8 if on_disk else np.float32)


def test_a_chunk_is_the_callers_own() -> None:
    stack = PixelStack.of(pictures())
    expected = stack.tensor()
    for chunk in stack.chunks():
        chunk.zero_()
    assert torch.equal(stack.tensor(), expected)


def test_each_channel_has_its_own_scale(tmp_path: Path) -> None:
    images = [image * torch.tensor([1e-3, 1.0, 1e3]).view(3, 1, 1) for image in pictures()]
    stack = PixelStack.of(images, file=tmp_path / "set.npy")
    error = (stack.tensor() - torch.cat(images)).abs().view(7, 3, -1).amax((0, 2))
    assert (error < torch.tensor([1e-3, 1.0, 1e3]) * 30 / 510).all()


def test_the_largest_and_the_smallest_value_come_back_exactly(tmp_path: Path) -> None:
    images = pictures()
    actual = PixelStack.of(images, file=tmp_path / "set.npy").tensor().view(7, 3, -1)
    joined = torch.stack(images).flatten(2)
    torch.testing.assert_close(actual.amin((0, 2)), joined.amin((0, 2)))
    torch.testing.assert_close(actual.amax((0, 2)), joined.amax((0, 2)))


KINDS: dict[str, Any] = {
    "dictionary": lambda x: {"image": x, "label": 1},
    "metadata": lambda x: MetaTensor(x),
    "array": lambda x: x.numpy(),
    "mirrored array": lambda x: x.flip(2).numpy()[:, :, ::-1],
    "double": lambda x: x.double(),
    "gradient": lambda x: x.clone().requires_grad_(),
    "strided": lambda x: x.transpose(1, 2).contiguous().transpose(1, 2),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("on_disk", [False, True], ids=["memory", "disk"])
def test_images_may_come_in_any_form(kind: str, on_disk: bool, tmp_path: Path) -> None:
    images = pictures()
    expected = PixelStack.of(images, file=tmp_path / "a.npy" if on_disk else None).tensor()
    converted = [KINDS[kind](image) for image in images]
    actual = PixelStack.of(converted, file=tmp_path / "b.npy" if on_disk else None).tensor()
    assert torch.equal(actual, expected)
    assert not actual.requires_grad


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_is_read(dtype: torch.dtype) -> None:
    images = [image.to(dtype) for image in pictures()]
    assert torch.equal(PixelStack.of(images).tensor(), torch.cat(images).float())


@pytest.mark.parametrize("on_disk", [False, True], ids=["memory", "disk"])
def test_grey_images_count_one_channel(on_disk: bool, tmp_path: Path) -> None:
    grey = pictures(channels=1)
    mean, deviation = (torch.tensor(v).view(3, 1, 1) for v in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
    normalized = [(image.expand(3, -1, -1) - mean) / deviation for image in grey]
    file = tmp_path / "set.npy" if on_disk else None
    stack = PixelStack.of(normalized, file=file)
    assert stack.channels == 7
    tolerance = 0.5 if on_disk else 0
    torch.testing.assert_close(
        stack.tensor(), torch.cat([image[:1] for image in normalized]), atol=tolerance, rtol=tolerance
    )
    assert PixelStack.of(grey, file=file).channels == 7
    normalized[4] = normalized[4] + torch.randn(3, 5, 4)
    assert PixelStack.of(normalized, file=file).channels == 21, "one color image among them"


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("on_disk", [False, True], ids=["memory", "disk"])
def test_constant_images_and_a_single_one(count: int, on_disk: bool, tmp_path: Path) -> None:
    images = [torch.stack([torch.full((5, 4), -2.1), torch.randn(5, 4)]) for _ in range(count)]
    stack = PixelStack.of(images, file=tmp_path / "set.npy" if on_disk else None)
    assert stack.channels == 2 * count
    assert (stack.tensor()[::2] == torch.tensor(-2.1)).all()
    torch.testing.assert_close(stack.tensor()[1::2], torch.stack(images)[:, 1], atol=0.02, rtol=0)
    black = PixelStack.of([torch.zeros(3, 5, 4)] * count, file=tmp_path / "set.npy" if on_disk else None)
    assert (black.tensor() == 0).all()


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    file, images = tmp_path / "folder" / "set.npy", pictures()
    PixelStack.of(images, file=file)
    before = file.read_bytes()

    class Failing(list):
        readings = 0

        def __getitem__(self, i: Any) -> Any:
            self.readings += 1
            if i == 6 and self.readings > 10:  # while the file is written
                raise OSError("gone")
            return super().__getitem__(i)

    with pytest.raises(OSError, match="gone"):
        PixelStack.of(Failing(pictures()), file=file)
    assert file.read_bytes() == before
    assert [path.name for path in file.parent.iterdir()] == ["set.npy"]


def test_a_file_is_what_numpy_reads(tmp_path: Path) -> None:
    stack = PixelStack.of(pictures(), file=tmp_path / "set.npy")
    assert isinstance(stack.values, np.memmap)
    assert not stack.values.flags.writeable
    assert np.array_equal(np.load(tmp_path / "set.npy"), stack.values)


def test_a_file_that_another_process_replaces_stays_ones_own(tmp_path: Path) -> None:
    file = tmp_path / "set.npy"
    stack = PixelStack.of(pictures(), file=file)
    expected = stack.tensor()
    PixelStack.of(pictures(count=2), file=file)
    assert torch.equal(stack.tensor(), expected)


def test_a_copy_shares_the_values(tmp_path: Path) -> None:
    stack = PixelStack.of(pictures(), file=tmp_path / "set.npy")
    assert copy.deepcopy([stack])[0].values is stack.values


def named(shape: tuple[int, ...], value: float = 0.0) -> MetaTensor:
    return MetaTensor(torch.full(shape, value), meta={"filename_or_obj": "/some/folder/eye_07.png"})


REFUSED: dict[str, tuple[Any, str]] = {
    "none": ([], "no image to learn an attention map from"),
    "shape": (
        [*pictures(2), named((3, 5, 5))],
        r"^eye_07.png: shape \(3, 5, 5\); expected \(3, 5, 4\) as the first image has",
    ),
    "one channel": ([*pictures(2), named((1, 5, 4))], r"^eye_07.png: shape \(1, 5, 4\); expected \(3, 5, 4\)"),
    "grey with color": ([*pictures(2, channels=1), named((3, 5, 4))], r"^eye_07.png: shape \(3, 5, 4\); expected"),
    "unnamed": ([{"image": x} for x in [*pictures(2), torch.zeros(3, 5, 5)]], r"^image 2: shape \(3, 5, 5\)"),
    "nan": ([*pictures(2), named((3, 5, 4), torch.nan)], "^eye_07.png: NaN or infinity in it"),
    "infinity": ([named((3, 5, 4), torch.inf), *pictures(2)], "^eye_07.png: NaN or infinity in it"),
    "uint8": ([image.to(torch.uint8) for image in pictures()], "^image 0: values of type uint8; expected floating"),
    "no channel axis": ([torch.zeros(5, 4)], r"^image 0: shape \(5, 4\); expected \(C, H, W\)"),
    "empty": ([torch.zeros(3, 0, 4)], r"^image 0: shape \(3, 0, 4\); expected"),
    "other key": ([{"picture": torch.zeros(3, 5, 4)}], "^image 0: no 'image' among picture"),
    "failed case": (CaseDataset([{"image": "a.png", "case": "a"}], Compose([named])), "^unexpected: "),
}


@pytest.mark.parametrize("case", REFUSED)
@pytest.mark.parametrize("on_disk", [False, True], ids=["memory", "disk"])
def test_images_that_make_no_stack_are_refused_by_name(case: str, on_disk: bool, tmp_path: Path) -> None:
    images, message = REFUSED[case]
    with pytest.raises(CaseError, match=message):
        PixelStack.of(images, file=tmp_path / "set.npy" if on_disk else None)
    assert not list(tmp_path.iterdir())


SCALES = {"low": (0.0,), "high": (1.0,)}


@pytest.mark.parametrize(
    ("values", "options"),
    [
        (np.zeros((2, 5, 4), np.float32), {}),
        (np.zeros((0, 1, 5, 4), np.float32), {}),
        (np.zeros((2, 1, 2, 2, 5, 4), np.float32), {}),
        (np.zeros((2, 1, 5, 4), np.float32), {"chunk_images": 0}),
        (np.zeros((2, 1, 5, 4), np.float32), SCALES),
        (np.zeros((2, 1, 5, 4), np.uint8), {}),
        (np.zeros((2, 3, 5, 4), np.uint8), SCALES),
        (np.zeros((2, 1, 5, 4), np.int16), SCALES),
        (np.zeros((2, 1, 5, 4), np.int16), {}),
    ],
    ids=["3 axes", "none", "6 axes", "no chunk", "scaled float", "unscaled", "3 channels", "int16", "plain int16"],
)
def test_values_that_make_no_stack_are_refused(values: Any, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="expected"):
        PixelStack(values, **options)
