"""Outputs, coefficients, gradients and losses that the original code has computed, in single precision.

They are read from the folder `reference/original_networks` beside that of the real data.
"""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.losses import DiceLoss
from monai.networks.utils import one_hot
from network_helpers import relative_error

from ag_networks.interop import from_original
from ag_networks.interop.original import rename_keys
from ag_networks.visualize import capture_attention

pytestmark = pytest.mark.data
CORNERS = pytest.mark.parametrize("align_corners", [False, True], ids=["centers", "corners"])
TOLERANCE = 1e-5
Tensors = tuple[torch.Tensor, ...]


def references(data_root: Path) -> Path:
    folder = data_root.resolve().parent / "reference" / "original_networks"
    if not folder.is_dir():
        pytest.skip("no folder reference/original_networks beside that of the real data")
    return folder


def stored(data_root: Path) -> dict[str, Any]:
    """Every stored module."""
    files = sorted(references(data_root).glob("*.pt"))
    loaded = {f.stem: torch.load(f, weights_only=True) for f in files}
    found = {name: content for name, content in loaded.items() if "state_dict" in content}
    assert len(found) >= 37
    return found


def as_tuple(outputs: Any) -> Tensors:
    return (outputs,) if torch.is_tensor(outputs) else tuple(outputs)


def far(actual: Any, expected: Any, what: str = "", tolerance: float = TOLERANCE) -> dict[str, float]:
    """The errors beyond the tolerance, by the number of the tensor."""
    errors = {f"{what} {i}": relative_error(a, e) for i, (a, e) in enumerate(zip(actual, expected, strict=True))}
    return {name: error for name, error in errors.items() if not error < tolerance}


@CORNERS
def test_stored_outputs_are_matched(data_root: Path, align_corners: bool) -> None:
    wrong = {}
    for name, file in stored(data_root).items():
        module = from_original(file["config"], file["state_dict"], align_corners=align_corners)
        # the original AG-SonoNet gives the scales' logits in evaluation too; below it the norms stay in evaluation
        module.training = "agsononet" in name
        with torch.no_grad():
            wrong[name] = far(as_tuple(module(*file["inputs"])), file["out"][f"ac{align_corners:d}"]["eval"])
    assert {name: errors for name, errors in wrong.items() if errors} == {}


@CORNERS
def test_the_scores_of_the_scales_are_the_mean_of_the_stored_probabilities(
    data_root: Path, align_corners: bool
) -> None:
    compared = 0
    for name, file in stored(data_root).items():
        logits = file["out"][f"ac{align_corners:d}"].get("eval", ())
        if "agsononet" in name and len(logits) == 3:
            network = from_original(file["config"], file["state_dict"], align_corners=align_corners)
            expected = torch.stack([scale.softmax(1) for scale in logits]).mean(0)
            torch.testing.assert_close(network(*file["inputs"]).softmax(1), expected, rtol=1e-4, atol=1e-6)
            compared += 1
    assert compared >= 5


@CORNERS
def test_stored_coefficients_are_captured(data_root: Path, align_corners: bool) -> None:
    compared, wrong = 0, {}
    for name, file in stored(data_root).items():
        expected = file["out"][f"ac{align_corners:d}"]["attention"]
        if not expected:
            continue
        module = from_original(file["config"], file["state_dict"], align_corners=align_corners)
        with capture_attention(module) as attention, torch.no_grad():
            module(*file["inputs"])
        for place, stored_gate in expected.items():
            block, _, number = place.rpartition("gate_block_") if "gate_block_" in place else (place, "", "1")
            ours = ""
            if level := re.search(r"\d", block):
                ours = (
                    f"gates.{int(level[0]) - 1}"
                    if "compatibility" in block
                    else f"decoder.level{int(level[0]) - 1}.gate"
                )
            channel = int(number) - 1
            wrong[f"{name} {place}"] = far([attention[ours][:, channel : channel + 1]], [stored_gate["alpha"]])
            compared += 1
    assert compared >= 45
    assert {name: errors for name, errors in wrong.items() if errors} == {}


@CORNERS
def test_stored_training_outputs_and_gradients_are_matched(data_root: Path, align_corners: bool) -> None:
    compared, wrong = 0, {}
    for name, file in stored(data_root).items():
        expected = file["out"][f"ac{align_corners:d}"]
        if "train" not in expected:
            continue
        module = from_original(file["config"], file["state_dict"], align_corners=align_corners).train()
        inputs = [x.clone().requires_grad_() for x in file["inputs"]]
        outputs = as_tuple(module(*inputs))
        torch.stack([(y * p).sum() for y, p in zip(outputs, expected["proj"], strict=True)]).sum().backward()
        ours, names = dict(module.named_parameters()), rename_keys(file["state_dict"])
        assert {names[k] for k in expected["grad_params"]} == set(ours)
        # what a normalization takes out again has no gradient but for rounding
        largest = max(g.abs().max() for g in expected["grad_params"].values())
        alive = [k for k, g in expected["grad_params"].items() if g.abs().max() > 2e-3 * largest]
        dead = [names[k] for k in expected["grad_params"].keys() - alive]
        # a batch norm that blows up features of about 1 / n blows up the rounding of the stored numbers as well
        tolerance = 10 * TOLERANCE if name.startswith("gate_cls_3d") else TOLERANCE
        wrong[name] = {
            **far(outputs, expected["train"], "output", tolerance),
            **far([x.grad for x in inputs], expected["grad_inputs"], "gradient of input", tolerance),
            **far(
                [ours[names[k]].grad for k in alive],
                [expected["grad_params"][k] for k in alive],
                f"gradient of {alive}",
                tolerance,
            ),
            **{k: size for k in dead if (size := ours[k].grad.abs().max()) > 4e-3 * largest},
        }
        compared += 1
    assert compared >= 23
    assert {name: errors for name, errors in wrong.items() if errors} == {}


def test_the_stored_loss_is_monais(data_root: Path) -> None:
    """The soft Dice loss of the original adds 0.01 to intersection and union, the background included."""
    file = torch.load(references(data_root) / "loss_soft_dice.pt", weights_only=True)
    logits, target = file["logits"].requires_grad_(), file["target"]
    options: dict[str, Any] = {"softmax": True, "smooth_nr": 0.02, "smooth_dr": 0.01}
    loss = DiceLoss(to_onehot_y=True, **options)(logits, target)
    # its pancreas variant: a softmax over two of the classes, and the sum of two scores divided by all of them
    classes = logits.shape[1]
    two = DiceLoss(**options)(logits[:, [0, 2]], one_hot(target, classes)[:, [0, 2]])
    pancreas_only = 1 - 2 / classes * (1 - two)
    for name, ours in [("soft_dice", loss), ("soft_dice_pancreas_only_0_2", pancreas_only)]:
        (gradient,) = torch.autograd.grad(ours, logits)
        assert far([ours, gradient], [file[name], file[f"{name}_grad"]]) == {}
