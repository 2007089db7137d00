"""What speed.py measures with: the machine's ceilings, paired times, ratios, operations, and memory."""

import contextlib
import math
import random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from monai.losses import DiceLoss
from scipy.stats import bootstrap
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

__all__ = [
    "ceilings",
    "classification_step",
    "count_flops",
    "forward_pass",
    "memory_above",
    "paired_ratio",
    "paired_times",
    "training_step",
]

CLASSES = 4
PLANES = 14
PRODUCT_SIZES = (1024, 2048, 3072)
CONVOLUTIONS = ((32, 48), (64, 32), (128, 24), (256, 16))  # channels in and out, voxels along every axis


def forward_pass(network: nn.Module, x: torch.Tensor) -> Callable[[], None]:
    """One forward pass in inference mode, as a function without arguments."""

    def run() -> None:
        network.eval()
        with torch.inference_mode():
            network(x)
        _wait_for(x.device)

    return run


def training_step(network: nn.Module, x: torch.Tensor) -> Callable[[], None]:
    """Forward pass, soft Dice loss, backward pass and one step of Adam, as a function without arguments."""
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-4)
    loss = DiceLoss(softmax=True, to_onehot_y=True)
    target = torch.arange(x.numel(), device=x.device).remainder(CLASSES).view_as(x)

    def run() -> None:
        network.train()
        optimizer.zero_grad()
        loss(network(x), target).backward()
        optimizer.step()
        _wait_for(x.device)

    return run


def classification_step(network: nn.Module, x: torch.Tensor) -> Callable[[], None]:
    """Forward pass, cross entropy of every output, backward pass and one step of SGD with Nesterov momentum."""
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-3, momentum=0.9, nesterov=True)
    target = torch.arange(len(x), device=x.device).remainder(PLANES)

    def run() -> None:
        network.train()
        optimizer.zero_grad()
        outputs = network(x)
        scales = outputs if isinstance(outputs, list) else [outputs]
        torch.stack([nn.functional.cross_entropy(logits, target) for logits in scales]).sum().backward()
        optimizer.step()
        _wait_for(x.device)

    return run


def paired_times(
    calls: Mapping[str, Callable[[], None]], rounds: int, every: Mapping[str, int], rng: random.Random
) -> dict[str, list[float]]:
    """Seconds of every call in every round, in a new random order each round; NaN where a call sat a round out.

    A name in `every` is called in each so-many-th round only, beginning with the first.
    """
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(rounds):
        taking_part = [name for name in calls if number % every.get(name, 1) == 0]
        for name in rng.sample(taking_part, len(taking_part)):
            start = time.perf_counter()
            calls[name]()
            seconds[name].append(time.perf_counter() - start)
        for name in calls.keys() - taking_part:
            seconds[name].append(math.nan)
    return seconds


def paired_ratio(seconds: Sequence[float], base: Sequence[float]) -> list[float]:
    """Median of the ratios within the rounds, and its 95 % interval (percentile bootstrap): [median, low, high]."""
    ratios = np.divide(seconds, base)
    ratios = ratios[~np.isnan(ratios)]
    if len(ratios) < 2 or np.ptp(ratios) == 0:
        return [float(np.median(ratios))] * 3
    interval = bootstrap((ratios,), np.median, method="percentile", rng=np.random.default_rng(0)).confidence_interval
    return [float(np.median(ratios)), float(interval.low), float(interval.high)]


def ceilings(device: torch.device) -> dict[str, float]:
    """Highest rates of float32 arithmetic seen on this machine, in FLOP/s: matrix product, and 3D convolution."""
    products = [(torch.rand(n, n, device=device), torch.rand(n, n, device=device)) for n in PRODUCT_SIZES]
    layout = torch.channels_last_3d
    convolutions = []
    for channels, n in CONVOLUTIONS:
        x = torch.rand(1, channels, n, n, n, device=device).contiguous(memory_format=layout)
        weight = torch.rand(channels, channels, 3, 3, 3, device=device)
        convolutions.append((x, weight))
    with torch.inference_mode():
        return {
            "matrix product": max(_rate(lambda a=a, b=b: torch.mm(a, b), 2 * len(a) ** 3, device) for a, b in products),
            "3D convolution": max(
                _rate(lambda x=x, w=w: nn.functional.conv3d(x, w, padding=1), 54 * len(w) * x.numel(), device)
                for x, w in convolutions
            ),
        }


def count_flops(network: nn.Module, size: Sequence[int], *, training: bool, batch: int = 1) -> int:
    """Floating-point operations of one forward pass, or of forward and backward pass; nothing is computed."""
    network = network.to("meta").train(training)
    x = torch.zeros(batch, 1, *size, device="meta")
    with FlopCounterMode(display=False) as counter:
        if training:
            outputs = network(x)
            torch.stack([y.sum() for y in (outputs if isinstance(outputs, list) else [outputs])]).sum().backward()
        else:
            with torch.no_grad():
                network(x)
    return counter.get_total_flops()


def memory_above(call: Callable[[], None], device: torch.device) -> float | None:
    """Highest memory in use during a call above that in use before it, in bytes; None where it cannot be known.

    On a CPU this is the resident memory of the whole process (Linux only), so it needs a process of its own.
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        call()
        return torch.cuda.max_memory_allocated(device) - before
    status = Path("/proc/self/status")
    if not status.exists():
        return None
    with contextlib.suppress(OSError):  # forget the peak of what came before
        Path("/proc/self/clear_refs").write_text("5")
    before = _kilobytes(status.read_text(), "VmRSS")
    call()
    return 1024.0 * (_kilobytes(status.read_text(), "VmHWM") - before)


def _kilobytes(status: str, name: str) -> int:
    (line,) = (line for line in status.splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1])


def _rate(call: Callable[[], object], flops: float, device: torch.device, repeats: Iterable[int] = range(6)) -> float:
    seconds = []
    for _ in repeats:
        start = time.perf_counter()
        call()
        _wait_for(device)
        seconds.append(time.perf_counter() - start)
    return flops / min(seconds)


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
