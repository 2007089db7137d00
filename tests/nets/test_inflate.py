"""The inflated network computes on a stack of equal slices what the 2D network computes on one."""

import pytest
import torch
from network_helpers import as_if_trained, relative_error

from ag_networks.nets import AttentionGatedUNet, inflate

KERNELS = [[3, 3, 1], [3, 3, 3], [3, 3, 3]]
STRIDES = [[2, 2, 1], [2, 2, 2]]


def pair(gates: int) -> tuple[AttentionGatedUNet, AttentionGatedUNet]:
    flat = as_if_trained(AttentionGatedUNet(2, 1, 2, channels=(3, 4, 5), gates=gates)).eval()
    deep = as_if_trained(
        AttentionGatedUNet(3, 1, 2, channels=(3, 4, 5), gates=gates, kernel_size=KERNELS, strides=STRIDES)
    ).eval()
    return flat, deep


@pytest.mark.parametrize("gates", [0, 1, 2])
def test_equal_slices_give_the_result_of_one(gates: int) -> None:
    flat, deep = pair(gates)
    deep.load_state_dict(inflate(flat.state_dict(), deep.state_dict()))
    x = torch.randn(2, 1, 16, 12, dtype=torch.float64)
    stack = deep(x[..., None].expand(-1, -1, -1, -1, 8))
    for z in range(8):
        assert relative_error(stack[..., z], flat(x)) < 1e-12


def test_without_pooling_along_the_third_axis_every_slice_is_on_its_own() -> None:
    flat, _ = pair(2)
    deep = AttentionGatedUNet(3, 1, 2, channels=(3, 4, 5), gates=2, strides=(2, 2, 1)).double().eval()
    deep.load_state_dict(inflate(flat.state_dict(), deep.state_dict()))
    x = torch.randn(1, 1, 16, 16, 3, dtype=torch.float64)
    for z in range(3):
        assert relative_error(deep(x)[..., z], flat(x[..., z])) < 1e-12


def test_the_source_is_left_alone() -> None:
    flat, deep = pair(1)
    before = {key: value.clone() for key, value in flat.state_dict().items()}
    inflate(flat.state_dict(), deep.state_dict())
    assert all(torch.equal(value, before[key]) for key, value in flat.state_dict().items())


def test_weights_of_another_width_are_refused() -> None:
    _, deep = pair(0)
    other = AttentionGatedUNet(2, 1, 2, channels=(3, 4, 6), gates=0)
    with pytest.raises(ValueError, match=r"bottleneck.*cannot become"):
        inflate(other.state_dict(), deep.state_dict())
