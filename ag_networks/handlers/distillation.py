"""Targets from a teacher network, and from labels that leave several classes open."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

__all__ = ["TeacherTargets"]

FLOOR = 1e-3  # a teacher that gives the possible classes less than this in all knows nothing about them


class TeacherTargets:
    r"""Make the images and the soft targets of a distillation step, as ``prepare_batch`` of a MONAI trainer.

    The target of an image is the teacher's softmax p on the very image that the student sees. Where the label tells
    which classes C are possible ("a brain plane, either one"), p is restricted to them:

    .. math:: t_c = \frac{p_c \, [c \in C]}{\sum_{k \in C} p_k}

    or uniform on C where the teacher gives C less than 0.001 in all. A part of the images is mixed with others of the
    batch (weighted sums, or a box of one in the other), whitened again, and keeps the teacher's own opinion: mixtures
    show the teacher's behavior on many more images than a small set has.

    Source: Hinton, Vinyals and Dean, *Distilling the knowledge in a neural network*, 2015 (temperature 1); mixtures as
    in Beyer et al., *Knowledge distillation: a good teacher is patient and consistent*, CVPR 2022.

    Args:
        teacher: network in evaluation mode, from images to logits (N, classes).
        possible: class indices by the value of the item's ``label``; a value that is not named leaves all open.
        mixed: share of the images of a batch that are mixed.
        hard: give the most probable class in place of the distribution, to score a validation.
        seed: of the mixing.

    Shape:
        batch ``{"image": (N, C, H, W), "label": (N,)}`` -> images (N, C, H, W), targets (N, classes), or (N,)
        if `hard`.
    """

    def __init__(
        self,
        teacher: torch.nn.Module,
        *,
        possible: Mapping[int | str, Sequence[int]],
        mixed: float = 0.5,
        hard: bool = False,
        seed: int = 0,
    ) -> None:
        self.teacher = teacher.eval()
        self.possible = {int(value): list(classes) for value, classes in possible.items()}
        self.mixed = mixed
        self.hard = hard
        self._rng = np.random.default_rng(seed)

    def __call__(
        self, batchdata: Mapping[str, Any], device: Any = None, non_blocking: bool = False, **_: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Images and targets of a batch."""
        image = torch.as_tensor(batchdata["image"]).to(device, non_blocking=non_blocking)
        labels = [int(label) for label in batchdata["label"]]
        mixed = self._rng.random(len(image)) < self.mixed
        image = self._mix(image, mixed)
        with torch.no_grad():
            target = self.teacher(image).float().softmax(dim=1)
        for i, label in enumerate(labels):
            if label in self.possible and not mixed[i]:
                target[i] = _restricted(target[i], self.possible[label])
        return image, target.argmax(dim=1) if self.hard else target

    def _mix(self, image: torch.Tensor, chosen: np.ndarray) -> torch.Tensor:
        """Mix the chosen images with random others: half of them by weights, half by a box."""
        result = image.clone()
        height, width = image.shape[2:]
        for i in np.flatnonzero(chosen):
            other = image[int(self._rng.integers(len(image)))]
            if self._rng.random() < 0.5:
                weight = float(self._rng.uniform(0.2, 0.8))
                mixture = weight * image[i] + (1 - weight) * other
            else:
                mixture = image[i].clone()
                h, w = (int(n * self._rng.uniform(0.3, 0.7)) for n in (height, width))
                top, left = int(self._rng.integers(height - h + 1)), int(self._rng.integers(width - w + 1))
                mixture[:, top : top + h, left : left + w] = other[:, top : top + h, left : left + w]
            result[i] = (mixture - mixture.mean()) / mixture.std().clamp_min(1e-6)
        return result


def _restricted(target: torch.Tensor, classes: list[int]) -> torch.Tensor:
    kept = torch.zeros_like(target)
    kept[classes] = target[classes] if float(target[classes].sum()) > FLOOR else 1.0
    return kept / kept.sum()
