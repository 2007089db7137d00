"""Scores and attention maps come apart."""

import pytest
import torch
from monai.data import MetaTensor

from ag_networks.nets import AttentionGatedUNet
from ag_networks.transforms import SplitAttentiond
from ag_networks.visualize import WithAttention


@pytest.mark.parametrize("maps", [0, 1, 4])
def test_the_first_channels_are_the_scores(maps: int) -> None:
    affine = torch.diag(torch.tensor([2.0, 2.0, 3.0, 1.0]))
    pred = MetaTensor(torch.arange(float(2 + maps)).view(-1, 1, 1, 1).expand(-1, 3, 4, 5).clone(), affine=affine)
    data = {"pred": pred, "image": 1}
    result = SplitAttentiond("pred", num_classes=2)(data)
    assert data.keys() == {"pred", "image"}
    assert data["pred"] is pred
    assert result["pred"][:, 0, 0, 0].tolist() == [0, 1]
    assert ("attention" in result) == (maps > 0)
    if maps:
        assert result["attention"][:, 0, 0, 0].tolist() == list(range(2, 2 + maps))
        assert torch.equal(result["attention"].affine, affine)
    assert torch.equal(result["pred"].affine, affine)


def test_undoes_with_attention() -> None:
    network = AttentionGatedUNet(2, 1, 3, channels=(4, 8, 16)).eval()
    both = WithAttention(network)
    x = torch.randn(1, 1, 20, 18)
    with torch.no_grad():
        result = SplitAttentiond("pred", num_classes=3)({"pred": both(x)[0]})
        torch.testing.assert_close(result["pred"], network(x)[0])
    assert result["attention"].shape == (len(both.names), 20, 18)
