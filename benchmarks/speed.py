"""Time, memory and operations of our networks and their peers, side by side on this machine.

Run ``python benchmarks/speed.py``: segmentation networks see volumes, classification networks frames. The tables go to
the standard output, what is being done to the standard error.
"""

import argparse
import json
import random
import statistics
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from _measure import (
    CLASSES,
    PLANES,
    ceilings,
    classification_step,
    count_flops,
    forward_pass,
    memory_above,
    paired_ratio,
    paired_times,
    training_step,
)
from monai.networks.nets import AttentionUnet, BasicUNet
from torch import nn

from ag_networks.atomic import atomic_path
from ag_networks.registry import create_network


@dataclass(frozen=True)
class Peer:
    """A network to measure: what builds it, how many axes its images have, and the plain network it is divided by."""

    build: Callable[[], nn.Module]
    dims: int
    base: str


NETWORKS = {
    "attention_unet": Peer(lambda: create_network("attention_unet", out_channels=CLASSES), 3, "unet"),
    "unet": Peer(lambda: create_network("unet", out_channels=CLASSES), 3, "unet"),
    # as many parameters as our gated one, with the papers' widths up to the bottleneck
    "monai_attention_unet": Peer(
        lambda: AttentionUnet(3, 1, CLASSES, channels=(16, 32, 64, 128, 280), strides=(2, 2, 2, 2)), 3, "unet"
    ),
    # the papers' widths give it nearly the parameters of our plain one
    "monai_basic_unet": Peer(lambda: BasicUNet(3, 1, CLASSES, features=(16, 32, 64, 128, 256, 16)), 3, "unet"),
}
for _filters in (8, 16, 32):
    for _kind in ("attention_sononet", "sononet"):
        _name = f"{_kind}_{_filters}"
        NETWORKS[_name] = Peer(partial(create_network, _name, out_channels=PLANES), 2, f"sononet_{_filters}")
PASSES = {
    3: {"forward": forward_pass, "training step": training_step},
    2: {"forward": forward_pass, "training step": classification_step},
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what the command line asks for and print the tables."""
    options = _parse(arguments)
    torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    _say("rates of a matrix product and of a 3D convolution")
    rates = ceilings(device)
    highest = max(rates.values())
    results: dict[str, Any] = {"torch": torch.__version__, "threads": options.threads, "ceilings": rates, "sizes": {}}
    print(", ".join(f"{kind} {rate / 1e9:.0f} GFLOP/s" for kind, rate in rates.items()), f"; {options.threads} threads")
    for size in options.sizes:
        names = [name for name in options.networks if NETWORKS[name].dims == len(size)]
        for batch in options.batches if len(size) == 2 and names else [1] * bool(names):
            name = "x".join(map(str, size)) + (f", batch {batch}" if len(size) == 2 else "")
            results["sizes"][name] = {}
            for kind in PASSES[len(size)]:
                repeats = options.repeats if kind == "forward" else max(options.repeats // 3, 1)
                rows = _measure(kind, (batch, 1, *size), names, repeats, options.threads, device)
                results["sizes"][name][kind] = rows
                _print_table(f"{name}, {kind}", rows, highest)
    if options.json:
        with atomic_path(options.json) as path:
            path.write_text(json.dumps(results, indent=4) + "\n")


def _measure(
    kind: str, shape: tuple[int, ...], names: Sequence[str], repeats: int, threads: int, device: torch.device
) -> dict[str, dict[str, Any]]:
    """One row a network: parameters, FLOPs, seconds of every repeat, ratio to the plain network, memory."""
    _say(f"{'x'.join(map(str, shape))}: {kind}, {repeats} repeats of {len(names)} networks")
    x = torch.rand(shape, device=device)
    networks = {name: NETWORKS[name].build().to(device) for name in names}
    run = PASSES[len(shape) - 2][kind]
    calls = {name: run(network, x) for name, network in networks.items()}
    for call in calls.values():
        call()
    seconds = paired_times(calls, repeats, {}, random.Random(0))
    rows = {}
    for name in names:
        # on a CPU the memory of one network is that of a process of its own
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            memory = pool.submit(_memory, kind, name, shape, threads, str(device)).result()
        base, training = NETWORKS[name].base, kind != "forward"
        rows[name] = {
            "parameters": sum(p.numel() for p in networks[name].parameters()),
            "flops": count_flops(NETWORKS[name].build(), shape[2:], training=training, batch=shape[0]),
            "seconds": seconds[name],
            "ratio": paired_ratio(seconds[name], seconds[base if base in names else names[0]]),
            "memory": memory,
        }
    return rows


def _memory(kind: str, name: str, shape: tuple[int, ...], threads: int, device: str) -> float | None:
    torch.set_num_threads(threads)
    target = torch.device(device)
    network, run = NETWORKS[name].build().to(target), PASSES[len(shape) - 2][kind]
    small = torch.rand(1, 1, *[32] * (len(shape) - 2), device=target)
    run(network, small)()  # what libraries keep is not the network's
    return memory_above(run(network, torch.rand(shape, device=target)), target)


def _print_table(title: str, rows: dict[str, dict[str, Any]], ceiling: float) -> None:
    print(f"\n### {title}\n\n| network | parameters | GFLOP | median s | share of the ceiling | time / plain | MiB |")
    print("|---|---|---|---|---|---|---|")
    for name, row in rows.items():
        median = statistics.median(row["seconds"])
        ratio, low, high = row["ratio"]
        memory = "-" if row["memory"] is None else f"{row['memory'] / 2**20:.0f}"
        print(
            f"| {name} | {row['parameters']:,} | {row['flops'] / 1e9:.1f} | {median:.3f} "
            f"| {row['flops'] / median / ceiling:.0%} | {ratio:.3f} [{low:.3f}, {high:.3f}] | {memory} |",
            flush=True,
        )


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sizes = [(96, 96, 96), (160, 160, 96), (208, 272)]
    parser.add_argument("--sizes", type=_size, nargs="+", default=sizes, help="such as 96x96x96 208x272")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 64], help="of frames; volumes come one by one")
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--repeats", type=int, default=9, help="of the forward pass; a third for training")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path, help="file for all single times")
    return parser.parse_args(arguments)


def _size(text: str) -> tuple[int, ...]:
    size = tuple(int(part) for part in text.split("x"))
    if len(size) not in (2, 3) or any(n < 1 for n in size):
        raise argparse.ArgumentTypeError(f"expected two or three numbers such as 208x272 or 96x96x96, got {text!r}")
    return size


def _say(stage: str) -> None:
    print(f"==> {stage}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
