"""Weights that the authors of SonoNet have released, read into our SonoNet."""

import zipfile
import zlib
from pathlib import Path

import numpy as np
import torch

from ag_networks.nets import SonoNet

__all__ = ["load_sononet"]

CONVOLUTIONS = (2, 2, 3, 3, 3)
LAYERS = sum(CONVOLUTIONS) + 2  # with the two adaptation layers
ARRAYS_PER_LAYER = 5  # kernel; beta, gamma, mean and inverse standard deviation of the batch norm
EPSILON = 1e-4  # of the batch norms; it is in the inverse standard deviations


def load_sononet(path: str | Path) -> SonoNet:
    r"""SonoNet with the weights that its authors have released (``SonoNet16.npz``, ``SonoNet32.npz``, ...).

    A file holds five arrays for each of the 15 convolutions, ``arr_0`` to ``arr_74``: the kernel, used as it is stored,
    and of the batch norm :math:`\beta`, :math:`\gamma`, mean and inverse standard deviation, from which
    :math:`\sigma^2 = s^{-2} - 10^{-4}`. Filters, input channels and classes follow from the shapes.

    The 14 classes of the released files: 3VV, 4CH, Abdominal, Background, Brain (Cb.), Brain (Tv.), Femur, Kidneys,
    Lips, LVOT, Profile, RVOT, Spine (cor.), Spine (sag.). They were trained on frames of 224 rows and 288 columns,
    ``255 * (x - mean) / std`` per frame.

    Source: https://github.com/baumgach/SonoNet-weights (Apache-2.0); Baumgartner et al., IEEE TMI 36 (2017).

    Args:
        path: the file.

    Returns:
        the network in evaluation mode, in the authors' layout: ``convolutions=(2, 2, 3, 3, 3), bias=False`` and batch
        norms with an eps of 1e-4.

    Raises:
        ValueError: if the file is missing, damaged, or holds other arrays than those of a SonoNet.
    """
    path = Path(path)
    arrays = _read(path)
    kernels = arrays[::ARRAYS_PER_LAYER]
    network = SonoNet(
        2,
        kernels[0].shape[1],
        kernels[-1].shape[0],
        filters=kernels[0].shape[0],
        convolutions=CONVOLUTIONS,
        bias=False,
        norm=("batch", {"eps": EPSILON}),
    )
    state = network.state_dict()
    names = [name.removesuffix("conv.weight") for name in state if name.endswith("conv.weight")]
    for i, name in enumerate(names):
        kernel, beta, gamma, mean, inverse = arrays[ARRAYS_PER_LAYER * i : ARRAYS_PER_LAYER * (i + 1)]
        layer = {
            "conv.weight": kernel,
            "norm.bias": beta,
            "norm.weight": gamma,
            "norm.running_mean": mean,
            "norm.running_var": inverse.astype(np.float64) ** -2 - EPSILON,
        }
        for part, value in layer.items():
            if value.shape != state[name + part].shape:
                expected = tuple(state[name + part].shape)
                raise _unfit(path, f"the {part} of layer {i + 1} has the shape {value.shape} instead of {expected}")
            if not np.isfinite(value).all() or (part == "norm.running_var" and value.min() < 0):
                raise _unfit(path, f"the {part} of layer {i + 1} has values that it cannot have")
            state[name + part] = torch.from_numpy(value.astype(np.float32))
    network.load_state_dict(state)
    return network.eval()


def _read(path: Path) -> list[np.ndarray]:
    """The arrays in the order of their numbers."""
    if not path.is_file():
        raise ValueError(f"SonoNet weights {path.name} were not found in the folder '{path.parent.name}'.")
    names = [f"arr_{i}" for i in range(LAYERS * ARRAYS_PER_LAYER)]
    try:
        file = np.load(path, allow_pickle=False)
        found = set(getattr(file, "files", ()))
        arrays = [file[name] for name in names] if found == set(names) else []
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError) as error:
        raise ValueError(f"SonoNet weights {path.name} are damaged or none ({_first_line(error)}).") from None
    if not arrays:
        raise _unfit(path, f"it holds {len(found)} named arrays")
    if any(kernel.ndim != 4 for kernel in arrays[::ARRAYS_PER_LAYER]):
        raise _unfit(path, "not every fifth array is a 2D kernel")
    return arrays


def _unfit(path: Path, found: str) -> ValueError:
    expected = f"expected arr_0 to arr_{LAYERS * ARRAYS_PER_LAYER - 1}, five arrays for each of {LAYERS} layers"
    return ValueError(f"{path.name} is no SonoNet of its authors: {found}; {expected}.")


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0][:120] if str(error) else type(error).__name__
