"""What a global attention map costs against the number of training images, measured as far as it goes, computed beyond.

    python benchmarks/global_attention_cost.py measure --results docs/results/global_attention_cost.json
    python benchmarks/global_attention_cost.py tables --results docs/results/global_attention_cost.json

A step is the pixel CNN forward and backward, once per step of the optimizer, whatever the batch. Every measurement has
a process of its own. What the limits of time and memory do not allow is computed, and marked so; what is measured
already is not measured again.
"""

import argparse
import json
import math
import multiprocessing
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ag_networks.atomic import atomic_path
from ag_networks.blocks import PixelCNN
from ag_networks.data import PixelStack, project_pixels
from ag_networks.data.pixel_projection import OVERSAMPLING
from ag_networks.handlers.global_map import STEP_COPIES

__all__ = ["FORMS", "Case", "predict", "tables"]

IMAGES = (100, 413, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000)
FORMS = ("memory", "file", "principal", "random")
NAMES = {
    "memory": "exact, in memory",
    "file": "exact, chunks of a file",
    "principal": "principal components",
    "random": "random projections",
}
CHANNELS = 3
COMPONENTS = 64
CHUNK_IMAGES = 64
PASSES = {"principal": 6, "random": 1}  # of a projection over the set
GIB = 2.0**30
REPEATS = 3


@dataclass(frozen=True)
class Case:
    """One measurement: a form of the map, N images of size x size, K hidden channels."""

    form: str
    images: int
    hidden: int
    size: int

    @property
    def width(self) -> int:
        """Features of a pixel that the pixel CNN sees."""
        channels = self.images * CHANNELS
        return channels if self.form in ("memory", "file") else min(COMPONENTS, channels, self.size**2)

    @property
    def parameters(self) -> int:
        """K(9W + 1) + (K + 1) for W features (W = NC: section 4.8 of the paper)."""
        return self.hidden * (9 * self.width + 1) + self.hidden + 1

    @property
    def flop(self) -> float:
        """Operations of a step: forward, and the same again for the filters' gradient (P needs none)."""
        return 2 * 2.0 * self.size**2 * self.hidden * (9 * self.width + 1)

    @property
    def projection_flop(self) -> float:
        """Operations of the projection, once, without its small factorizations."""
        if self.form not in PASSES:
            return 0.0
        width = self.width + OVERSAMPLING * (self.form == "principal")
        return PASSES[self.form] * 2.0 * self.images * CHANNELS * self.size**2 * width

    @property
    def features_bytes(self) -> float:
        """What the pixel CNN holds of P: float32, or one chunk of it."""
        channels = min(self.width, CHUNK_IMAGES * CHANNELS) if self.form == "file" else self.width
        return 4.0 * channels * self.size**2

    @property
    def file_bytes(self) -> float:
        """P as uint8, on the disk."""
        return 1.0 * self.images * CHANNELS * self.size**2

    @property
    def adam_bytes(self) -> float:
        """Two moments of every parameter."""
        return 2 * 4.0 * self.parameters

    @property
    def expected_bytes(self) -> float:
        """What a step needs at its peak: features, rearranged; hidden channels; filters, their gradient, its sum."""
        hidden = 4.0 * self.hidden * self.size**2
        return STEP_COPIES * self.features_bytes + 4 * hidden + 3 * 4.0 * self.parameters


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("measure", "tables"))
    parser.add_argument("--results", type=Path, help="JSON file of the measurements")
    parser.add_argument("--images", nargs="+", type=int, default=list(IMAGES))
    parser.add_argument("--hidden", nargs="+", type=int, default=[32, 128], help="K (default: %(default)s)")
    parser.add_argument("--forms", nargs="+", default=list(FORMS), choices=FORMS)
    parser.add_argument("--size", type=int, default=224, help="pixels along a side (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=60.0, help="limit of a measurement (default: %(default)s)")
    parser.add_argument("--gib", type=float, default=6.0, help="limit of its memory, and of its file (default: 6)")
    parser.add_argument("--scratch", type=Path, help="folder for the files (default: the system's temporary one)")
    arguments = parser.parse_args()
    if arguments.results is None:
        parser.error(f"{arguments.command} needs --results")
    if arguments.command == "measure":
        measure_all(arguments)
    print(tables(_read(arguments.results)))


def measure_all(arguments: argparse.Namespace) -> None:
    """Measure what the limits allow, the smallest sets first, and save after each."""
    rows = _read(arguments.results)
    cases = [
        Case(form, images, hidden, arguments.size)
        for form in arguments.forms
        for hidden in arguments.hidden
        for images in sorted(arguments.images)
    ]
    for case in cases:
        known = next((row for row in rows if _case(row) == case), None)
        if known is not None and "seconds" in known:
            continue
        row: dict[str, Any] = asdict(case)
        if _allowed(case, rows, arguments.seconds, arguments.gib):
            row.update(_in_a_process(case, arguments.seconds, arguments.scratch))
            told = ", ".join(f"{key} {value:.3g}" for key, value in row.items() if isinstance(value, float))
            print(f"{case}: {told or 'over the limit of time'}", file=sys.stderr, flush=True)
        rows = [*(other for other in rows if _case(other) != case), row]
        with atomic_path(arguments.results) as path:
            path.write_text(json.dumps(rows, indent=1) + "\n")


def _allowed(case: Case, rows: Sequence[dict[str, Any]], seconds: float, gib: float) -> bool:
    memory = case.expected_bytes + (case.features_bytes if case.form == "memory" else 0)
    on_disk = case.file_bytes if case.form != "memory" else 0.0
    if max(memory, on_disk) > gib * GIB:
        return False
    expected = predict(case, rows)
    return expected is None or (1 + REPEATS) * expected[0] + expected[1] <= seconds


def predict(case: Case, rows: Sequence[dict[str, Any]]) -> tuple[float, float] | None:
    """Seconds of a step and of the projection, scaled from the largest measured set of the same kind, if any."""
    alike = [
        row
        for row in rows
        if "seconds" in row and (row["form"], row["hidden"], row["size"]) == (case.form, case.hidden, case.size)
    ]
    if not alike:
        return None
    largest = max(alike, key=lambda row: row["images"])
    base = _case(largest)
    projection = largest["projection_seconds"] * case.projection_flop / max(base.projection_flop, 1.0)
    return largest["seconds"] * case.flop / base.flop, projection


def _in_a_process(case: Case, seconds: float, scratch: Path | None) -> dict[str, float]:
    """The measurement; nothing if it takes too long. Making the images is allowed for with a minute."""
    # a copy of this process, in which nothing has been computed yet: importing everything anew would take longer
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_measure_and_send, args=(case, scratch, sender))
    process.start()
    sender.close()
    try:
        measured: dict[str, float] = receiver.recv() if receiver.poll(seconds + 60) else {}
    except EOFError:  # it has died
        process.join()
        raise SystemExit(f"error: {case} ended with exit code {process.exitcode}") from None
    process.kill()
    process.join()
    return measured


