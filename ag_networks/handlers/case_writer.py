"""The results of one case: mask, attention maps and report, on the grid of its input."""

import json
import logging
import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from ignite.engine import Engine
from monai.data import MetaTensor
from monai.engines.utils import IterationEvents
from monai.transforms import Compose, Invertd

from ag_networks.atomic import atomic_path
from ag_networks.metrics import Plausibility

__all__ = ["CaseWriter"]

_logger = logging.getLogger(__name__)

PACKAGES = ("ag-networks", "monai", "torch", "numpy", "nibabel", "itk")


class CaseWriter:
    """Write ``<case>/<case>.nii.gz`` (uint8), the attention maps if there are any, and last ``<case>/<case>.json``.

    Handler for :class:`~ag_networks.handlers.CaseEvaluator`: it works inside the iteration, so that a full disk fails
    one case. Files appear whole or not at all, and the report is written last: where it is, the case is finished. It
    holds the volume (ml) and voxels of every class, the input's size, spacing (mm) and orientation, versions, seconds,
    the settings, what was measured for plausibility, and warnings; no path, date or patient data.

    Args:
        output_dir: where the folders of the cases go.
        class_names: names of the labels, as ``channel_def`` in ``metadata.json`` has them.
        preprocessing: the transforms of the input, which are inverted to bring attention maps back to its grid.
        settings: recorded in the report; a later run with other settings does the case again.
        network: the :class:`ag_networks.visualize.WithAttention`, if the predictions come from one.
        plausibility: what image and prediction are compared with. It sees ``"image"``, the label map ``"whole_pred"``
            on the network's grid, before parts of it are removed, and ``"confidence"``, where the output has one (see
            :class:`ag_networks.transforms.MeanConfidenced`).
    """

    def __init__(
        self,
        output_dir: str | Path,
        *,
        class_names: Mapping[str, str],
        preprocessing: Compose,
        settings: Mapping[str, Any] | None = None,
        network: Any = None,
        plausibility: Plausibility | None = None,
    ) -> None:
        self.output_dir = Path(output_dir)
        self.class_names = {int(label): name for label, name in class_names.items() if int(label) > 0}
        self.settings = dict(settings or {})
        self.network = network
        self.plausibility = plausibility
        self._invert = Invertd("map", preprocessing, orig_keys="image", nearest_interp=False, to_tensor=True)

    def attach(self, engine: Engine) -> None:
        """Attach to the evaluator, behind its postprocessing."""
        engine.add_event_handler(IterationEvents.MODEL_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        """Write the results of the current case."""
        state: Any = engine.state
        case, output = state.batch[0]["case"], state.output[0]
        folder = self.output_dir / case
        mask = output["pred"]
        _save(mask, folder / f"{case}.nii.gz")
        if self.network is not None and "attention" in output:
            for name, channel in zip(self.network.names, output["attention"], strict=True):
                self._save_map(channel[None], output["image"], folder / f"{case}_attention_{name}.nii.gz")
        seconds = round(engine.seconds, 1)  # type: ignore[attr-defined]
        report = self._report(case, mask, output, seconds)
        with atomic_path(folder / f"{case}.json") as path:
            path.write_text(json.dumps(report, indent=4) + "\n")

    def _save_map(self, channel: torch.Tensor, image: MetaTensor, path: Path) -> None:
        """One map at a time: on the grid of a large scan all together would need gigabytes."""
        on_input = self._invert({"map": MetaTensor(channel, meta=image.meta), "image": image})["map"]
        _save(on_input.clamp(0, 1), path, levels=255)

    def _doubts(self, output: dict[str, Any]) -> tuple[dict[str, dict[str, float]], list[str]]:
        """Return what was measured, to three digits, and the warnings."""
        if self.plausibility is None:
            return {}, []
        facts, warnings = self.plausibility(
            output["image"], output["whole_pred"], confidence=output.get("confidence", ())
        )
        rounded = {part: {name: float(f"{value:.3g}") for name, value in own.items()} for part, own in facts.items()}
        return rounded, warnings

    def _report(self, case: str, mask: MetaTensor, output: dict[str, Any], seconds: float) -> dict[str, Any]:
        voxel_ml = abs(float(np.linalg.det(np.asarray(mask.affine)[:3, :3]))) / 1000
        labels = np.asarray(mask)
        counts = {label: int(np.count_nonzero(labels == label)) for label in self.class_names}
        warnings = [text for text in str(output["image"].meta.get("ct_warnings", "")).split("; ") if text]
        measured, doubts = self._doubts(output)
        doubts += [f"no {name} was found" for label, name in self.class_names.items() if counts[label] == 0]
        for doubt in doubts:  # the others were logged when they came up
            _logger.warning("%s: %s", case, doubt)
        return {
            "case": case,
            "classes": {
                name: {"label": label, "voxels": counts[label], "volume_ml": round(counts[label] * voxel_ml, 2)}
                for label, name in self.class_names.items()
            },
            "input": {
                "size": list(mask.shape[1:]),
                "spacing_mm": [round(float(step), 4) for step in nib.affines.voxel_sizes(np.asarray(mask.affine))],
                "orientation": "".join(nib.aff2axcodes(np.asarray(mask.affine))),
            },
            "seconds": seconds,
            "measured": measured,
            "warnings": warnings + doubts,
            "settings": self.settings,
            "versions": {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
        }


def _save(volume: MetaTensor, path: Path, *, levels: int | None = None) -> None:
    """Save channel 0 as uint8; values in [0, 1] are stored in `levels` steps, which readers scale back."""
    array = np.asarray(volume[0])
    array = np.rint(array * levels) if levels else array
    affine = np.asarray(volume.affine, dtype=np.float64)
    nifti = nib.Nifti1Image(array.astype(np.uint8), affine)
    nifti.set_sform(affine, code="scanner")
    nifti.set_qform(affine, code="scanner")  # without shear, which only the sform can hold
    nifti.header.set_xyzt_units("mm")
    if levels:
        nifti.header.set_slope_inter(1 / levels, 0)
    with atomic_path(path) as temporary:
        nib.save(nifti, temporary)
