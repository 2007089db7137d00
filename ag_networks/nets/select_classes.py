"""A network of fewer classes from the weights of one of more."""

from collections.abc import Mapping, Sequence

import torch

__all__ = ["select_classes"]


def select_classes(state_dict: Mapping[str, torch.Tensor], classes: Sequence[int]) -> dict[str, torch.Tensor]:
    r"""Weights of an :class:`~ag_networks.nets.AttentionGatedUNet` whose outputs are some outputs of another.

    The result is exact: with fused deep supervision the scores of level k are :math:`F_k H_k x_k`, a product of two
    1x1 convolutions; the selected network has :math:`H'_k = (F_k H_k)` restricted to the chosen rows and
    :math:`F'_k` the identity.

    Source: Schlemper, Oktay et al. (2019), section 3.3.1: for fine-tuning on a set with pancreas labels only, the
    outputs of the other organs are left out of the softmax.

    Args:
        state_dict: weights of the network with more classes.
        classes: which outputs to keep, in the order of the new network.

    Raises:
        ValueError: if a class does not exist, or none is chosen.
    """
    state = dict(state_dict)
    heads = sorted(key for key in state if key.startswith("decoder.level") and key.endswith(".head.weight"))
    total = state[heads[0]].shape[0]
    if not classes or not all(0 <= c < total for c in classes):
        raise ValueError(f"classes must lie within the {total} outputs of the weights, got {list(classes)}.")
    index = torch.as_tensor(list(classes))
    if "fuse.weight" not in state:
        for key in heads:
            for name in (key, key.replace("weight", "bias")):
                state[name] = state[name][index]
        return state
    fuse, bias = state["fuse.weight"], state["fuse.bias"][index]
    identity = torch.eye(len(index), dtype=fuse.dtype, device=fuse.device)
    for level, key in enumerate(heads):  # level0, the finest, comes first in both
        part = fuse[index, level * total : (level + 1) * total].flatten(1)
        weight, head_bias = state[key], state[key.replace("weight", "bias")]
        state[key] = (part @ weight.flatten(1)).view(len(index), *weight.shape[1:])
        state[key.replace("weight", "bias")] = part @ head_bias
    state["fuse.weight"] = identity.repeat(1, len(heads)).view(len(index), -1, *fuse.shape[2:])
    state["fuse.bias"] = bias
    return state
