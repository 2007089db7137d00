"""What users give a bundle's configs on the command line, and how its mistakes are reported."""

import logging
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

__all__ = ["or_exit", "switch", "writable_folder"]

_logger = logging.getLogger(__name__)


def or_exit(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call a function; a mistake of the user ends the program with one line instead of a traceback.

    For calls in a bundle's config. A mistake is a ``ValueError``, an ``OSError`` or an ``ImportError`` (of an extra
    that is not installed), or one inside the errors that MONAI wraps around what its transforms raise, if this package
    raised it or the system did. Other errors pass.

    Raises:
        SystemExit: with the message, on one line, and a non-zero exit code.

    Example:
        >>> or_exit(int, "3")
        3
        >>> or_exit(int, "three")
        Traceback (most recent call last):
            ...
        SystemExit: error: invalid literal for int() with base 10: 'three'
    """
    try:
        return function(*args, **kwargs)
    except Exception as error:
        mistake = next((cause for cause in _chain(error) if _is_mistake(cause, error)), None)
        if mistake is None:
            raise
        _logger.debug("failed", exc_info=True)
        text: object = mistake
        if isinstance(mistake, OSError) and mistake.filename:
            text = f"{mistake.strerror}: {Path(mistake.filename).name}"
        raise SystemExit(f"error: {' '.join(str(text).split())}") from None


def switch(value: object) -> bool:
    """A switch as the command line gives it: ``--name true`` arrives in a config as text, and any text is true.

    Raises:
        SystemExit: if it is neither true nor false.

    Example:
        >>> switch(True), switch("true"), switch("False"), switch(0)
        (True, True, False, False)
    """
    text = str(value).strip().lower()
    if text not in ("true", "false", "1", "0"):
        raise SystemExit(f"error: a switch is set to {value!r}; expected true or false")
    return text in ("true", "1")


def writable_folder(path: str | Path) -> Path:
    """Make a folder, and write into it: what cannot be written is better known before the work than after it.

    Raises:
        ValueError: if that fails, with the reason.
    """
    path = Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path) as file:
            file.write(b"\0")
    except OSError as error:
        found = f"cannot be written to ({error.strerror})"
        raise ValueError(f"output folder '{path.name}': {found}; expected a folder with space and permission") from None
    return path


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def _is_mistake(cause: BaseException, error: Exception) -> bool:
    if isinstance(cause, OSError):
        return True
    trace = cause.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    raised_here = trace is not None and trace.tb_frame.f_globals.get("__name__", "").startswith("ag_networks.")
    return isinstance(cause, (ValueError, ImportError)) and (cause is error or raised_here)
