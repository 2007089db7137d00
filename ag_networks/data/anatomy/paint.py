"""Painting of implicit shapes into a block of CT slices with soft edges."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ag_networks.data.anatomy.shapes import Array, Field, Points, Pose, Shape, Shared

__all__ = ["AIR", "Canvas", "Lumen", "Part", "Scene"]

AIR = -1000.0


@dataclass(frozen=True)
class Lumen:
    """Content of a hollow organ: `hu` below the air level, air above it.

    Args:
        wall: thickness of the organ's wall in millimeters.
        hu: Hounsfield units of the fluid or food.
        texture: amplitude of its coarse texture in Hounsfield units.
        level: height (body y in millimeters) above which there is air; None for no air.
    """

    wall: float
    hu: float
    texture: float = 0.0
    level: float | None = None


@dataclass(frozen=True)
class Part:
    """One structure: where it is, how it looks and which label it carries.

    Args:
        shape: region in body coordinates; what is painted later covers what was painted before.
        hu: Hounsfield units.
        label: value in the label volume; 0 removes the label of what lies below.
        texture: amplitude of the smooth texture in Hounsfield units.
        lobes: amplitude of the surface's displacement in millimeters.
        fat: how far fat fills the clefts between lobes, 0 (not) to 1.
        rim: Hounsfield units added at the surface and the depth in millimeters over which they fade.
        lumen: content, for hollow organs.
        within: paint only over this label; None for anywhere.
    """

    shape: Shape
    hu: float
    label: int = 0
    texture: float = 3.0
    lobes: float = 0.0
    fat: float = 0.0
    rim: tuple[float, float] | None = None
    lumen: Lumen | None = None
    within: int | None = None


@dataclass(frozen=True)
class Scene:
    """Everything about a case that does not depend on the sampling grid: parts in painting order, pose, random fields.

    `shared` lists the shapes whose distances are worth keeping for a whole block of slices.
    """

    parts: tuple[Part, ...]
    shared: tuple[Shared, ...]
    pose: Pose
    texture: Field
    lobes: Field


@dataclass
class Canvas:
    """A block of slices that is being painted: Hounsfield units and labels on one grid.

    Args:
        scene: what to paint.
        axes: scanner coordinates of the grid along x, y and z in millimeters.
        edge: width over which a surface fades in millimeters (the scanner's resolution).
    """

    scene: Scene
    axes: tuple[Array, Array, Array]
    edge: float

    def __post_init__(self) -> None:
        self.points = Points.on_grid(self.axes, self.scene.pose)
        for bounding in self.scene.shared:
            bounding.distance(self.points)
        self.texture, self.lobes = self.scene.texture(self.axes), self.scene.lobes(self.axes)
        shape = tuple(len(axis) for axis in self.axes)
        self.hu: NDArray[np.float32] = np.full(shape, AIR, np.float32)
        self.label: NDArray[np.uint8] = np.zeros(shape, np.uint8)

    def paint(self) -> None:
        """Paint every part of the scene."""
        for part in self.scene.parts:
            self._paint(part)

    def _paint(self, part: Part) -> None:
        lo, hi = part.shape.bounds()
        margin = self.edge + 2 * part.lobes
        box = self.points.box((lo - margin, hi + margin))
        points, lobes = self.points[box], self.lobes[box]
        if lobes.size == 0:
            return
        distance = part.shape.distance(points)
        if part.lobes:
            distance += np.float32(part.lobes) * lobes
        hu = np.float32(part.hu) + np.float32(part.texture) * self.texture[box]
        if part.fat:
            hu -= np.float32(130 * part.fat) * np.clip(lobes, 0, 2)
        if part.rim:
            hu += np.float32(part.rim[0]) * np.exp(np.minimum(distance, 0) / np.float32(part.rim[1]))
        if part.lumen:
            hu = self._fill(part.lumen, hu, distance, points, lobes)
        if part.within is not None:
            distance = np.where(self.label[box] == part.within, distance, np.float32(np.inf))
        below = self.hu[box]
        below += self._cover(distance) * (hu - below)
        self.label[box][distance < 0] = part.label

    def _fill(self, lumen: Lumen, hu: Array, distance: Array, points: Points, lobes: Array) -> Array:
        content = np.float32(lumen.hu) + np.float32(lumen.texture) * lobes
        if lumen.level is not None:
            # Gravity acts along the scanner's y axis, not along the warped body's.
            depth = (self.scene.pose.scan_height(lumen.level) - points.axes[1]).astype(np.float32)[None, :, None]
            content = content + self._cover(depth) * (np.float32(AIR) - content)
        return hu + self._cover(distance + np.float32(lumen.wall)) * (content - hu)

    def _cover(self, distance: Array) -> Array:
        return np.clip(np.float32(0.5) - distance * np.float32(1 / self.edge), 0, 1)
