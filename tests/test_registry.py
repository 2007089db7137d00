"""The registry: names, presets, overrides, the decorator, and MONAI's own ways to a network."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from ag_networks import registry
from ag_networks.blocks import AttentionGate
from ag_networks.nets import AttentionGatedUNet
from ag_networks.registry import create_network, list_networks, register_network

PUBLISHED = [
    *("attention_unet", "attention_unet_released", "attention_unet_single_gate"),
    *("unet", "unet_10m40", "unet_6m44"),
]
# parameters as the papers print them, in millions, and exactly
SONONETS = {
    "attention_sononet_16": (0.70, 700_716),
    "attention_sononet_32": (2.79, 2_787_884),
    "attention_sononet_8": (0.18, 177_068),
    "sononet_16": (0.65, 647_914),
    "sononet_32": (2.58, 2_583_978),
    "sononet_64": (10.32, 10_320_682),
    "sononet_8": (0.16, 162_954),
}
# with five outputs
LOCAL_ATTENTION = {
    "learn_to_pay_attention_vgg": 32_430_661,
    "residual_attention_56": 29_771_973,
    "residual_attention_92": 50_427_589,
}


@pytest.fixture
def _restored(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take what a test registers out of the registry again."""
    monkeypatch.setattr(registry, "_REGISTRY", dict(registry._REGISTRY))


def in_a_process_of_its_own(code: str) -> Any:
    """Run Python code, which prints JSON, where it can change nothing for the other tests."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(registry.__file__).parents[1]), *sys.path])}
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("*", PUBLISHED),
        ("unet", ["unet"]),
        ("unet*", PUBLISHED[3:]),
        ("*unet", ["attention_unet", "unet"]),
        ("unet_?m44", ["unet_6m44"]),
        ("attention_unet_[rs]*", PUBLISHED[1:3]),
        ("sonnet", []),
    ],
)
def test_names_are_listed_sorted_and_by_wildcards(pattern: str, names: list[str]) -> None:
    assert [name for name in list_networks(pattern) if name in PUBLISHED] == names
    assert list_networks(pattern) == sorted(list_networks(pattern))


def test_listing_imports_neither_torch_nor_monai() -> None:
    code = "import json, sys; from ag_networks import list_networks; names = list_networks('unet*')\n"
    code += "print(json.dumps([names, sorted({'torch', 'monai', 'numpy'} & sys.modules.keys())]))"
    assert in_a_process_of_its_own(code) == [["unet", "unet_10m40", "unet_6m44"], []]


def parameters(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize(("name", "printed", "exact"), [(name, *counts) for name, counts in SONONETS.items()])
def test_a_sononet_has_the_published_parameters_and_14_planes(name: str, printed: float, exact: int) -> None:
    network: Any = create_network(name).eval()
    assert parameters(network) == exact
    assert f"{exact / 1e6:.2f}" == f"{printed:.2f}"
    assert registry._REGISTRY[name].description.endswith(f"{printed:.2f} M")
    assert network(torch.zeros(1, 1, 32, 32)).shape == (1, 14)


@pytest.mark.parametrize(
    ("aggregation", "filters", "printed"),
    [("deep_supervision", 8, 0.18), ("deep_supervision", 16, 0.71), ("deep_supervision", 32, 2.80)]
    + [("fine_tune", 8, 0.18), ("fine_tune", 16, 0.70), ("fine_tune", 32, 2.79)],
)
def test_the_other_rows_of_the_papers_table_are_an_argument_away(
    aggregation: str, filters: int, printed: float
) -> None:
    network = create_network(f"attention_sononet_{filters}", aggregation=aggregation)
    assert f"{parameters(network) / 1e6:.2f}" == f"{printed:.2f}"


def test_sononets_are_listed() -> None:
    assert [name for name in list_networks("*sononet*") if name in SONONETS] == sorted(SONONETS)


@pytest.mark.parametrize(("name", "exact"), LOCAL_ATTENTION.items(), ids=LOCAL_ATTENTION)
def test_the_networks_with_local_attention_grade_fundus_pictures(name: str, exact: int) -> None:
    with torch.device("meta"):
        network = create_network(name)
    assert parameters(network) == exact
    assert registry._REGISTRY[name].description.endswith(f"{exact / 1e6:.2f} M")
    assert network(torch.zeros(2, 3, 224, 224, device="meta")).shape == (2, 5)


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_network_takes_one_channel_and_gives_four_in_3d(name: str) -> None:
    network = create_network(name, channels=(4, 8))
    assert isinstance(network, AttentionGatedUNet)
    assert network.spatial_dims == 3
    assert network.in_channels == 1
    assert network.decoder["level0"].head.out_channels == 4


def test_arguments_override_the_preset_for_one_network() -> None:
    network: Any = create_network("unet", spatial_dims=2, in_channels=3, out_channels=5, channels=(4, 8), gates=1)
    assert network.encoder[0].conv1.conv.weight.shape == (4, 3, 3, 3)
    assert network.fuse.out_channels == 5
    assert any(isinstance(m, AttentionGate) for m in create_network("unet", channels=(4, 8, 8), gates=1).modules())
    assert not any(isinstance(m, AttentionGate) for m in create_network("unet", channels=(4, 8, 8)).modules())


@pytest.mark.parametrize(
    ("name", "started_open"),
    [("attention_unet", True), ("attention_unet_released", False), ("attention_unet_single_gate", False)],
)
def test_the_released_presets_start_as_released(name: str, started_open: bool) -> None:
    network = create_network(name, channels=(8, 16, 32))
    gates = [m for m in network.modules() if isinstance(m, AttentionGate)]
    assert gates
    assert all((gate.psi.bias.item() > 1) == started_open for gate in gates)


def test_an_unknown_name_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"unknown network 'attention-unet'; known: attention_sononet_16, .*unet_6m44"):
        create_network("attention-unet")


@pytest.mark.usefixtures("_restored")
def test_a_function_registers_its_network() -> None:
    @register_network
    def tiny(width: int = 2) -> nn.Module:
        """A layer.

        More about it.
        """
        return nn.Linear(width, 1)

    assert isinstance(tiny(), nn.Linear)  # the decorator leaves the function usable
    assert "tiny" in list_networks("t*")
    network = create_network("tiny", width=3)
    assert isinstance(network, nn.Linear)
    assert network.in_features == 3
    assert registry._REGISTRY["tiny"].description == "A layer."


@pytest.mark.usefixtures("_restored")
def test_a_name_is_registered_once() -> None:
    def unet() -> nn.Module:
        return nn.Identity()

    with pytest.raises(ValueError, match="a network named 'unet' is registered already"):
        register_network(unet)
    assert isinstance(create_network("unet", channels=(4, 8)), AttentionGatedUNet)


WITH_MONAI = """
import json, monai.networks.nets
from monai.bundle import ConfigParser
from monai.bundle.config_item import ComponentLocator

