"""The SonoNet authors' released weights as a checkpoint that the bundle's configs read."""

import argparse
from pathlib import Path

import torch

from ag_networks.atomic import atomic_path
from ag_networks.interop import load_sononet

__all__ = ["convert", "main"]

INPUT_SCALE = 255.0  # they were trained on 255 * (x - mean) / std


def main() -> None:
    """Command line of :func:`convert`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", type=Path, help="SonoNet16.npz, SonoNet32.npz or SonoNet64.npz")
    parser.add_argument("output", type=Path, help="checkpoint to write, such as sononet16.pt")
    arguments = parser.parse_args()
    try:
        convert(arguments.source, arguments.output)
    except (ValueError, OSError) as error:
        parser.exit(2, f"error: {error}\n")


def convert(source: Path, output: Path) -> None:
    """Write the state dict of :func:`ag_networks.interop.load_sononet` for whitened frames, (x - mean) / std.

    The factor 255 of the authors' preprocessing goes into the kernels of the first layer, which has no bias: the
    predictions stay the same.

    Raises:
        ValueError: if `source` is missing or holds no SonoNet.
    """
    state = load_sononet(source).state_dict()
    first = next(iter(state))
    state[first] = state[first] * INPUT_SCALE
    with atomic_path(output) as path:
        torch.save(state, path)


if __name__ == "__main__":
    main()
