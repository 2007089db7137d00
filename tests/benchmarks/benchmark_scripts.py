"""The benchmarks' scripts as commands, without a process of their own: each would import for seconds."""

import contextlib
import importlib
import io
import sys
from unittest import mock

from monai.data import get_track_meta, set_track_meta


def run_script(name: str, *arguments: object) -> str:
    """Return what `python benchmarks/NAME.py ARGUMENTS` prints; its end with an error is SystemExit."""
    printed = io.StringIO()
    command = [f"{name}.py", *map(str, arguments)]
    tracked = get_track_meta()
    try:
        with mock.patch.object(sys, "argv", command), contextlib.redirect_stdout(printed):
            importlib.import_module(name).main()
    finally:
        set_track_meta(tracked)  # what a script sets for its own process
    return printed.getvalue()
