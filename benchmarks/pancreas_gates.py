"""Do the gates help? The same small 2D trainings with and without them, and tables from the saved cases.

    python benchmarks/pancreas_gates.py train --source DIR --results docs/results/pancreas_gates
    python benchmarks/pancreas_gates.py time --results docs/results/pancreas_gates
    python benchmarks/pancreas_gates.py tables --results docs/results/pancreas_gates

DIR holds ``slices/slices.csv``. Every run is one file of cases; runs whose file exists are not done again.
"""

import argparse
import json
import random
import time
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch
from _gates import NETWORKS, STEPS_SEEN, Slices, gate_focus, read_subjects, score, train
from _measure import forward_pass, paired_ratio, paired_times

from ag_networks.atomic import atomic_path
from ag_networks.metrics import CaseTable, compare_with_baseline

FOLDS = 5
TIMED_ROUNDS = 15
BASELINE = "unet"
ORGAN = "pancreas"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("train", "time", "tables"))
    parser.add_argument("--source", type=Path, help="folder with slices/slices.csv (train)")
    parser.add_argument("--results", type=Path, required=True, help="folder of the saved cases")
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=list(NETWORKS))
    parser.add_argument("--folds", nargs="+", type=int, default=list(range(FOLDS)))
    parser.add_argument("--subsets", nargs="+", default=["all", "quarter"], choices=("all", "quarter"))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--steps", type=int, default=400, help="length of every training (default: %(default)s)")
    arguments = parser.parse_args()
    if arguments.command == "tables":
        print(tables(arguments.results))
        return
    if arguments.command == "time":
        write_forward_ratios(arguments.results)
        return
    if arguments.source is None:
        parser.error("train needs --source")
    try:
        subjects = read_subjects(arguments.source / "slices")
    except OSError as error:
        parser.exit(2, f"error: {error}\n")
    for subset in arguments.subsets:
        for seed in arguments.seeds:
            for fold in arguments.folds:
                for name in arguments.networks:
                    run(subjects, arguments.results, name, subset, fold, seed, arguments.steps)


def run(
    subjects: dict[str, Slices], results: Path, name: str, subset: str, fold: int, seed: int, steps: int
) -> None:
    """Train one network on one fold, score the subjects left out, save their rows and where the gates look."""
    path = results / f"{name}_{subset}_fold{fold}_seed{seed}.csv"
    if path.is_file():
        return
    held_out = sorted(subjects)[fold::FOLDS]
    training = [subject for subject in sorted(subjects) if subject not in held_out]
    training = training[::4] if subset == "quarter" else training
    torch.manual_seed(seed)
    network = NETWORKS[name]()
    started = time.perf_counter()
    focus: dict[int, dict[str, float]] = {}

    def watch(step: int) -> None:
        if step in STEPS_SEEN or step == steps:
            focus[step] = gate_focus(network, [subjects[subject] for subject in held_out])

    train(network, [subjects[subject] for subject in training], steps=steps, seed=seed, watch=watch)
    table = CaseTable()
    for subject in held_out:
        table.add(subject, ORGAN, score(network, subjects[subject]))
    record = {
        "network": name,
        "subset": subset,
        "fold": fold,
        "seed": seed,
        "steps": steps,
        "parameters": sum(p.numel() for p in network.parameters()),
        "training_subjects": len(training),
        "seconds": round(time.perf_counter() - started),
        "focus": focus,
    }
    results.mkdir(parents=True, exist_ok=True)
    with atomic_path(path.with_suffix(".json")) as temporary:
        temporary.write_text(json.dumps(record, indent=1) + "\n")
    table.write_csv(path)
    print(f"{path.stem}: DSC {table.summary()[ORGAN].format('dsc')}, {record['seconds']} s", flush=True)


def write_forward_ratios(results: Path) -> None:
    """Forward time of every network over that of the baseline: slices of 256x256, shuffled rounds."""
    x = torch.zeros(1, 1, 256, 256)
    calls = {name: forward_pass(network(), x) for name, network in NETWORKS.items()}
    times = paired_times(calls, TIMED_ROUNDS, {}, random.Random(0))
    ratios = {name: paired_ratio(times[name], times[BASELINE]) for name in calls}
    with atomic_path(results / "forward.json") as path:
        path.write_text(json.dumps(ratios, indent=1) + "\n")


