"""Training where only some voxels are labelled."""

import torch
from torch import nn

__all__ = ["SparseLabelLoss"]


class SparseLabelLoss(nn.Module):
    """A segmentation loss in which voxels of one label value do not count.

    Unlabelled voxels are handed to the wrapped loss as background that is predicted right: they add nothing to a
    cross-entropy, and nothing to the overlap of any other class in a Dice loss. Scores are taken in single precision,
    whatever the network ran in.

    Source: sparse annotation, Çiçek et al., *3D U-Net: learning dense volumetric segmentation from sparse
    annotation*, MICCAI 2016, section 3 (weights of zero for unlabelled voxels).

    Args:
        loss: a loss on (logits, label map) with a softmax inside, such as
            ``monai.losses.DiceCELoss(softmax=True, to_onehot_y=True, include_background=False)``. A Dice term over
            the background would see the unlabelled voxels as right answers: leave it out.
        ignore_label: label value of the voxels that do not count.

    Shape:
        logits (N, C, *spatial), label (N, 1, *spatial) -> what the wrapped loss returns.

    Example:
        >>> from monai.losses import DiceLoss
        >>> loss = SparseLabelLoss(DiceLoss(softmax=True, to_onehot_y=True, include_background=False))
        >>> label = torch.tensor([[[[0, 1, 255]]]])
        >>> a, b = torch.zeros(1, 2, 1, 3), torch.zeros(1, 2, 1, 3)
        >>> b[..., 2] = 9.0 * torch.tensor([1.0, -1.0]).view(1, 2, 1)
        >>> bool(loss(a, label) == loss(b, label))
        True
    """

    CERTAIN = 20.0  # the softmax of (20, -20) is 1 up to rounding

    def __init__(self, loss: nn.Module, ignore_label: int = 255) -> None:
        super().__init__()
        self.loss = loss
        self.ignore_label = ignore_label

    def forward(self, logits: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        """The wrapped loss over the labelled voxels."""
        ignored = label == self.ignore_label
        certain = torch.full((1, logits.shape[1]) + (1,) * (logits.dim() - 2), -self.CERTAIN, device=logits.device)
        certain[:, 0] = self.CERTAIN
        return self.loss(torch.where(ignored, certain, logits.float()), label.masked_fill(ignored, 0))
