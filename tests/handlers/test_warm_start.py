"""Warm starts: the papers' two, what is taken and what is not, the log line, and what is refused."""

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from ag_networks.handlers import or_exit, warm_start
from ag_networks.nets import AttentionGatedSonoNet, AttentionGatedUNet, SonoNet

State = dict[str, torch.Tensor]


def sononet(filters: int = 4, classes: int = 3, **options: Any) -> SonoNet:
    return SonoNet(2, 1, classes, filters=filters, **options)


def gated(aggregation: str = "mean", filters: int = 4, classes: int = 3, **options: Any) -> AttentionGatedSonoNet:
    return AttentionGatedSonoNet(2, 1, classes, filters=filters, aggregation=aggregation, **options)


def trained(network: nn.Module) -> nn.Module:
    """With other numbers in every parameter and buffer."""
    for value in network.state_dict().values():
        value.add_(1)
    return network


def copied(network: nn.Module) -> State:
    return {key: value.clone() for key, value in network.state_dict().items()}


PAIRS = {
    "AG-SonoNet from SonoNet": (sononet(), gated, "adaptation", {"gates", "classifiers"}),
    "fine-tuning from the mean": (gated(), lambda: gated("fine_tune"), "", {"joint"}),
    "fine-tuning from deep supervision": (gated("deep_supervision"), lambda: gated("fine_tune"), "joint", {"joint"}),
    "other classes": (gated(classes=5), gated, "classifiers", {"classifiers"}),
    "the same": (gated(), gated, "", set()),
}


@pytest.mark.parametrize("file", [False, True], ids=["state dict", "file"])
@pytest.mark.parametrize(("source", "make", "unused", "anew"), PAIRS.values(), ids=PAIRS)
def test_what_fits_is_taken_and_the_rest_stays(
    source: nn.Module, make: Any, unused: str, anew: set[str], file: bool, tmp_path: Path, caplog: Any
) -> None:
    given, network = trained(source).state_dict(), make()
    torch.save({"network": given, "epoch": 3}, tmp_path / "last.pt")
    before = copied(network)
    with caplog.at_level(logging.INFO):
        warm_start(network, tmp_path / "last.pt" if file else given)
    for key, value in network.state_dict().items():
        expected = before if key.split(".")[0] in anew else given
        assert torch.equal(value, expected[key]), key
    (line,) = caplog.messages
    assert line.startswith(f"warm start from {'checkpoint last.pt' if file else 'the given weights'}: ")
    started, not_used = line.split("; started anew: ")[1].split("; not used: ")
    assert {name.split(".")[0] for name in started.split(", ")} == (anew or {"none"})
    assert not_used.split(".")[0] == (unused or "none")
    assert str(tmp_path) not in line


def test_the_share_is_that_of_the_numbers(caplog: pytest.LogCaptureFixture) -> None:
    network = nn.Sequential(nn.Linear(4, 5), nn.Linear(5, 10))
    with caplog.at_level(logging.INFO):
        warm_start(network, {"0.weight": torch.ones(5, 4), "1.weight": torch.ones(3, 3)})
    assert "24 % of the network's numbers taken; started anew: 0, 1; not used: 1" in caplog.text  # 20 of 85
    assert network[0].weight.min() == 1


def test_many_layers_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        warm_start(gated(), sononet(convolutions=(2, 2, 3, 3, 3), bias=False).state_dict())
    assert " more; not used: adaptation.0.conv" in caplog.text  # a layer that is not there is named
    assert "features.stages.0.2" in caplog.text


def test_fine_tuning_goes_on_from_where_the_mean_was() -> None:
    source, network = gated().eval(), gated("fine_tune").eval()
    warm_start(network, source.state_dict())
    x = torch.rand(2, 1, 32, 32)
    source.training = True
    torch.testing.assert_close(network(x), torch.stack(source(x)).mean(0))


REFUSED = {
    "other widths": (sononet(filters=8), "0% are there .* at least 10% .*features.*weight is .* there and .* here"),
    "another network": (AttentionGatedUNet(2, 1, 3, channels=(4, 8)), "0% are there by name and shape"),
    "nothing": (nn.Identity(), r"0% are there by name and shape, expected at least 10%\.$"),
}


@pytest.mark.parametrize(("source", "message"), REFUSED.values(), ids=REFUSED)
def test_too_little_is_refused_and_changes_nothing(source: nn.Module, message: str, tmp_path: Path) -> None:
    network = gated()
    before = copied(network)
    torch.save(source.state_dict(), tmp_path / "other.pt")
    with pytest.raises(ValueError, match=f"checkpoint other.pt cannot be a warm start: .*{message}") as error:
        warm_start(network, tmp_path / "other.pt")
    assert "\n" not in str(error.value)
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


def test_how_much_must_fit_can_be_asked() -> None:
    with pytest.raises(ValueError, match="expected at least 99%"):
        warm_start(gated(), sononet().state_dict(), at_least=0.99)


def test_a_missing_file_ends_a_bundle_with_one_line(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"^error: checkpoint none\.pt was not found in the folder '"):
        or_exit(warm_start, gated(), tmp_path / "none.pt")
