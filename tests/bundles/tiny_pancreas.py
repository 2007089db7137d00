"""The pancreas bundle at a size that tests can run: a tiny network, a coarse grid, small windows."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigWorkflow

from ag_networks.nets import AttentionGatedUNet

BUNDLE = Path(__file__).resolve().parents[2] / "bundles" / "pancreas_ct_segmentation"
SPACING_MM = (8.0, 8.0, 8.0)
SHAPE = (44, 36, 24)
KERNELS, STRIDES = [[3, 3, 1], [3, 3, 3], [3, 3, 3]], [[2, 2, 1], [2, 2, 2]]
TINY = {
    "bundle_root": str(BUNDLE),
    "device": "$torch.device('cpu')",
    "network_def#channels": [4, 8, 16],
    "network_def#kernel_size": KERNELS,
    "network_def#strides": STRIDES,
    "spacing": list(SPACING_MM),
    "inferer#roi_size": [32, 32, 32],
}
TINY_TRAINING = {**TINY, "roi_size": [24, 24, 16], "batch_size": 1, "max_epochs": 2, "val_interval": 1}


def tiny_network(out_channels: int = 2) -> AttentionGatedUNet:
    """Return the network that the overrides of `TINY` describe, with random weights."""
    shape = {"channels": (4, 8, 16), "kernel_size": KERNELS, "strides": STRIDES}
    return AttentionGatedUNet(3, 1, out_channels, gates=2, deep_supervision="fused", **shape).eval()


def config_files(*names: str) -> list[str]:
    return [str(BUNDLE / "configs" / f"{name}.json") for name in names]


def workflow(*names: str, **overrides: Any) -> ConfigWorkflow:
    """Return the initialized workflow of merged configs; `monai.bundle run` does the same."""
    kind = "infer" if names == ("inference",) else "train"
    made = ConfigWorkflow(config_files(*names), workflow_type=kind, logging_file=False, **overrides)
    made.initialize()
    return made


def training(dataset: Path, output: Path, *names: str, **overrides: Any) -> ConfigWorkflow:
    """Return the initialized workflow of train.json and overlays, at test size."""
    paths = {"dataset_dir": dataset, "datalist_file": dataset / "datalist.json", "output_dir": output}
    paths = {key: str(path) for key, path in paths.items()}
    return workflow("train", *names, **{**TINY_TRAINING, **paths, **overrides})


def train(dataset: Path, output: Path, *names: str, **overrides: Any) -> ConfigWorkflow:
    """Run it."""
    made = training(dataset, output, *names, **overrides)
    made.run()
    made.finalize()
    return made


def last(output: Path) -> dict[str, Any]:
    """Return the state of the last epoch of a training."""
    return torch.load(output / "checkpoints/last.pt", weights_only=True)


def infer(dataset: Path, output: Path, weights: Path, **overrides: Any) -> ConfigWorkflow:
    """Run the inference at test size."""
    paths = {"dataset_dir": str(dataset), "output_dir": str(output), "checkpoint": str(weights)}
    made = workflow("inference", **{**TINY, **paths, **overrides})
    made.run()
    made.finalize()
    return made


def run_command(
    *names: str,
    cwd: Path,
    launcher: tuple[str, ...] = ("-m",),
    kill_when: Callable[[], bool] | None = None,
    **overrides: Any,
) -> subprocess.CompletedProcess[str]:
    """Run the documented command, `python -m monai.bundle run`, in a process of its own, to its end or till killed."""
    command = [sys.executable, *launcher, "monai.bundle", "run", "--config_file", str(config_files(*names))]
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


def same_weights(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    """Whether two state dicts are equal bit for bit."""
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def write_datalist(folder: Path, **parts: list[str]) -> Path:
    """Write a datalist of cases that lie in `images` and `labels`."""
    content = {
        part: [{"image": f"images/{name}.nii.gz", "label": f"labels/{name}.nii.gz"} for name in names]
        for part, names in parts.items()
    }
    path = folder / "datalist.json"
    path.write_text(json.dumps(content))
    return path
