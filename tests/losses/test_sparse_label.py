"""Unlabelled voxels do not count."""

from typing import Any

import pytest
import torch
from monai.data import MetaTensor
from monai.losses import DiceCELoss, DiceLoss
from torch import nn

from ag_networks.losses import SparseLabelLoss

DICE = {"softmax": True, "to_onehot_y": True, "include_background": False}
EXACT = {**DICE, "smooth_nr": 0.0, "smooth_dr": 0.0}


class CrossEntropy(nn.Module):
    """On a label map with a channel axis."""

    def forward(self, logits: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        return nn.functional.cross_entropy(logits, label[:, 0].long())


def data(classes: int = 3) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return logits, whole labels, and labels of which every second plane is unlabelled."""
    logits = torch.randn(2, classes, 6, 5, 4, dtype=torch.float32)
    label = torch.randint(classes, (2, 1, 6, 5, 4)).float()
    sparse = label.clone()
    sparse[:, :, 1::2] = 255
    return logits, label, sparse


@pytest.mark.parametrize("loss", [DiceLoss(**DICE), DiceCELoss(**DICE, batch=True), CrossEntropy()], ids=type)
class TestEveryLoss:
    """What holds for whichever loss is wrapped."""

    def test_whole_labels_give_the_wrapped_loss(self, loss: nn.Module) -> None:
        logits, label, _ = data()
        torch.testing.assert_close(SparseLabelLoss(loss)(logits, label), loss(logits, label))

    def test_logits_of_unlabelled_voxels_get_no_gradient(self, loss: nn.Module) -> None:
        logits, _, sparse = data()
        logits.requires_grad_()
        SparseLabelLoss(loss)(logits, sparse).backward()
        assert logits.grad is not None
        assert (logits.grad[:, :, 1::2] == 0).all()
        assert (logits.grad[:, :, ::2] != 0).any(dim=1).all()

    def test_nothing_labelled_is_finite_and_teaches_nothing(self, loss: nn.Module) -> None:
        logits, label, _ = data()
        logits.requires_grad_()
        value = SparseLabelLoss(loss)(logits, torch.full_like(label, 255))
        value.backward()
        assert value.isfinite()
        assert (logits.grad == 0).all()

    def test_half_precision_is_taken_in_single(self, loss: nn.Module) -> None:
        logits, _, sparse = data()
        sparse_loss = SparseLabelLoss(loss)
        value = sparse_loss(logits.half(), sparse)
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, sparse_loss(logits.half().float(), sparse))


def test_dice_is_that_of_the_labelled_voxels_alone() -> None:
    logits, _, sparse = data()
    expected = DiceLoss(**EXACT)(logits[:, :, ::2], sparse[:, :, ::2])
    torch.testing.assert_close(SparseLabelLoss(DiceLoss(**EXACT))(logits, sparse), expected)


def test_cross_entropy_is_the_sum_over_the_labelled_voxels() -> None:
    logits, _, sparse = data()
    expected = CrossEntropy()(logits[:, :, ::2], sparse[:, :, ::2]) / 2  # half of the voxels are labelled
    torch.testing.assert_close(SparseLabelLoss(CrossEntropy())(logits, sparse), expected)


@pytest.mark.parametrize("ignore", [255, 7, -1])
def test_the_value_of_unlabelled_voxels(ignore: int) -> None:
    logits, _, sparse = data()
    moved = torch.where(sparse == 255, float(ignore), sparse)
    loss = DiceCELoss(**DICE)
    torch.testing.assert_close(SparseLabelLoss(loss, ignore)(logits, moved), SparseLabelLoss(loss)(logits, sparse))


@pytest.mark.parametrize("shape", [(5,), (5, 4), (5, 4, 3)], ids=str)
def test_any_number_of_axes_and_no_change_of_the_input(shape: Any) -> None:
    logits, label = torch.randn(2, 2, *shape), torch.randint(2, (2, 1, *shape)).float()
    label[:, :, 0] = 255
    kept = logits.clone(), label.clone()
    value = SparseLabelLoss(DiceLoss(**DICE))(MetaTensor(logits), MetaTensor(label))
    assert value.isfinite()
    assert torch.equal(logits, kept[0])
    assert torch.equal(label, kept[1])
