"""Checkpoint files, read with one clear line for what is wrong with them."""

from pathlib import Path

import torch

__all__ = ["read_state_dict"]


def read_state_dict(path: str | Path, *, device: torch.device | str = "cpu") -> dict[str, torch.Tensor]:
    """The parameters and buffers in a checkpoint, by their names.

    Args:
        path: a state dict, alone or under the key ``model`` or ``network``.
        device: where to read it to.

    Raises:
        ValueError: if the file is missing or no checkpoint.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"checkpoint {path.name} was not found in the folder '{path.parent.name}'.")
    try:
        state = torch.load(path, map_location=device, weights_only=True)
    except (MemoryError, PermissionError):
        raise
    except Exception as error:  # what torch raises for damaged files has no common base class
        raise ValueError(f"checkpoint {path.name} is corrupt or none ({_first_line(error)}).") from None
    if isinstance(state, dict):
        state = next((state[key] for key in ("model", "network") if key in state), state)
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise ValueError(f"checkpoint {path.name} holds no state dict; expected parameter names and tensors.")
    return state


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0][:120] if str(error) else type(error).__name__
