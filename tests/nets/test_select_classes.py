"""The selected network gives the chosen outputs of the other one."""

from typing import Any

import pytest
import torch
from network_helpers import as_if_trained, relative_error

from ag_networks.nets import AttentionGatedUNet, select_classes

OPTIONS = [
    pytest.param(2, {"deep_supervision": "fused"}, id="fused"),
    pytest.param(3, {"deep_supervision": "fused", "gates": 2}, id="fused 3D"),
    pytest.param(2, {"deep_supervision": "fused", "gates": 0}, id="fused, no gates"),
    pytest.param(2, {"deep_supervision": "list"}, id="list"),
    pytest.param(2, {"deep_supervision": None}, id="one head"),
]


def network(dims: int, classes: int, options: dict[str, Any]) -> AttentionGatedUNet:
    made = AttentionGatedUNet(dims, 1, classes, channels=(3, 4, 5, 6), **options)
    return as_if_trained(made).eval()  # type: ignore[no-any-return]


@pytest.mark.parametrize(("dims", "options"), OPTIONS)
@pytest.mark.parametrize("classes", [[0, 1], [3, 0, 2], [4], [0, 1, 2, 3, 4]], ids=str)
def test_the_outputs_are_the_chosen_ones(dims: int, options: dict[str, Any], classes: list[int]) -> None:
    many, few = network(dims, 5, options), network(dims, len(classes), options)
    few.load_state_dict(select_classes(many.state_dict(), classes))
    x = torch.randn(1, 1, *[16] * dims, dtype=torch.float64)
    assert relative_error(few(x), many(x)[:, classes]) < 1e-12


def test_every_scale_of_deep_supervision_is_chosen() -> None:
    many, few = network(2, 4, {"deep_supervision": "list"}), network(2, 2, {"deep_supervision": "list"})
    few.load_state_dict(select_classes(many.state_dict(), [0, 3]))
    x = torch.randn(2, 1, 16, 16, dtype=torch.float64)
    for chosen, scores in zip(few.train()(x), many.train()(x), strict=True):
        assert relative_error(chosen, scores[:, [0, 3]]) < 1e-12


def test_the_other_weights_are_left_alone() -> None:
    state = network(2, 3, {}).state_dict()
    before = {key: value.clone() for key, value in state.items()}
    selected = select_classes(state, [0, 2])
    assert all(torch.equal(value, before[key]) for key, value in state.items())
    changed = {key for key in selected if selected[key].shape != before[key].shape}
    assert {key.split(".")[0] for key in changed} == {"decoder", "fuse"}
    assert {key for key in changed if "head" not in key} == {"fuse.weight", "fuse.bias"}


@pytest.mark.parametrize("classes", [[0, 3], [-1], []], ids=str)
def test_a_class_that_is_none_is_refused(classes: list[int]) -> None:
    with pytest.raises(ValueError, match=r"within the 3 outputs of the weights"):
        select_classes(network(2, 3, {}).state_dict(), classes)
