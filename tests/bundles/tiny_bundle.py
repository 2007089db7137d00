"""What the tests of every bundle do with it at a size that tests can run: in this process, or by the command."""

import csv
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigWorkflow

BUNDLES = Path(__file__).resolve().parents[2] / "bundles"
TWO_PROCESSES = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m")


@dataclass(frozen=True)
class TinyBundle:
    """A bundle's folder, and the overrides that make its inference and its training small."""

    folder: Path
    tiny: dict[str, Any]
    tiny_training: dict[str, Any]

    def config_files(self, *names: str) -> list[str]:
        return [str(self.folder / "configs" / f"{name}.json") for name in names]

    def workflow(self, *names: str, **overrides: Any) -> ConfigWorkflow:
        """Return the initialized workflow of merged configs; `monai.bundle run` does the same."""
        kind = "infer" if names[0] == "inference" else "train"
        made = ConfigWorkflow(self.config_files(*names), workflow_type=kind, logging_file=False, **overrides)
        made.initialize()
        return made

    def training(self, dataset: Path, output: Path, *names: str, **overrides: Any) -> ConfigWorkflow:
        """Return the initialized workflow of train.json and overlays, at test size."""
        paths = {"dataset_dir": dataset, "datalist_file": dataset / "datalist.json", "output_dir": output}
        paths = {key: str(path) for key, path in paths.items()}
        return self.workflow("train", *names, **{**self.tiny_training, **paths, **overrides})

    def train(self, dataset: Path, output: Path, *names: str, **overrides: Any) -> ConfigWorkflow:
        """Run it."""
        made = self.training(dataset, output, *names, **overrides)
        made.run()
        made.finalize()
        return made

    def infer(self, dataset: Path, output: Path, weights: Path, *names: str, **overrides: Any) -> ConfigWorkflow:
        """Run the inference at test size."""
        paths = {"dataset_dir": str(dataset), "output_dir": str(output), "checkpoint": str(weights)}
        made = self.workflow("inference", *names, **{**self.tiny, **paths, **overrides})
        made.run()
        made.finalize()
        return made

    def run_command(
        self,
        *names: str,
        cwd: Path,
        launcher: tuple[str, ...] = ("-m",),
        kill_when: Callable[[], bool] | None = None,
        **overrides: Any,
    ) -> subprocess.CompletedProcess[str]:
        """Run the documented command in a process of its own, to its end or till killed."""
        command = [sys.executable, *launcher, "monai.bundle", "run", "--config_file", str(self.config_files(*names))]
        for key, value in overrides.items():
            command += [f"--{key}", value if isinstance(value, str) else json.dumps(value)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        with subprocess.Popen(command, cwd=cwd, env=environment, **pipes) as process:
            while kill_when is not None and process.poll() is None:
                if kill_when():
                    process.kill()
                time.sleep(0.01)
            stdout, stderr = process.communicate(timeout=900)
        return subprocess.CompletedProcess(command, process.returncode, stdout, stderr)

    def run_in_two(self, *names: str, cwd: Path, **overrides: Any) -> None:
        """Run it at test size in two processes; the overlays choose the device by the process."""
        settings = {key: value for key, value in self.tiny_training.items() if key != "device"}
        run = self.run_command(*names, launcher=TWO_PROCESSES, cwd=cwd, **{**settings, **overrides})
        assert run.returncode == 0, run.stderr[-3000:]


def class_names(bundle: Path) -> list[str]:
    """Return the classes that a bundle's metadata names."""
    metadata = json.loads((bundle / "configs/metadata.json").read_text(encoding="utf-8"))
    return list(metadata["network_data_format"]["outputs"]["pred"]["channel_def"].values())


def last(output: Path) -> dict[str, Any]:
    """Return the state of the last epoch of a training."""
    return torch.load(output / "checkpoints/last.pt", weights_only=True)


def states_equal(a: Any, b: Any) -> bool:
    """Whether two saved states are equal bit for bit."""
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(states_equal(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(states_equal, a, b))
    return a == b


def predictions(output: Path) -> dict[str, dict[str, str]]:
    """Return the rows of predictions.csv by image."""
    with (output / "predictions.csv").open(newline="", encoding="utf-8") as file:
        return {row["image"]: row for row in csv.DictReader(file)}


def report(output: Path) -> dict[str, Any]:
    """Return predictions.json."""
    return json.loads((output / "predictions.json").read_text(encoding="utf-8"))


def files_of(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
