"""A set of pictures, pixel by pixel: what a global attention map is learnt from."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ag_networks.atomic import atomic_path
from ag_networks.data.cases import CaseError

__all__ = ["PixelStack"]

SAME = 1e-4  # of the range of the values: channels that differ less are one


class PixelStack:
    """All images of a set with the images and channels in one axis, in memory or on disk.

    In memory they are float32. On disk they are a memory map of ``uint8``, 4 times smaller, each channel scaled to its
    own range over the set: off by at most a 510th of that range. :meth:`chunks` brings them back some at a time.

    Source: Xu et al., arXiv 2007.15897, definition 3 (pixel representation).

    Args:
        values: (N, C, H, W) or (N, C, D, H, W), float, or ``uint8`` with `low` and `high`; never changed.
        low: what 0 stands for, by channel.
        high: what 255 stands for, by channel.
        chunk_images: how many images a chunk has.

    Raises:
        ValueError: for values of another shape or type, or scales that do not fit them.

    Example:
        >>> images = [torch.rand(3, 8, 8) for _ in range(5)]
        >>> stack = PixelStack.of(images)
        >>> stack.channels, stack.spatial_size, [tuple(chunk.shape) for chunk in stack.chunks()]
        (15, (8, 8), [(15, 8, 8)])
    """

    def __init__(
        self,
        values: NDArray[Any],
        *,
        low: Sequence[float] = (),
        high: Sequence[float] = (),
        chunk_images: int = 64,
    ) -> None:
        if values.ndim not in (4, 5) or not values.size or chunk_images < 1:
            raise ValueError(f"expected values (N, C, H, W) and chunks of an image or more, got {values.shape}.")
        scales = values.shape[1] if values.dtype == np.uint8 else 0
        if not (scales or np.issubdtype(values.dtype, np.floating)) or not len(low) == len(high) == scales:
            raise ValueError(
                f"expected float values, or uint8 with low and high of each channel, got {values.dtype} of shape "
                f"{values.shape} with {len(low)} and {len(high)}."
            )
        self.values = values
        self.low, self.high = np.asarray(low, dtype=np.float32), np.asarray(high, dtype=np.float32)
        self.chunk_images = chunk_images
        self.channels = values.shape[0] * values.shape[1]
        self.spatial_size = tuple(values.shape[2:])

    @classmethod
    def of(cls, images: Sequence[Any], *, file: str | os.PathLike[str] | None = None) -> PixelStack:
        """Stack the images, in memory, or in a file where one is named.

        Grey images with equal channels count with one channel.

        Args:
            images: (C, H, W) each, or dictionaries with ``"image"``, such as a dataset after its preprocessing, without
                anything random: they are read more than once. Floating point, as the network gets them.
            file: where to put the memory map; overwritten. It appears whole, also where several processes write it.

        Raises:
            CaseError: if there is none, or one has another shape than the first, integers, or NaN or infinity in it.
        """
        if len(images) == 0:
            raise CaseError("no image to learn an attention map from")
        channels = 1 if _grey(images) else next(_arrays(images)).shape[0]
        if file is not None:
            return cls._in_file(images, channels, Path(file))
        values = np.empty((len(images), channels, *next(_arrays(images)).shape[1:]), dtype=np.float32)
        for i, array in enumerate(_arrays(images)):
            values[i] = array[:channels]
        return cls(values)

    @classmethod
    def _in_file(cls, images: Sequence[Any], channels: int, file: Path) -> PixelStack:
        low, high = np.full((2, channels), np.inf, dtype=np.float32)
        high = -high
        for array in _arrays(images):
            flat = array[:channels].reshape(channels, -1)
            low, high = np.minimum(low, flat.min(1)), np.maximum(high, flat.max(1))
        scale = np.divide(255, high - low, out=np.zeros_like(low), where=high > low)
        header = {"descr": "|u1", "fortran_order": False, "shape": (len(images), channels, *array.shape[1:])}
        with atomic_path(file) as temporary:
            # written one after the other: a full disk is an error here, and the end of the process in a memory map
            with temporary.open("wb") as stream:
                np.lib.format.write_array_header_1_0(stream, header)
                for array in _arrays(images):
                    levels = (array[:channels] - _shaped(low, array.ndim)) * _shaped(scale, array.ndim)
                    stream.write(np.rint(levels.clip(0, 255)).astype(np.uint8).tobytes())
            # before another process puts its own file there
            values = np.load(temporary, mmap_mode="r")
        return cls(values, low=low.tolist(), high=high.tolist())

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.values)

    def __deepcopy__(self, memo: dict[int, Any]) -> PixelStack:
        """Return itself: a copy of the network must not read the whole set into memory."""
        return self

    def chunks(self) -> Iterator[torch.Tensor]:
        """Yield the channels of some images at a time, (n, H, W), float32."""
        for start in range(0, len(self), self.chunk_images):
            part = self.values[start : start + self.chunk_images].astype(np.float32)
            if len(self.low):
                part *= _shaped((self.high - self.low) / 255, part.ndim - 1)
                part += _shaped(self.low, part.ndim - 1)
            yield torch.from_numpy(part.reshape(-1, *self.spatial_size))

    def tensor(self) -> torch.Tensor:
        """Return all of them, (NC, H, W), float32; of a stack in memory without a copy."""
        if self.values.dtype == np.float32:
            return torch.from_numpy(self.values.reshape(-1, *self.spatial_size))
        return torch.cat(list(self.chunks()))


def _arrays(images: Sequence[Any]) -> Iterator[NDArray[np.float32]]:
    """Every image, fit for a map of the first one's size."""
    shape: tuple[int, ...] = ()
    for i in range(len(images)):
        image = _image(images[i], i)
        if isinstance(image, torch.Tensor):
            array = (image.float() if image.is_floating_point() else image).numpy(force=True)
        else:
            array = np.asarray(image)
        shape = shape or array.shape
        if problem := _problem(array, shape):
            name = Path(str(getattr(image, "meta", {}).get("filename_or_obj", f"image {i}"))).name
            raise CaseError(f"{name}: {problem}")
        yield array.astype(np.float32, copy=False)


def _image(item: Any, i: int) -> Any:
    if not isinstance(item, dict):
        return item
    if "image" not in item:
        raise CaseError(item.get("failure", f"image {i}: no 'image' among {', '.join(map(str, item))}"))
    return item["image"]


def _problem(array: NDArray[Any], shape: tuple[int, ...]) -> str:
    if array.shape != shape:
        return f"shape {array.shape}; expected {shape} as the first image has, one map fits one size"
    if array.ndim not in (3, 4) or not array.size:
        return f"shape {array.shape}; expected (C, H, W) or (C, D, H, W)"
    if not np.issubdtype(array.dtype, np.floating):
        return f"values of type {array.dtype}; expected floating point, normalized as for the network"
    return "" if np.isfinite(array).all() else "NaN or infinity in it; expected finite values"


def _grey(images: Sequence[Any]) -> bool:
    """Whether all channels of every image tell the same, up to how each is normalized."""
    for array in _arrays(images):
        unit = [(plane - plane.min()) / max(float(np.ptp(plane)), 1e-12) for plane in array]
        if any(float(np.abs(unit[0] - other).max()) > SAME for other in unit[1:]):
            return False
    return True


def _shaped(values: NDArray[Any], ndim: int) -> NDArray[Any]:
    """(C,) -> (C, 1, 1)."""
    return np.asarray(values).reshape(-1, *[1] * (ndim - 1))
