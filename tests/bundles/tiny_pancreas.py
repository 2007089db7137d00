"""The pancreas bundle at a size that tests can run: a tiny network, a coarse grid, small windows."""

import json
from pathlib import Path

from tiny_bundle import BUNDLES, TinyBundle

from ag_networks.nets import AttentionGatedUNet

BUNDLE = BUNDLES / "pancreas_ct_segmentation"
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

_TINY = TinyBundle(BUNDLE, TINY, TINY_TRAINING)
workflow, training, train, infer = _TINY.workflow, _TINY.training, _TINY.train, _TINY.infer
run_command, run_in_two = _TINY.run_command, _TINY.run_in_two


def tiny_network(out_channels: int = 2) -> AttentionGatedUNet:
    """Return the network that the overrides of `TINY` describe, with random weights."""
    shape = {"channels": (4, 8, 16), "kernel_size": KERNELS, "strides": STRIDES}
    return AttentionGatedUNet(3, 1, out_channels, gates=2, deep_supervision="fused", **shape).eval()


def write_datalist(folder: Path, **parts: list[str]) -> Path:
    """Write a datalist of cases that lie in `images` and `labels`."""
    content = {
        part: [{"image": f"images/{name}.nii.gz", "label": f"labels/{name}.nii.gz"} for name in names]
        for part, names in parts.items()
    }
    path = folder / "datalist.json"
    path.write_text(json.dumps(content))
    return path
