"""Targets of a distillation: the teacher's opinion on the images shown, within what the label leaves open."""

import pytest
import torch
from torch import nn

from ag_networks.handlers import TeacherTargets


class Mean(nn.Module):
    """A teacher of three classes whose logits are the mean, the largest and the smallest value."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        flat = x.flatten(1)
        return torch.stack([flat.mean(1), flat.amax(1), flat.amin(1)], dim=1)


def batch(labels: list[int]) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return {"image": torch.randn(len(labels), 1, 8, 6), "label": torch.tensor(labels)}


def test_without_labels_the_target_is_the_teachers_opinion() -> None:
    data = batch([7, 7])
    image, target = TeacherTargets(Mean(), possible={0: [0]}, mixed=0.0)(data)
    assert torch.equal(image, data["image"])
    assert torch.allclose(target, Mean()(image).softmax(1))


def test_the_label_restricts_the_opinion() -> None:
    data = batch([4, 5])
    image, target = TeacherTargets(Mean(), possible={"4": [0, 2], "5": [1]}, mixed=0.0)(data)
    opinion = Mean()(image).softmax(1)
    assert torch.allclose(target[0], opinion[0] * torch.tensor([1.0, 0.0, 1.0]) / (opinion[0, 0] + opinion[0, 2]))
    assert target[1].tolist() == [0.0, 1.0, 0.0]


def test_where_the_teacher_knows_nothing_the_possible_classes_are_equal() -> None:
    data = {"image": torch.tensor([[[[9.0, 0.0], [0.0, -9.0]]]]), "label": torch.tensor([4])}
    assert Mean()(data["image"]).softmax(1)[0, 0] < 1e-3
    _, target = TeacherTargets(Mean(), possible={4: [0, 2]}, mixed=0.0)(data)
    assert target[0].tolist() == [0.5, 0.0, 0.5]


def test_mixed_images_are_whitened_and_keep_the_teachers_opinion() -> None:
    data = batch([4] * 6)
    image, target = TeacherTargets(Mean(), possible={4: [0]}, mixed=1.0, seed=3)(data)
    assert not any(torch.equal(a, b) for a, b in zip(image, data["image"], strict=True))
    assert torch.allclose(image.flatten(1).mean(1), torch.zeros(6), atol=1e-6)
    assert torch.allclose(image.flatten(1).std(1), torch.ones(6), atol=1e-5)
    assert torch.allclose(target, Mean()(image).softmax(1))


@pytest.mark.parametrize("mixed", [0.0, 0.5, 1.0])
def test_targets_are_distributions_without_gradient(mixed: float) -> None:
    _, target = TeacherTargets(Mean(), possible={1: [1, 2]}, mixed=mixed)(batch([0, 1, 1, 2]))
    assert torch.allclose(target.sum(1), torch.ones(4))
    assert not target.requires_grad


def test_hard_targets_are_the_most_probable_possible_classes() -> None:
    data = batch([4, 7])
    _, target = TeacherTargets(Mean(), possible={4: [0, 2]}, mixed=0.0, hard=True)(data)
    opinion = Mean()(data["image"])
    assert target.tolist() == [int(opinion[0, 0] < opinion[0, 2]) * 2, int(opinion[1].argmax())]