def table():
    locator = ComponentLocator()
    locator.get_component_module_name("UNet")
    return {name: modules[:] for name, modules in locator._components_table.items()}

def resolve(target):
    parser = ConfigParser({"net": {"_target_": target, "spatial_dims": 2, "in_channels": 1, "out_channels": 2,
                                   "channels": [4, 8], **({"strides": [2]} if target == "UNet" else {})}})
    try:
        network = parser.get_parsed_content("net")
    except Exception as error:
        return type(error).__name__
    return type(network).__module__ + "." + type(network).__name__

TARGETS = ["ag_networks.nets.AttentionGatedUNet", "monai.networks.nets.AttentionGatedUNet", "AttentionGatedUNet",
           "UNet"]
import ag_networks.transforms, ag_networks.metrics, ag_networks.visualize
known = table()
before = [resolve(target) for target in TARGETS[:1] + TARGETS[3:]]
short_before = resolve("AttentionGatedUNet")
from ag_networks import register_with_monai
for _ in range(2):
    register_with_monai()
now = table()
print(json.dumps({
    "before": before, "short_before": short_before, "after": [resolve(target) for target in TARGETS],
    "same": monai.networks.nets.AttentionGatedUNet is __import__("ag_networks.nets").nets.AttentionGatedUNet,
    "starts": ComponentLocator.MOD_START,
    "changed": sorted(name for name in known if now[name] != known[name]),
}))
"""


def test_monai_finds_the_networks_by_all_three_names_and_loses_none_of_its_own() -> None:
    found = in_a_process_of_its_own(WITH_MONAI)
    ours = "ag_networks.nets.attention_unet.AttentionGatedUNet"
    monais = "monai.networks.nets.unet.UNet"
    assert found["before"] == [ours, monais]
    assert not found["short_before"].endswith("AttentionGatedUNet")
    assert found["after"] == [ours, ours, ours, monais]
    assert found["same"]
    assert len(found["starts"]) == len(set(found["starts"])) == 2  # calling it again changes nothing
    assert found["changed"] == []
