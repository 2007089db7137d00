"""A server of MONAI Label on this machine, for the tests of `make test-label`."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

START_SECONDS = 300


def copy_bundle(bundle: Path, folder: Path) -> Path:
    """Copy a bundle without what runs may have left in it; MONAI Label takes the task from its name."""
    left_out = shutil.ignore_patterns("eval", "*.ts", "*.onnx", "__pycache__")
    return shutil.copytree(bundle, folder / bundle.name, ignore=left_out)


@contextmanager
def label_server(bundles: Sequence[Path], studies: Path, folder: Path, *options: str) -> Iterator[str]:
    """Serve copies of bundles and the images of `studies`, and yield the address; `folder` holds what that needs."""
    program = [sys.executable, "-m", "monailabel.main"]
    apps, log, port = folder / "apps", folder / "server.log", _free_port()
    subprocess.run([*program, "apps", "--download", "--name", "monaibundle", "--output", apps], check=True)
    for bundle in bundles:
        copy_bundle(bundle, apps / "monaibundle/model")
    command = [*program, "start_server", "--app", apps / "monaibundle", "--studies", studies, "--host", "127.0.0.1"]
    command += ["--port", port, "--conf", "models", ",".join(bundle.name for bundle in bundles)]
    command += ["--conf", "zoo_source", "local", "--conf", "sam2", "false", *options]
    with log.open("wb") as output:
        process = subprocess.Popen(list(map(str, command)), cwd=folder, stdout=output, stderr=subprocess.STDOUT)
        try:
            yield _wait_for(f"http://127.0.0.1:{port}", process, log)
        finally:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()


def get(url: str, form: dict[str, str] | None = None) -> bytes:
    """Get, or post a form."""
    data = urllib.parse.urlencode(form).encode() if form else None
    with urllib.request.urlopen(url, data, timeout=600) as answer:
        return answer.read()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _wait_for(address: str, process: subprocess.Popen, log: Path) -> str:
    end = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < end:
        try:
            get(f"{address}/info/")
        except (urllib.error.URLError, ConnectionError):
            time.sleep(1)
        else:
            return address
    raise AssertionError(f"no answer from the server:\n{log.read_text(errors='replace')[-3000:]}")
