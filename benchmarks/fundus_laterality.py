"""Which IDRiD eyes FlipRightEye mirrors, against the paper's lists (Xu et al., supplement, 1.1) and annotated discs.

    python benchmarks/fundus_laterality.py --source DIR

DIR holds ``labels.csv`` and, if discs are to be compared, ``lesion_boxes.csv`` with relative boxes. The finder's
numbers were fitted on the training part.
"""

import argparse
import csv
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from monai.data import MetaTensor
from monai.transforms import LoadImage
from tqdm import tqdm

from ag_networks.transforms import FundusCrop, OpticDisc, find_optic_disc

MIN_CONFIDENCE = 0.2  # FlipRightEye's

# The paper counts from 0: index 0 of the training part is its IDRiD_001.
MIRRORED = {
    "train": """
        0 6 8 9 12 13 16 17 19 21 22 24 26 28 30 32 34 36 38 40 45 46 48 51 54 56 58 60 61 63 64 65 66 68 70 73
        75 77 79 81 84 86 89 90 93 94 98 99 100 101 102 104 106 109 111 115 117 118 119 123 124 127 128 131 134
        135 137 139 141 144 145 147 149 151 152 156 157 158 159 160 163 166 168 170 171 172 174 176 177 181 183
        184 186 187 188 190 192 193 194 195 197 200 201 202 204 206 209 211 212 214 216 217 220 222 226 230 234
        235 238 241 244 246 248 251 252 253 256 258 259 261 264 268 270 272 273 274 275 276 279 282 284 286 288
        289 291 292 299 300 302 304 305 306 307 309 312 314 315 318 320 321 322 325 329 331 333 334 337 340 341
        343 345 349 351 356 357 359 361 362 367 369 370 372 373 375 377 378 381 383 384 387 389 392 394 396 398
        402 403 405 406 407 408 409 411 412
    """,
    "test": """
        1 3 4 5 8 9 14 15 16 19 21 24 26 27 31 34 35 36 38 39 41 42 45 48 50 53 55 57 60 62 63 64 66 67 69 71 76
        81 82 84 86 87 90 94 96 100 102
    """,
}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path, required=True)
    source = parser.parse_args().source
    with (source / "labels.csv").open(newline="") as file:
        names = [(row["split"], row["image"]) for row in csv.DictReader(file)]
    boxes = _disc_boxes(source / "lesion_boxes.csv")
    load = LoadImage(reader="ag_networks.data.PictureReader", channels=3)
    crop = FundusCrop()
    for part, listed in MIRRORED.items():
        right = set(map(int, listed.split()))
        pictures = [image for split, image in names if split == part]
        discs = {}
        for image in tqdm(pictures, desc=part):
            picture = crop(load(str(source / image)))
            assert isinstance(picture, MetaTensor)
            top, left, _, _ = picture.meta["fundus_box"]
            disc = find_optic_disc(picture.numpy())
            shape = picture.meta["spatial_shape"]
            discs[image] = disc._replace(row=(disc.row + top) / shape[0], column=(disc.column + left) / shape[1])
        _print_part(part, discs, [index in right for index in range(len(pictures))], boxes)


def _print_part(part: str, discs: dict[str, OpticDisc], right: Iterable[bool], boxes: dict[str, np.ndarray]) -> None:
    agree, unsure, other = 0, [], []
    for (image, disc), is_right in zip(discs.items(), right, strict=True):
        if disc.confidence < MIN_CONFIDENCE:
            unsure.append(f"{image} ({disc.side}, {disc.confidence:.2f})")
        elif (disc.side == "right") == is_right:
            agree += 1
        else:
            other.append(f"{image} ({disc.side}, {disc.confidence:.2f})")
    print(f"{part}: {agree} of {len(discs)} as in the paper's list")
    print(f"  on the other side: {', '.join(other) or 'none'}\n  not sure: {', '.join(unsure) or 'none'}")
    annotated = [image for image in discs if image in boxes]
    outside = [image for image in annotated if not _within(discs[image], boxes[image])]
    found = len(annotated) - len(outside)
    print(f"  center within the annotated disc: {found} of {len(annotated)}; not {', '.join(outside) or 'one'}")


def _within(disc: OpticDisc, box: np.ndarray) -> bool:
    return bool((np.abs([disc.column - box[0], disc.row - box[1]]) <= box[2:] / 2).all())


def _disc_boxes(path: Path) -> dict[str, np.ndarray]:
    if not path.is_file():
        return {}
    keys = ("centre_x", "centre_y", "width", "height")
    with path.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["structure"] == "optic_disc"]
    return {row["image"]: np.array([float(row[key]) for key in keys]) for row in rows}


if __name__ == "__main__":
    main()
