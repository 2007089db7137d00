"""A joint layer between its start and its end."""

from pathlib import Path

import pytest
import torch

from ag_networks.apps.blend_joint import blend
from ag_networks.nets import AttentionGatedSonoNet


def fine_tuned(**options: object) -> AttentionGatedSonoNet:
    network = AttentionGatedSonoNet(2, 1, 3, filters=2, aggregation="fine_tune", **options).eval()  # type: ignore[arg-type]
    with torch.no_grad():
        network.joint.weight.normal_()
        network.joint.bias.normal_()
    return network


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_scores_are_blended(share: float, tmp_path: Path) -> None:
    network = fine_tuned(adaptation=True)
    torch.save(network.state_dict(), tmp_path / "end.pt")
    x = torch.randn(2, 1, 32, 32)
    end = network(x)
    start = network.adaptation(network.features(x)[2]).flatten(2).mean(2)
    blend(tmp_path / "end.pt", tmp_path / "blend.pt", share=share)
    network.load_state_dict(torch.load(tmp_path / "blend.pt", weights_only=True))
    assert torch.allclose(network(x), share * end + (1 - share) * start, atol=1e-5)


@pytest.mark.parametrize(("share", "adaptation", "message"), [(2.0, True, "within 0"), (0.5, False, "end.pt: exp")])
def test_what_cannot_be_blended_is_refused(share: float, adaptation: bool, message: str, tmp_path: Path) -> None:
    torch.save(fine_tuned(adaptation=adaptation).state_dict(), tmp_path / "end.pt")
    with pytest.raises(ValueError, match=message):
        blend(tmp_path / "end.pt", tmp_path / "blend.pt", share=share)
    assert not (tmp_path / "blend.pt").exists()
