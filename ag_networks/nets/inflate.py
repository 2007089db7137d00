"""Weights of a 3D network from those of the same network in 2D."""

from collections.abc import Mapping

import torch

__all__ = ["inflate"]


def inflate(state_dict: Mapping[str, torch.Tensor], like: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    r"""Weights with which a 3D network computes, slice by slice, what a 2D network computes.

    The axes of the 2D network become the first two of the 3D one. A kernel of odd size k along the third axis holds
    the 2D kernel in its middle plane and zeros elsewhere; one of even size (the strided convolution of a gate) holds
    it in every plane, divided by k. On a volume that is constant along the third axis the result is exact inside the
    reach of the borders; elsewhere, poolings along the third axis mix slices, which fine-tuning has to learn.

    Source: the "centre" initialization of Carreira and Zisserman, *Quo vadis, action recognition?*, CVPR 2017,
    section 2.4 (who repeat the kernel), as used for volumes from slices.

    Args:
        state_dict: weights of the 2D network.
        like: state dict of the 3D network, for the shapes.

    Raises:
        ValueError: if a weight fits neither as it is nor inflated.
    """
    inflated = dict(state_dict)
    for key in sorted(state_dict.keys() & like.keys()):  # the message names the same one every time
        weight, shape = state_dict[key], like[key].shape
        if weight.dim() + 1 == len(shape) == 5:
            depth = shape[-1]
            inflated[key] = torch.zeros(*weight.shape, depth, dtype=weight.dtype, device=weight.device)
            if depth % 2:
                inflated[key][..., depth // 2] = weight
            else:
                inflated[key] += weight[..., None] / depth
        if inflated[key].shape != shape:
            raise ValueError(f"{key}: weights of shape {tuple(weight.shape)} cannot become {tuple(shape)}.")
    return inflated
