"""CT-like volumes with labels, drawn from label maps of many structures."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

__all__ = ["LabelledCT", "make_ct_from_label_map"]

# Structures (first pattern that fits) -> HU without and with portal-venous contrast agent, spread of the mean, texture.
# After common radiological reference values; wide, as the anatomy shall teach and not the grey values.
TISSUES: tuple[tuple[str, float, float, float, float], ...] = (
    (r"pancreas", 38, 95, 14, 12),
    (r"liver", 55, 105, 14, 8),
    (r"spleen", 45, 118, 14, 6),
    (r"kidney_cyst|gallbladder|urinary_bladder|prostate", 10, 15, 12, 5),
    (r"kidney|adrenal|thyroid", 32, 165, 25, 14),
    (r"portal_vein|inferior_vena|iliac_vena|superior_vena|brachiocephalic_vein", 40, 155, 25, 6),
    (r"aorta|artery|trunk|heart|atrial|pulmonary_vein", 40, 150, 35, 8),
    (r"lung|trachea", -840, -830, 50, 40),
    (r"vertebrae|rib|hip|femur|sacrum|scapula|clavicula|humerus|sternum|skull", 260, 280, 80, 110),
    (r"costal_cartilages", 110, 110, 30, 20),
    (r"gluteus|iliopsoas|autochthon", 52, 62, 8, 10),
    (r"stomach|duodenum|small_bowel|colon|esophagus", 35, 75, 18, 14),
    (r"", 35, 45, 10, 8),
)
HOLLOW = re.compile(r"stomach|duodenum|small_bowel|colon")
FAT, AIR, WALL = -100.0, -1000.0, 55.0


@dataclass(frozen=True)
class LabelledCT:
    """A drawn volume: image int16 (HU), label uint8 (1: the target), affine (mm, RAS)."""

    image: NDArray[np.int16]
    label: NDArray[np.uint8]
    affine: NDArray[np.float64]


def make_ct_from_label_map(
    structures: NDArray[np.integer],
    names: Mapping[int, str],
    *,
    map_mm: float,
    seed: int,
    target: str = "pancreas",
    spacing_mm: float = 2.0,
) -> LabelledCT:
    """Draw a volume with the anatomy of a label map: deformed, cut and painted at random.

    Geometry: scaling of every axis, rotation, a smooth displacement of up to about 15 mm, and a random range of the
    body along its length. Intensity: a mean per structure between its values without and with contrast agent, smooth
    texture, gas, fluid or positive contrast agent in the gut, a wall of muscle and a coat of fat around what the map
    names, the resolution and noise of a scanner.

    Source: the idea of Billot et al., *SynthSeg*, Medical Image Analysis 86 (2023), with tissue values of CT in place
    of uniformly drawn ones.

    Args:
        structures: label map (x, y, z) in RAS+ order, isotropic; 0 is not named.
        names: the structure of every label.
        map_mm: size of its voxels.
        seed: not negative; the same seed gives the same volume.
        target: the structure that the result labels 1.
        spacing_mm: size of the voxels to draw.

    Raises:
        ValueError: if the map is not 3D, or no structure of it is called `target`.
    """
    wanted = [label for label, name in names.items() if name == target]
    if structures.ndim != 3 or not wanted or not np.isin(structures, wanted).any():
        raise ValueError(f"expected a 3D label map with a structure {target!r}, got an array of {structures.shape}.")
    rng = np.random.default_rng(seed)
    anatomy = _deform(structures, map_mm / spacing_mm, rng)
    hu = _paint(anatomy, names, rng, spacing_mm)
    image = np.rint(_scan(hu, rng)).clip(-1024, 3071).astype(np.int16)
    affine = np.diag([spacing_mm, spacing_mm, spacing_mm, 1.0])
    return LabelledCT(image, np.isin(anatomy, wanted).astype(np.uint8), affine)


def _deform(structures: NDArray[np.integer], ratio: float, rng: np.random.Generator) -> NDArray[np.integer]:
    """Nearest-neighbor sampling through a random affine map and a smooth displacement; `ratio`: new voxels per old."""
    scale = ratio * rng.uniform(0.87, 1.15, 3)
    shape = np.ceil(np.array(structures.shape) * scale).astype(int)
    shape[2], start = _range_along_body(shape[2], rng)
    angle, tilt = rng.uniform(-0.15, 0.15), rng.uniform(-0.08, 0.08)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    turn = turn @ np.array([[1, 0, 0], [0, np.cos(tilt), -np.sin(tilt)], [0, np.sin(tilt), np.cos(tilt)]])
    center = (np.array(structures.shape) - 1) / 2
    middle = np.array([(shape[0] - 1) / 2, (shape[1] - 1) / 2, center[2] * scale[2] - start])
    grid = np.stack(np.meshgrid(*[np.arange(n, dtype=np.float32) for n in shape], indexing="ij"))
    offset = np.stack([g - m for g, m in zip(grid, middle, strict=True)])
    source = np.einsum("ij,jxyz->ixyz", (turn / scale[:, None]).astype(np.float32), offset)
    amplitude = rng.uniform(2, 7)  # in voxels of the map, at one standard deviation
    for axis in range(3):
        source[axis] += center[axis] + amplitude * _smooth_field(tuple(shape), 18.0, rng)
    return ndimage.map_coordinates(structures, source, order=0, mode="constant")


def _range_along_body(length: int, rng: np.random.Generator) -> tuple[int, int]:
    """Number of slices and the first one: the whole map, or a part of at least two thirds."""
    kept = length if rng.random() < 0.5 else int(length * rng.uniform(0.66, 1.0))
    return kept, int(rng.integers(0, length - kept + 1))


def _paint(
    anatomy: NDArray[np.integer], names: Mapping[int, str], rng: np.random.Generator, spacing_mm: float
) -> NDArray[np.float32]:
    inside, wall = _body(anatomy > 0, rng, spacing_mm)
    mesh = _smooth_field(anatomy.shape, 3.0, rng)
    hu = np.where(inside, np.float32(rng.normal(FAT, 8)) + 8 * mesh, np.float32(AIR))
    hu[inside & (mesh > rng.uniform(1.0, 2.0))] = rng.normal(30, 15)  # strands and small vessels in the fat
    hu[wall] = rng.normal(WALL, 6) + 10 * mesh[wall]
    enhancement = rng.choice([0.0, 1.0, rng.uniform(0, 1.2)], p=[0.15, 0.5, 0.35])
    coarse, fine = _smooth_field(anatomy.shape, 4.0, rng), _smooth_field(anatomy.shape, 1.0, rng)
    for label in np.unique(anatomy[anatomy > 0]):
        name = names.get(int(label), "")
        plain, enhanced, spread, texture = next(row[1:] for row in TISSUES if re.search(row[0], name))
        where = anatomy == label
        mean = plain + enhancement * (enhanced - plain) + rng.normal(0, spread)
        hu[where] = mean + texture * (0.6 * coarse[where] + 0.6 * fine[where])
        if HOLLOW.search(name):
            _fill(hu, where, coarse, rng)
    return hu


def _fill(hu: NDArray, where: NDArray[np.bool_], coarse: NDArray, rng: np.random.Generator) -> None:
    """Gas, fluid or positive contrast agent inside a hollow organ, behind a wall of about a voxel."""
    lumen = ndimage.binary_erosion(where, iterations=1) & (coarse > rng.uniform(-1.0, 1.2))
    hu[lumen] = rng.choice([-900.0, rng.uniform(0, 30), rng.uniform(80, 400)], p=[0.25, 0.5, 0.25])


def _body(named: NDArray[np.bool_], rng: np.random.Generator, mm: float) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """The body around what is named (slice-wise closed and coated), and its wall of muscle."""
    core = np.zeros(named.shape, bool)
    step = 3  # on a coarse grid: closing by tens of millimeters is slow
    for z in range(named.shape[2]):
        coarse = np.pad(named[::step, ::step, z], 20)
        closed = ndimage.distance_transform_edt(ndimage.distance_transform_edt(~coarse) < 50 / mm / step)
        closed = ndimage.binary_fill_holes(closed > 50 / mm / step)[20:-20, 20:-20]
        core[:, :, z] = np.kron(closed, np.ones((step, step), bool))[: named.shape[0], : named.shape[1]]
    core |= named
    distance = ndimage.distance_transform_edt(core) * mm
    wall = core & (distance < rng.uniform(5, 14))
    coat = ndimage.distance_transform_edt(~core) * mm < rng.uniform(4, 30)
    return core | coat, wall


def _scan(hu: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Blur of partial volumes and correlated noise."""
    noise = ndimage.gaussian_filter(rng.standard_normal(hu.shape, np.float32), rng.uniform(0.4, 0.9))
    return ndimage.gaussian_filter(hu, rng.uniform(0.4, 0.8)) + noise / noise.std() * rng.uniform(4, 18)


def _smooth_field(shape: tuple[int, ...], sigma: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """Smooth noise of mean 0 and standard deviation 1; wide ones are made on a coarse grid."""
    step = max(1, int(sigma // 2))
    coarse = tuple(-(-n // step) + 1 for n in shape)
    field = ndimage.gaussian_filter(rng.standard_normal(coarse, np.float32), sigma / step, mode="wrap")
    field = (field - field.mean()) / field.std()
    if step == 1:
        return field[tuple(slice(n) for n in shape)]
    field = ndimage.zoom(field, step, order=1)
    return field[tuple(slice(n) for n in shape)]
