"""The fetal plane bundle beside its teacher: on the SonoNet authors' frames, and on public frames with coarse labels.

    python benchmarks/fetal_teacher.py measure --source DIR --teacher sononet16.pt --results results.csv
    python benchmarks/fetal_teacher.py tables --results docs/results/fetal_teacher.csv

DIR holds ``labels.csv`` (image, label, subject, source). A coarse label allows several planes: a brain may be either
brain plane, a thorax any of the four heart planes, a cervix or anything else is non-standard. Frames of subjects that
validated the training (``prepare_fetal_distillation``) are told apart from those it has seen.
"""

import argparse
import csv
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser
from tqdm import tqdm

from ag_networks.apps.prepare_fetal_distillation import EXAMPLES, validating_subjects
from ag_networks.atomic import atomic_path
from ag_networks.handlers import load_weights

BUNDLE = Path(__file__).parents[1] / "bundles" / "fetal_plane_classification"
HEART = ("3VV", "4CH", "LVOT", "RVOT")
ALLOWED = {
    "fetal_brain": ("Brain (Cb.)", "Brain (Tv.)"),
    "fetal_thorax": HEART,
    "fetal_abdomen": ("Abdominal",),
    "fetal_femur": ("Femur",),
    "maternal_cervix": ("Non-standard",),
    "other": ("Non-standard",),
}
FINE = {
    "3VV": "3VV",
    "4CH": "4CH",
    "ABDOMINAL": "Abdominal",
    "BRAIN-CB": "Brain (Cb.)",
    "BRAIN-TV": "Brain (Tv.)",
    "FEMUR": "Femur",
    "KIDNEYS": "Kidneys",
    "LIPS": "Lips",
    "LVOT": "LVOT",
    "PROFILE": "Profile",
    "RVOT": "RVOT",
    "SPINE-CORONAL": "Spine (cor.)",
    "SPINE-SAGITTAL": "Spine (sag.)",
}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("measure", "tables"))
    parser.add_argument("--source", type=Path, help="folder with labels.csv (measure)")
    parser.add_argument("--teacher", type=Path, help="what convert_sononet has written (measure)")
    parser.add_argument("--checkpoint", type=Path, default=BUNDLE / "models" / "model.pt", help="default: the shipped")
    parser.add_argument("--results", type=Path, required=True, help="CSV of the frames")
    arguments = parser.parse_args()
    if arguments.command == "tables":
        print(tables(_read(arguments.results)))
        return
    if arguments.source is None or arguments.teacher is None:
        parser.error("measure needs --source and --teacher")
    try:
        rows = measure(arguments.source, arguments.teacher, arguments.checkpoint)
    except (ValueError, OSError) as error:
        parser.exit(2, f"error: {error}\n")
    with atomic_path(arguments.results) as path, path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def measure(source: Path, teacher: Path, checkpoint: Path) -> list[dict[str, Any]]:
    """What student and teacher say about every frame."""
    parser = ConfigParser()
    parser.read_meta(str(BUNDLE / "configs" / "metadata.json"))
    parser.read_config([str(BUNDLE / "configs" / name) for name in ("train.json", "distill.json")])
    parser.update({"device": "$torch.device('cpu')", "network_def#aggregation": "fine_tune"})
    preprocessing = parser.get_parsed_content("preprocessing")
    networks = {name: parser.get_parsed_content(f"{name}_def") for name in ("network", "teacher")}
    for network, weights in zip(networks.values(), (checkpoint, teacher), strict=True):
        load_weights(network.eval(), weights)
    names = list(parser.get_parsed_content("class_names").values())
    rows = []
    with (source / "labels.csv").open(newline="") as file:
        frames = list(csv.DictReader(file))
    held_out = validating_subjects(frames)
    for frame in tqdm(frames, desc="frames"):
        image = preprocessing({"image": str(source / frame["image"])})["image"].as_tensor()[None]
        row = {"image": frame["image"], "label": frame["label"], "set": _set(frame, held_out)}
        for name, network in networks.items():
            with torch.inference_mode():
                probability, index = network(image).softmax(1)[0].max(0)
            row |= {name: names[index], f"{name}_probability": round(float(probability), 4)}
        rows.append(row)
    return rows


def tables(rows: list[dict[str, str]]) -> str:
    """Counts of right answers and of agreement, and the frames of FETAL_PLANES_DB on which the two differ."""
    sets: dict[str, list[dict[str, str]]] = defaultdict(list)
    for row in rows:
        sets[row["set"]].append(row)
    lines = ["| frames | number | SonoNet-16 right | this network right | agreement |", "|---|---|---|---|---|"]
    for name, part in sorted(sets.items()):
        teacher, network, same = (_count(part, right) for right in (_right("teacher"), _right("network"), _agree))
        lines.append(f"| {name} | {len(part)} | {teacher} | {network} | {same} |")
    lines += ["", "| label (FETAL_PLANES_DB) | number | SonoNet-16 right | this network right |", "|---|---|---|---|"]
    public = [row for row in rows if row["set"].startswith("FETAL_PLANES_DB")]
    for label in ALLOWED:
        part = [row for row in public if row["label"] == label]
        lines.append(
            f"| {label} | {len(part)} | {_count(part, _right('teacher'))} | {_count(part, _right('network'))} |"
        )
    lines += ["", "| frame | label | SonoNet-16 | this network |", "|---|---|---|---|"]
    for row in public:
        if not _agree(row):
            said = [f"{row[who]} ({float(row[f'{who}_probability']):.2f})" for who in ("teacher", "network")]
            frame = f"{Path(row['image']).stem}, {row['set'].split(', ')[1]}"
            lines.append(f"| {frame} | {row['label']} | {said[0]} | {said[1]} |")
    confusions = Counter((row["teacher"], row["network"]) for row in rows if not _agree(row))
    lines += ["", f"All frames: {sum(confusions.values())} of {len(rows)} differ."]
    return "\n".join(lines)


def _set(frame: dict[str, str], held_out: set[tuple[str, str]]) -> str:
    if frame["source"] == EXAMPLES:
        return "SonoNet authors' examples, never trained on"
    origin = frame["source"].split()[0]
    return f"{origin}, {'held out' if (origin, frame['subject']) in held_out else 'seen in training'}"


def _right(who: str) -> Callable[[dict[str, str]], bool]:
    return lambda row: row[who] in ((FINE[row["label"]],) if row["label"] in FINE else ALLOWED[row["label"]])


def _agree(row: dict[str, str]) -> bool:
    return row["teacher"] == row["network"]


def _count(rows: list[dict[str, str]], holds: Callable[[dict[str, str]], bool]) -> int:
    return sum(map(holds, rows))


def _read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


if __name__ == "__main__":
    main()
