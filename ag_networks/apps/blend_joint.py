"""Move the joint layer of a fine-tuned AG-SonoNet back toward its start."""

import argparse
from pathlib import Path

import torch

from ag_networks.atomic import atomic_path
from ag_networks.handlers.checkpoint import read_state_dict

__all__ = ["blend", "main"]


def main() -> None:
    """Command line of :func:`blend`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path, help="of a network with aggregation fine_tune and adaptation layers")
    parser.add_argument("output", type=Path, help="checkpoint to write")
    parser.add_argument("--share", type=float, required=True, help="of the trained layer, 0 to 1")
    arguments = parser.parse_args()
    try:
        blend(arguments.checkpoint, arguments.output, share=arguments.share)
    except (ValueError, OSError) as error:
        parser.exit(2, f"error: {error}\n")


def blend(checkpoint: Path, output: Path, *, share: float) -> None:
    """Write the state dict with a joint layer of `share` times what was learnt, and the rest what it started from.

    It starts from the logits of the coarsest scale alone, which adaptation layers make SonoNet's. A part of the way
    keeps more of what SonoNet knows about planes that the fine-tuning has not seen.

    Source: weight-space ensembling, Wortsman et al., *Robust fine-tuning of zero-shot models*, CVPR 2022, of one layer.

    Raises:
        ValueError: if `share` is not within 0 and 1, or the checkpoint is of another kind.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"share must lie within 0 and 1, got {share}.")
    state = read_state_dict(checkpoint)
    weight = state.get("joint.weight")
    if weight is None or weight.shape[1] != 3 * weight.shape[0] or not any(k.startswith("adaptation.") for k in state):
        raise ValueError(f"{checkpoint.name}: expected aggregation fine_tune and adaptation layers, found others.")
    classes = len(weight)
    start = torch.cat([torch.zeros(classes, 2 * classes), torch.eye(classes)], dim=1)
    state["joint.weight"] = share * weight + (1 - share) * start
    state["joint.bias"] = share * state["joint.bias"]
    with atomic_path(output) as path:
        torch.save(state, path)


if __name__ == "__main__":
    main()
