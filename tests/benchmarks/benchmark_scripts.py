"""The benchmarks' scripts as commands, without a process of their own: each would import for seconds."""

import contextlib
import importlib
import io
import sys
from unittest import mock


def run_script(name: str, *arguments: object) -> str:
    """Return what `python benchmarks/NAME.py ARGUMENTS` prints; its end with an error is SystemExit."""
    printed = io.StringIO()
    command = [f"{name}.py", *map(str, arguments)]
    with mock.patch.object(sys, "argv", command), contextlib.redirect_stdout(printed):
        importlib.import_module(name).main()
    return printed.getvalue()
