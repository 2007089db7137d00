"""A mistake of the user is one line; a fault of the program stays what it is."""

import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from monai.transforms import Compose
from monai.utils import instantiate

from ag_networks.data import CaseError, CTReader
from ag_networks.handlers import or_exit, switch, writable_folder


def fail(error: Exception) -> Callable[..., Any]:
    def function(*args: Any) -> Any:
        raise error

    return function


def read(path: str) -> Any:
    return CTReader().get_data([Path(path)])


def test_the_result_is_returned() -> None:
    assert or_exit(dict, [("a", 1)], b=2) == {"a": 1, "b": 2}


MISTAKES = [
    pytest.param(fail(ValueError("two\n lines")), "error: two lines", id="ValueError"),
    pytest.param(fail(CaseError("x: bad")), "error: x: bad", id="CaseError"),
    pytest.param(
        fail(FileNotFoundError(errno.ENOENT, "No such file", "some/folder/x.nii")),
        "error: No such file: x.nii",
        id="OSError",
    ),
    pytest.param(Compose([read]), "error: x.nii: no such file; expected a 3D NIfTI", id="within a transform"),
    pytest.param(
        lambda path: instantiate(lambda data: Compose([Compose([read])])(data), "default", data=path),
        "error: x.nii: no such file; expected",
        id="within an object of a config",
    ),
    pytest.param(Compose([fail(OSError(errno.ENOSPC, "No space"))]), "error: [Errno 28] No space", id="of the system"),
]


@pytest.mark.parametrize(("function", "message"), MISTAKES)
def test_a_mistake_ends_the_program_with_one_line(function: Callable[..., Any], message: str) -> None:
    with pytest.raises(SystemExit) as stop:
        or_exit(function, "some/folder/x.nii")
    assert str(stop.value).startswith(message)
    assert "\n" not in str(stop.value)


FAULTS = [
    pytest.param(fail(KeyError("x")), KeyError, id="KeyError"),
    pytest.param(fail(RuntimeError("x")), RuntimeError, id="RuntimeError"),
    pytest.param(Compose([fail(ValueError("x"))]), RuntimeError, id="ValueError of another package in a transform"),
    pytest.param(fail(MemoryError()), MemoryError, id="MemoryError"),
    pytest.param(fail(SystemExit("x")), SystemExit, id="SystemExit"),  # type: ignore[arg-type]
]


@pytest.mark.parametrize(("function", "error"), FAULTS)
def test_a_fault_keeps_its_traceback(function: Callable[..., Any], error: type[BaseException]) -> None:
    with pytest.raises(error):
        or_exit(function, "x")


@pytest.mark.parametrize("value", [True, "true", "True", " TRUE ", 1, "1"], ids=repr)
def test_switched_on(value: object) -> None:
    assert switch(value) is True


@pytest.mark.parametrize("value", [False, "false", "False", 0, "0"], ids=repr)
def test_switched_off(value: object) -> None:
    assert switch(value) is False


@pytest.mark.parametrize("value", ["yes", "", None, 2, "flase", []], ids=repr)
def test_not_a_switch(value: object) -> None:
    with pytest.raises(SystemExit, match="expected true or false"):
        switch(value)


def test_the_folder_is_made_and_left_empty(tmp_path: Path) -> None:
    assert writable_folder(tmp_path / "a" / "b") == tmp_path / "a" / "b"
    assert list((tmp_path / "a" / "b").iterdir()) == []
    writable_folder(str(tmp_path / "a"))


def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    for path, reason in (("file", "File exists"), ("file/out", "Not a directory")):
        with pytest.raises(ValueError, match=rf"^output folder '\w+': cannot be written to \({reason}\); expected"):
            writable_folder(tmp_path / path)

    def full(**options: Any) -> Any:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("tempfile.TemporaryFile", full)
    with pytest.raises(ValueError, match=r"^output folder 'new': cannot be written to \(No space left on device\)"):
        writable_folder(tmp_path / "new")
