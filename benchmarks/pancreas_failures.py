"""The worst validation cases of the pancreas bundle as one picture: the annotated slice with the largest error of each.

    python benchmarks/pancreas_failures.py --dataset_dir DATA --scores scores/metrics_per_case.csv --output worst.png
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from monai.bundle import ConfigParser
from numpy.typing import NDArray

from ag_networks.handlers import load_weights
from ag_networks.metrics import CaseTable
from ag_networks.visualize.canvas import blank_page, save_page

BUNDLE = Path(__file__).parents[1] / "bundles" / "pancreas_ct_segmentation"
UNLABELLED = 255
MARGIN = 25  # voxels around what is outlined


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset_dir", type=Path, required=True, help="folder with datalist.json")
    parser.add_argument("--scores", type=Path, required=True, help="what evaluate.json has written")
    parser.add_argument("--output", type=Path, required=True, help="PNG file")
    parser.add_argument("--count", type=int, default=4, help="how many cases (default: %(default)s)")
    arguments = parser.parse_args()
    column = CaseTable.read_csv(arguments.scores).column("dsc", "pancreas")
    worst = sorted(column, key=lambda case: column[case])[: arguments.count]
    bundle = ConfigParser()
    bundle.read_meta(str(BUNDLE / "configs" / "metadata.json"))
    bundle.read_config([str(BUNDLE / "configs" / name) for name in ("train.json", "evaluate.json")])
    paths = {"dataset_dir": arguments.dataset_dir, "datalist_file": arguments.dataset_dir / "datalist.json"}
    bundle.update({key: str(path) for key, path in paths.items()} | {"device": "$torch.device('cpu')"})
    network, inferer = bundle.get_parsed_content("network_def").eval(), bundle.get_parsed_content("inferer")
    load_weights(network, BUNDLE / "models" / "model.pt")
    page = blank_page(3.2 * len(worst), 3.4, dpi=80)
    panels = page.subplots(1, len(worst), squeeze=False)[0]
    for item in bundle.get_parsed_content("validate#dataset"):
        case = Path(item["image"].meta["filename_or_obj"]).name.removesuffix(".nii.gz")
        if case in worst:
            with torch.inference_mode():
                prediction = inferer(item["image"][None].as_tensor(), network).argmax(1)[0].numpy() == 1
            panel = panels[worst.index(case)]
            _draw(panel, np.asarray(item["image"][0]), np.asarray(item["label"][0]), prediction)
            panel.set_title(f"{case}, DSC {column[case]:.2f}", fontsize=9)
    page.suptitle("Green: reference. Red: network. Front at the top, the patient's right on the left.", fontsize=9)
    save_page(page, arguments.output)


def _draw(panel, image: NDArray, label: NDArray, prediction: NDArray) -> None:
    """The annotated slice with the most wrong voxels, cut around both outlines."""
    wrong = (prediction != (label == 1)) & (label != UNLABELLED)
    z = int(wrong.sum((0, 1)).argmax())
    outlined = prediction[..., z] | (label[..., z] == 1)
    window = tuple(
        slice(max(0, int(found.min()) - MARGIN), int(found.max()) + MARGIN) for found in np.nonzero(outlined)
    )
    view = [array[..., z][window][::-1].T for array in (image, label == 1, prediction)]  # x to the patient's left
    panel.imshow(view[0], cmap="gray", vmin=-1, vmax=1, origin="lower")
    for mask, color in zip(view[1:], ("lime", "red"), strict=True):
        if mask.any():
            panel.contour(mask, levels=[0.5], colors=color, linewidths=1)
    panel.axis("off")


if __name__ == "__main__":
    main()