def tables(results: Path) -> str:
    """All tables, in Markdown, from the saved runs alone."""
    runs: dict[tuple[str, int], dict[str, list[Path]]] = defaultdict(lambda: defaultdict(list))
    records = {}
    for path in sorted(results.glob("*.csv")):
        record = records[path] = json.loads(path.with_suffix(".json").read_text())
        runs[record["subset"], record["seed"]][record["network"]].append(path)
    timed = results / "forward.json"
    forward = json.loads(timed.read_text()) if timed.is_file() else {}
    lines: list[str] = []
    for (subset, seed), networks in sorted(runs.items()):
        folds = {name: {records[path]["fold"] for path in paths} for name, paths in networks.items()}
        common = set.intersection(*folds.values())
        chosen = {
            name: [path for path in networks[name] if records[path]["fold"] in common]
            for name in NETWORKS
            if name in networks
        }
        some = records[next(iter(chosen.values()))[0]]
        lines += [
            f"### Training subjects: {subset} (about {some['training_subjects']}), {len(common)} of {FOLDS} folds, "
            f"seed {seed}, {some['steps']} steps",
            "",
            *_scores(chosen, records, forward),
            "",
            *_comparisons(chosen),
            "",
        ]
    return "\n".join([*lines, *_focus(records)])


def _scores(chosen: dict[str, list[Path]], records: dict[Path, dict], forward: dict[str, list[float]]) -> list[str]:
    lines = [
        "| network | parameters | forward / unet | cases | DSC | precision | recall | S2S (mm) | HD95 (mm) |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, paths in chosen.items():
        summary = _joined(paths).summary()[ORGAN]
        scores = " | ".join(summary.format(score) for score in ("dsc", "precision", "recall", "s2s_mm", "hd95_mm"))
        ratio = f"{forward[name][0]:.2f}" if name in forward else "-"
        lines.append(f"| {name} | {records[paths[0]]['parameters']:,} | {ratio} | {summary.cases} | {scores} |")
    return lines


def _comparisons(chosen: dict[str, list[Path]]) -> list[str]:
    if BASELINE not in chosen or len(chosen) < 2:
        return []
    columns = {name: _joined(paths).column("dsc", ORGAN) for name, paths in chosen.items()}
    baseline = columns.pop(BASELINE)
    lines = [
        f"| DSC against {BASELINE} | difference | 95 % interval | p (Wilcoxon) | p adjusted | effect size |",
        "|---|---|---|---|---|---|",
    ]
    for name, result in compare_with_baseline(columns, baseline).items():
        lines.append(
            f"| {name} | {result.difference:+.3f} | {result.ci_low:+.3f} to {result.ci_high:+.3f} | "
            f"{result.p_value:.3f} | {result.p_adjusted:.3f} | {result.effect_size:+.2f} |"
        )
    return lines


def _focus(records: dict[Path, dict]) -> list[str]:
    """Share of the coefficient mass at the organ over its chance level, by step, mean over the runs."""
    gains: dict[str, dict[str, dict[int, list[float]]]] = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
    for record in records.values():
        for step, values in record["focus"].items():
            for gate, gain in values.items():
                gains[record["network"]][gate][int(step)].append(gain)
    steps = sorted({step for gates in gains.values() for seen in gates.values() for step in seen})
    lines = ["### Where the gates look: share of their coefficients at the organ, over chance", ""]
    lines += [f"| network | gate | {' | '.join(f'step {step}' for step in steps)} |", "|---|---|" + "---|" * len(steps)]
    for name, gates in gains.items():
        for gate, seen in gates.items():
            means = " | ".join(f"{np.mean(seen[step]):.2f}" if step in seen else "-" for step in steps)
            lines.append(f"| {name} | {gate} | {means} |")
    return lines


def _joined(paths: list[Path]) -> CaseTable:
    """The rows of several folds in one table."""
    joined = CaseTable()
    for path in paths:
        for row in CaseTable.read_csv(path).rows:
            joined.add(row.case, row.class_name, row.scores)
    return joined


if __name__ == "__main__":
    main()
