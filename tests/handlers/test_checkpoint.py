"""Checkpoint files: what is read from them, and the one line for what cannot be read."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ag_networks.handlers.checkpoint import read_state_dict

STATE = {"a.weight": torch.arange(4.0), "a.bias": torch.ones(2)}


@pytest.mark.parametrize(
    "content", [STATE, {"model": STATE}, {"network": STATE, "epoch": 3}], ids=["alone", "model", "network"]
)
def test_the_state_is_found(content: Any, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "a.pt")
    torch.testing.assert_close(dict(read_state_dict(tmp_path / "a.pt")), STATE)


def save(content: Any) -> Callable[[Path], None]:
    return lambda path: torch.save(content, path)


BAD: dict[str, tuple[Callable[[Path], Any], str]] = {
    "missing": (lambda path: None, r"checkpoint a\.pt was not found in the folder '"),
    "empty": (lambda path: path.write_bytes(b""), r"checkpoint a\.pt is corrupt or none \("),
    "text": (lambda path: path.write_text("hello"), r"checkpoint a\.pt is corrupt or none \("),
    "numpy": (save({"a": np.ones(3)}), r"checkpoint a\.pt is corrupt or none \("),
    "a list": (save([1, 2]), r"checkpoint a\.pt holds no state dict; expected parameter names and tensors\.$"),
    "no tensors": (save({"epoch": 3}), r"checkpoint a\.pt holds no state dict"),
}


@pytest.mark.parametrize(("make", "message"), BAD.values(), ids=BAD)
def test_what_is_no_checkpoint_is_refused(make: Callable[[Path], Any], message: str, tmp_path: Path) -> None:
    make(tmp_path / "a.pt")
    with pytest.raises(ValueError, match=message) as error:
        read_state_dict(tmp_path / "a.pt")
    assert str(tmp_path) not in str(error.value)
    assert "\n" not in str(error.value)