def _measure_and_send(case: Case, scratch: Path | None, sender: Any) -> None:
    sender.send(measure(case, scratch))


def measure(case: Case, scratch: Path | None) -> dict[str, float]:
    """Seconds of a step (median), of the projection, and peak memory above that before the images, in bytes.

    The peak is that of the resident memory: pages of the file count in it, which the system keeps while it has room.
    """
    before = _resident()
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        if case.form == "memory":
            pixels: Any = torch.empty(case.width, case.size, case.size).uniform_(-2, 2)
        else:
            pixels = _random_file(case, Path(folder) / "pixels.npy")
        started = time.perf_counter()
        if case.form in PASSES:
            pixels = project_pixels(pixels, case.width, method=case.form)
        projection = time.perf_counter() - started
        source = PixelCNN(pixels, hidden_channels=case.hidden)
        seconds = []
        for _ in range(1 + REPEATS):
            source.zero_grad()
            started = time.perf_counter()
            source().mean().backward()
            seconds.append(time.perf_counter() - started)
        peak = 1024.0 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "seconds": statistics.median(seconds[1:]),
        "projection_seconds": projection if case.form in PASSES else 0.0,
        "peak_bytes": max(peak - before, 0.0),
    }


def _random_file(case: Case, path: Path) -> PixelStack:
    """A set of noise: one picture's worth of bytes, turned by another amount for every image."""
    random = np.random.default_rng(0)
    noise = random.integers(0, 256, CHANNELS * case.size**2, dtype=np.uint8)
    shape = (case.images, CHANNELS, case.size, case.size)
    values = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)
    for image in values:
        image[:] = np.roll(noise, random.integers(noise.size)).reshape(image.shape)
    values.flush()
    del values
    return PixelStack(
        np.load(path, mmap_mode="r"), low=[-2.0] * CHANNELS, high=[2.0] * CHANNELS, chunk_images=CHUNK_IMAGES
    )


def tables(rows: Sequence[dict[str, Any]]) -> str:
    """A table for each K and size, in Markdown."""
    lines: list[str] = []
    for hidden, size in sorted({(row["hidden"], row["size"]) for row in rows}):
        lines += [
            f"### K = {hidden}, color images of {size} x {size}",
            "",
            "| images | form | parameters | GFLOP per step | P, float32 | P, uint8 file | Adam's state "
            "| seconds per step | projection, once | peak memory |",
            "|---|---|---|---|---|---|---|---|---|---|",
        ]
        chosen = [_case(row) for row in rows if (row["hidden"], row["size"]) == (hidden, size)]
        for case in sorted(chosen, key=lambda case: (case.images, FORMS.index(case.form))):
            lines.append(_line(case, rows))
        lines.append("")
    note = (
        "*: computed from the largest measured set of the same form; memory from the shapes, without the pages of the "
        "file, which the measured peaks hold."
    )
    return "\n".join([*lines, note])


def _line(case: Case, rows: Sequence[dict[str, Any]]) -> str:
    row = next(row for row in rows if _case(row) == case)
    predicted = predict(case, rows)
    if "seconds" in row:
        times, mark = (row["seconds"], row["projection_seconds"]), ""
    else:
        times, mark = predicted or (math.nan, math.nan), " *"
    cells = [
        f"{case.images:,}",
        NAMES[case.form],
        f"{case.parameters:,}",
        f"{case.flop / 1e9:,.1f}",
        _size(4 * case.file_bytes),
        _size(case.file_bytes) if case.form != "memory" else "-",
        _size(case.adam_bytes),
        "-" if math.isnan(times[0]) else f"{times[0]:.3g}{mark}",
        f"{times[1]:.3g}{mark}" if case.form in PASSES and not math.isnan(times[1]) else "-",
        _size(row.get("peak_bytes", case.expected_bytes)) + mark,
    ]
    return f"| {' | '.join(cells)} |"


def _size(count: float) -> str:
    return f"{count / GIB:,.2f} GiB" if count >= 0.1 * GIB else f"{count / 2**20:,.1f} MiB"


def _case(row: dict[str, Any]) -> Case:
    return Case(row["form"], row["images"], row["hidden"], row["size"])


def _resident() -> float:
    """Resident memory of this process now, in bytes."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return float(pages * resource.getpagesize())


def _read(path: Path) -> list[dict[str, Any]]:
    return json.loads(path.read_text()) if path.is_file() else []


if __name__ == "__main__":
    main()
