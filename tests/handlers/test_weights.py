"""Checkpoints fit as a whole or are refused with one line."""

import hashlib
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from ag_networks.handlers import file_digest, load_imagenet, load_weights
from ag_networks.nets import AttentionGatedUNet, create_backbone, select_classes


def network(classes: int = 2) -> AttentionGatedUNet:
    return AttentionGatedUNet(2, 1, classes, channels=(4, 8, 16))


@pytest.mark.parametrize(
    "wrap",
    [
        pytest.param(lambda state: state, id="alone"),
        pytest.param(lambda state: {"model": state, "epoch": 3}, id="model"),
        pytest.param(lambda state: {"network": state, "epoch": 3, "best": (0.5, 2)}, id="last.pt"),
    ],
)
def test_all_weights_are_taken(wrap: Callable[[Any], Any], tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    saved, loaded = network(), network()
    torch.save(wrap(saved.state_dict()), tmp_path / "a.pt")
    with caplog.at_level(logging.INFO):
        load_weights(loaded, tmp_path / "a.pt")
    assert all(torch.equal(value, saved.state_dict()[key]) for key, value in loaded.state_dict().items())
    assert f"weights a.pt, sha256 {file_digest(tmp_path / 'a.pt')}" in caplog.text
    assert str(tmp_path) not in caplog.text


@pytest.mark.parametrize(
    ("classes", "saved"), [([0, 3], 5), ([1, 0], 3), (None, 2), ([0, 1], 2)], ids=["two of 5", "swapped", "all", "same"]
)
def test_classes_are_chosen_where_the_checkpoint_has_more(
    classes: list[int] | None, saved: int, tmp_path: Path
) -> None:
    many, few = network(saved), network()
    torch.save(many.state_dict(), tmp_path / "a.pt")
    load_weights(few, tmp_path / "a.pt", classes=classes)
    expected = many.state_dict() if saved == 2 else select_classes(many.state_dict(), classes or ())
    assert all(torch.equal(value, expected[key]) for key, value in few.state_dict().items())


def write(content: Any) -> Callable[[Path], None]:
    return lambda path: torch.save(content, path)


def write_bytes(content: bytes) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(content) and None


def without(key: str) -> dict[str, torch.Tensor]:
    return {name: value for name, value in network().state_dict().items() if name != key}


def cut(path: Path) -> None:
    torch.save(network().state_dict(), path)
    path.write_bytes(path.read_bytes()[:3000])


CORRUPT = r"checkpoint a.pt is corrupt or none \(.+\)\.$"
NO_STATE = r"checkpoint a.pt holds no state dict; expected parameter names and tensors\.$"
OTHER = r"checkpoint a.pt belongs to another network: "
BAD = [
    pytest.param(lambda path: None, "checkpoint a.pt was not found in the folder '", {}, id="missing"),
    pytest.param(write_bytes(b""), CORRUPT, {}, id="empty"),
    pytest.param(write_bytes(b"hello, world"), CORRUPT, {}, id="text"),
    pytest.param(write_bytes(b"PK\x03\x04" + bytes(100)), CORRUPT, {}, id="no zip"),
    pytest.param(write_bytes(bytes(range(256)) * 9), CORRUPT, {}, id="bytes"),
    pytest.param(cut, CORRUPT, {}, id="cut"),
    pytest.param(write(nn.Linear(2, 2)), CORRUPT, {}, id="a pickled module"),
    pytest.param(write({"a": np.ones(3)}), CORRUPT, {}, id="numpy"),
    pytest.param(write([1, 2]), NO_STATE, {}, id="a list"),
    pytest.param(write({"epoch": 3}), NO_STATE, {}, id="no tensors"),
    pytest.param(write({"model": 3}), NO_STATE, {}, id="model is none"),
    pytest.param(
        write(without("fuse.bias")), OTHER + "1 parameters are missing, 0 unknown and 0 .* fuse.bias", {}, id="one gone"
    ),
    pytest.param(
        write({**without(""), "x": torch.ones(1)}), OTHER + "0 .* 1 unknown and 0 .* x", {}, id="one too many"
    ),
    pytest.param(write(network(3).state_dict()), OTHER + ".* of another shape, for example decoder", {}, id="classes"),
    pytest.param(write(nn.Linear(2, 2).state_dict()), OTHER, {}, id="another network"),
    pytest.param(write(nn.Linear(2, 2).state_dict()), OTHER, {"classes": [0, 1]}, id="another network, with classes"),
    pytest.param(write(network(3).state_dict()), "within the 3 outputs", {"classes": [0, 3]}, id="no such class"),
    pytest.param(write(network(4).state_dict()), OTHER, {"classes": [0, 1, 2]}, id="too many classes"),
]


@pytest.mark.parametrize(("make", "message", "options"), BAD)
def test_what_does_not_fit_is_refused(
    make: Callable[[Path], None], message: str, options: dict[str, Any], tmp_path: Path
) -> None:
    make(tmp_path / "a.pt")
    mine = network()
    before = {key: value.clone() for key, value in mine.state_dict().items()}
    with pytest.raises(ValueError, match=message) as error:
        load_weights(mine, tmp_path / "a.pt", **options)
    assert str(tmp_path) not in str(error.value)
    assert "\n" not in str(error.value)
    assert all(torch.equal(value, before[key]) for key, value in mine.state_dict().items())


def test_digest(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert file_digest(tmp_path / "a") == hashlib.sha256(b"abc").hexdigest()[:16] == "ba7816bf8f01cfea"
    assert file_digest(tmp_path / "b") == "missing"


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        (True, ()),
        ("true", ()),
        ("True", ()),
        (False, None),
        ("false", None),
        ("False", None),
        ("resnet18.pth", ("resnet18.pth",)),
        (Path("a/b.pth"), (Path("a/b.pth"),)),
    ],
    ids=repr,
)
def test_imagenet_weights_are_loaded_if_asked_for(
    weights: Any, expected: tuple[Any, ...] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[Any, ...]] = []
    monkeypatch.setattr("ag_networks.handlers.weights.load_imagenet_weights", lambda *given: calls.append(given))
    backbone = nn.Linear(1, 1)
    load_imagenet(backbone, "resnet18", weights)
    assert calls == ([] if expected is None else [(backbone, "resnet18", *expected)])


def test_imagenet_weights_that_are_not_there_are_one_line(tmp_path: Path) -> None:
    backbone = create_backbone("resnet18", 2, block_inplanes=(2, 2, 2, 2), layers=(1, 1, 1, 1))
    with pytest.raises(ValueError, match=r"none\.pth") as refusal:
        load_imagenet(backbone, "resnet18", tmp_path / "none.pth")
    assert "\n" not in str(refusal.value)
    assert str(tmp_path) not in str(refusal.value)
