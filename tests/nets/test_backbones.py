"""Backbones by name: MONAI's, torchvision's through a stand-in, the layout and names of published weights, refusals."""

import sys
import types
from collections.abc import Callable
from enum import Enum
from http.client import IncompleteRead
from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np
import pytest
import torch
from monai.networks.nets import DenseNet121, EfficientNetBN, SEResNet50, densenet, efficientnet, senet
from network_helpers import as_if_trained, relative_error
from torch import nn

from ag_networks.nets import create_backbone
from ag_networks.nets.backbones import MONAI

# parameters with 1000 classes, as torchvision's documentation gives them (SE networks: of their publisher)
PUBLISHED = {
    "resnet18": 11_689_512,
    "resnet34": 21_797_672,
    "resnet50": 25_557_032,
    "resnet101": 44_549_160,
    "resnet152": 60_192_808,
    "densenet121": 7_978_856,
    "densenet161": 28_681_000,
    "densenet169": 14_149_480,
    "densenet201": 20_013_928,
    "efficientnet_b0": 5_288_548,
    "efficientnet_b7": 66_347_960,
    "seresnet50": 28_088_024,
}
SMALL: dict[str, dict[str, Any]] = {
    "resnet18": {"block_inplanes": (4, 8, 12, 16)},
    "densenet121": {"init_features": 4, "growth_rate": 2, "block_config": (2, 2)},
    "efficientnet_b0": {},
    "seresnet50": {"layers": (1, 1, 1, 1)},
}
KINDS = pytest.mark.parametrize("name", SMALL)
State = dict[str, torch.Tensor]


def small(name: str, out_channels: int = 5, **options: Any) -> nn.Module:
    return create_backbone(name, out_channels, **{**SMALL[name], **options})


def count(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize(("name", "parameters"), PUBLISHED.items(), ids=PUBLISHED)
def test_it_has_the_published_parameters(name: str, parameters: int) -> None:
    with torch.device("meta"):
        assert count(create_backbone(name, 1000)) == parameters


@pytest.mark.parametrize("name", [name for name in MONAI if name not in PUBLISHED])
def test_every_name_builds_a_classifier_of_grey_pictures(name: str) -> None:
    with torch.device("meta"):
        network = create_backbone(name, 3, in_channels=1)
    layers = [m for m in network.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    assert layers[0].weight.shape[1] == 1
    assert layers[-1].weight.shape[0] == 3


@KINDS
@pytest.mark.parametrize("in_channels", [1, 3])
def test_it_classifies_and_scripts(name: str, in_channels: int) -> None:
    network = small(name, in_channels=in_channels).eval()
    x = torch.randn(2, in_channels, 64, 96)
    y = network(x)
    assert y.shape == (2, 5)
    assert relative_error(torch.jit.script(network)(x), y) < 1e-5


def test_options_make_it_smaller() -> None:
    full, narrow = create_backbone("resnet18", 5), create_backbone("resnet18", 5, block_inplanes=(16, 32, 64, 128))
    assert count(narrow) < count(full) / 15


# what torchvision, and the publishers of the other weights, call the parameters


def torchvision_densenet(key: str) -> str:
    return key.replace(".layers.", ".").replace("class_layers.out", "classifier")


def published_densenet(key: str) -> str:
    for part in ("norm1", "norm2", "conv1", "conv2"):
        key = key.replace(f".layers.{part}.", f".{part[:-1]}.{part[-1]}.")
    return key.replace("class_layers.out", "classifier")


def published_efficientnet(key: str) -> str:
    parts = key.split(".")
    return ".".join(parts[:1] + parts[2:]) if parts[0] == "_blocks" else key


def published_seresnet(key: str) -> str:
    for i in "123":
        key = key.replace(f"conv{i}.adn.N", f"bn{i}").replace(f"conv{i}.conv", f"conv{i}")
    key = key.replace("se_layer.fc.0", "se_module.fc1").replace("se_layer.fc.2", "se_module.fc2")
    return key.replace("project.conv", "downsample.0").replace("project.adn.N", "downsample.1")


NAMES: dict[str, tuple[str, Callable[[str], str]]] = {
    "resnet": ("resnet18", str),
    "densenet of torchvision": ("densenet121", torchvision_densenet),
    "densenet in the published file": ("densenet121", published_densenet),
    "efficientnet": ("efficientnet_b0", published_efficientnet),
    "seresnet": ("seresnet50", published_seresnet),
    "our own names": ("densenet121", str),
}


def published(name: str, rename: Callable[[str], str], **options: Any) -> tuple[nn.Module, State]:
    """A network with 1000 classes, as if trained, and its weights as they are published."""
    network = as_if_trained(small(name, 1000, **options), torch.float32).eval()
    state = {rename(key): value.clone() for key, value in network.state_dict().items()}
    for key, value in state.items():
        if "se_module" in key and value.dim() == 2:
            state[key] = value[..., None, None]
    return network, state


def last_layer(network: nn.Module) -> nn.Linear:
    return [m for m in network.modules() if isinstance(m, nn.Linear)][-1]


def with_the_last_layer_of(network: nn.Module, other: nn.Module) -> nn.Module:
    """The network, having shown that its last layer is one of its own, with the other's."""
    mine, theirs = last_layer(network), last_layer(other)
    assert not torch.equal(mine.weight, theirs.weight)
    mine.load_state_dict(theirs.state_dict())
    return network.eval()


@pytest.mark.parametrize(("name", "rename"), NAMES.values(), ids=NAMES)
def test_a_file_gives_all_but_the_last_layer(name: str, rename: Callable[[str], str], tmp_path: Path) -> None:
    expected, state = published(name, rename)
    torch.save(state, tmp_path / "weights.pth")
    network = small(name, 1000, pretrained=str(tmp_path / "weights.pth"))
    x = torch.randn(2, 3, 64, 64)
    assert torch.equal(with_the_last_layer_of(network, expected)(x), expected(x))
    assert small(name, 7, pretrained=tmp_path / "weights.pth")(x).shape == (2, 7)


@KINDS
def test_a_grey_picture_is_one_of_three_equal_channels(name: str, tmp_path: Path) -> None:
    expected, state = published(name, str)
    torch.save(state, tmp_path / "weights.pth")
    network = small(name, 1000, in_channels=1, pretrained=tmp_path / "weights.pth")
    grey, colour = (next(m for m in n.modules() if isinstance(m, nn.Conv2d)) for n in (network, expected))
    x = torch.randn(2, 1, 64, 64)
    assert relative_error(grey(x), colour(x.expand(-1, 3, -1, -1))) < 1e-5


def without_rounding(network: EfficientNetBN) -> EfficientNetBN:
    """The same activation as ours has: the other form of it differs by rounding."""
    network.set_swish(memory_efficient=False)
    return network


READERS: dict[str, tuple[Any, Callable[[], nn.Module], str, Callable[[str], str]]] = {
    "efficientnet": (
        efficientnet.model_zoo,
        lambda: without_rounding(EfficientNetBN("efficientnet-b0")),
        "efficientnet_b0",
        published_efficientnet,
    ),
    "seresnet": (
        senet,
        lambda: SEResNet50(layers=(1, 1, 1, 1), spatial_dims=2, in_channels=3, pretrained=True),
        "seresnet50",
        published_seresnet,
    ),
}


@pytest.mark.parametrize(("module", "build", "name", "rename"), READERS.values(), ids=READERS)
def test_downloaded_weights_are_read_as_monai_reads_them(
    module: Any,
    build: Callable[[], nn.Module],
    name: str,
    rename: Callable[[str], str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _, state = published(name, rename)
    asked: list[str] = []

    def download(url: str, **_: Any) -> State:
        asked.append(url)
        return dict(state)

    for place in (torch.hub, module):
        function = "load_url" if place is efficientnet.model_zoo else "load_state_dict_from_url"
        monkeypatch.setattr(place, function, download)
    monai = build().eval()
    ours = small(name, 1000, pretrained=True)
    x = torch.randn(2, 3, 64, 64)
    assert torch.equal(with_the_last_layer_of(ours, monai)(x), monai(x))
    assert len(asked) == 2
    assert asked[0] == asked[1]


def test_blocks_with_two_digits_are_read_too(monkeypatch: pytest.MonkeyPatch) -> None:
    layers = (1, 1, 11, 1)
    expected, state = published("seresnet50", published_seresnet, layers=layers)
    assert "layer3.10.bn1.weight" in state
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", lambda url, **_: state)
    network = small("seresnet50", 1000, layers=layers, pretrained=True)
    x = torch.randn(1, 3, 64, 64)
    assert torch.equal(with_the_last_layer_of(network, expected)(x), expected(x))


def test_monai_downloads_densenets(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = as_if_trained(DenseNet121(2, 3, 1000), torch.float32).eval()
    state = {published_densenet(key): value for key, value in expected.state_dict().items()}
    monkeypatch.setattr(densenet, "load_state_dict_from_url", lambda url, **_: state)
    x = torch.randn(1, 3, 64, 64)
    network = create_backbone("densenet121", 1000, pretrained=True)
    assert torch.equal(with_the_last_layer_of(network, expected)(x), expected(x))


@pytest.mark.parametrize("error", [URLError("no route"), IncompleteRead(b""), RuntimeError("invalid hash value")])
def test_no_connection_is_one_clear_line(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", fail)
    with pytest.raises(ValueError, match=r"^the ImageNet weights of 'seresnet50' could not be downloaded \(.*path"):
        small("seresnet50", pretrained=True)


def unlike(change: Callable[[State], object]) -> Callable[[Path], None]:
    """Write the weights of a small ResNet with a change."""

    def write(path: Path) -> None:
        _, state = published("resnet18", str)
        change(state)
        torch.save(state, path)

    return write


BAD_FILES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "missing": (lambda path: None, r"checkpoint a\.pth was not found in the folder '"),
    "text": (lambda path: path.write_text("hello"), r"checkpoint a\.pth is corrupt or none \("),
    "numpy": (lambda path: torch.save({"a": np.ones(3)}, path), r"checkpoint a\.pth is corrupt or none \("),
    "a list": (lambda path: torch.save([1], path), r"checkpoint a\.pth holds no state dict"),
    "one missing": (
        unlike(lambda state: state.pop("bn1.weight")),
        r"the weights in a\.pth belong to another network than 'resnet18' .*: 1 parameters are missing, 0 unknown and "
        r"0 of another shape, for example bn1\.weight\.$",
    ),
    "of a deeper network": (unlike(lambda state: state.update({"layer4.2.x": torch.ones(1)})), "0 .*, 1 unknown and 0"),
    "wider": (
        unlike(lambda state: state.update({"bn1.weight": torch.ones(5)})),
        r"0 unknown and 1 of another shape, for example bn1\.weight",
    ),
}


@pytest.mark.parametrize(("write", "message"), BAD_FILES.values(), ids=BAD_FILES)
def test_a_file_that_does_not_fit_is_refused(write: Callable[[Path], Any], message: str, tmp_path: Path) -> None:
    write(tmp_path / "a.pth")
    with pytest.raises(ValueError, match=message) as found:
        small("resnet18", pretrained=tmp_path / "a.pth")
    assert "\n" not in str(found.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "resnet18", "out_channels": 0}, r"'resnet18' needs at least one channel in and out, got 3, 0\.$"),
        ({"name": "resnet18", "in_channels": 4, "pretrained": True}, "take 1 or 3 input channels, got 4"),
        ({"name": "resnet18", "width": 3}, r"'resnet18' refuses its options \['width'\]: .*unexpected.*'width'"),
    ],
    ids=["no classes", "four channels", "option"],
)
def test_wrong_arguments_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        create_backbone(**{"out_channels": 5, **arguments})


class Tiny(nn.Module):
    """Stands for a classifier of torchvision; it keeps what it was built with."""

    def __init__(self, num_classes: int, **options: Any) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3)
        self.classifier = nn.Linear(4, num_classes)
        self.options = options

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.conv1(x).mean((2, 3)))


class Weights(Enum):
    """Stands for the published weights of a classifier: two versions."""

    IMAGENET1K_V1 = 1.0
    IMAGENET1K_V2 = 2.0

    def get_state_dict(self, check_hash: bool) -> State:
        assert check_hash
        value = self.value
        return {
            "conv1.weight": torch.full((4, 3, 3, 3), value),
            "conv1.bias": torch.full((4,), value),
            "classifier.weight": torch.full((1000, 4), value),
            "classifier.bias": torch.full((1000,), value),
            "aux1.conv.weight": torch.zeros(3),
        }


Weights.DEFAULT = Weights.IMAGENET1K_V2  # type: ignore[attr-defined]


@pytest.fixture
def _torchvision(monkeypatch: pytest.MonkeyPatch) -> None:
    models: Any = types.ModuleType("torchvision.models")
    models.list_models = lambda module: ["googlenet", "vgg16", "resnet18"] if module is models else []
    models.get_model = lambda name, weights, **options: Tiny(**options)
    models.get_model_weights = lambda name: Weights
    monkeypatch.setitem(sys.modules, "torchvision", types.ModuleType("torchvision"))
    monkeypatch.setitem(sys.modules, "torchvision.models", models)


@pytest.mark.usefixtures("_torchvision")
def test_torchvision_has_the_rest() -> None:
    network: Any = create_backbone("vgg16", 5, dropout=0.25)
    assert isinstance(network, Tiny)
    assert network(torch.zeros(2, 3, 8, 8)).shape == (2, 5)
    assert network.options == {"dropout": 0.25}
    googlenet: Any = create_backbone("googlenet", 5)
    assert googlenet.options == {"aux_logits": False, "init_weights": True, "transform_input": True}
    assert not isinstance(create_backbone("resnet18", 5, block_inplanes=(4, 4, 4, 4)), Tiny)  # MONAI's comes first


@pytest.mark.usefixtures("_torchvision")
def test_torchvision_has_the_first_published_weights() -> None:
    network: Any = create_backbone("googlenet", 5, pretrained=True)
    assert (network.conv1.weight == 1).all()
    assert not (network.classifier.weight == 1).any()
    # what is loaded into it later must not depend on where it started
    assert network.options == vars(create_backbone("googlenet", 5))["options"]


@pytest.mark.usefixtures("_torchvision")
@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("vgg17", {}, r"^unknown backbone 'vgg17'; known: vgg16, densenet121, .*googlenet, .*seresnet50\.$"),
        ("vgg16", {"in_channels": 1}, r"^backbone 'vgg16' of torchvision takes 3 input channels, got 1: repeat a grey"),
        ("resnet10", {"pretrained": True}, r"^there are no ImageNet weights of 'resnet10'\.$"),
    ],
    ids=["unknown", "grey", "no weights"],
)
def test_what_torchvision_does_not_have_is_refused(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        create_backbone(name, 5, **options)


WITHOUT = pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("vgg16", {}, r"^backbone 'vgg16' is none of MONAI's \(densenet121, .*\); any other needs torchvision, which "),
        ("resnet51", {}, r"^backbone 'resnet51' is none of MONAI's \(resnet50, .*\); any other needs torchvision"),
        ("resnet18", {"pretrained": True}, r"^downloading the ImageNet weights of 'resnet18' needs torchvision, which"),
    ],
    ids=["torchvision's", "unknown", "weights"],
)


@WITHOUT
def test_a_missing_torchvision_is_named(
    name: str, options: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torchvision", None)
    monkeypatch.setitem(sys.modules, "torchvision.models", None)
    with pytest.raises(ValueError, match=f"{message}.*is not installed"):
        create_backbone(name, 5, **options)


@WITHOUT
def test_a_torchvision_for_another_torch_is_named(
    name: str, options: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "torchvision").mkdir()
    (tmp_path / "torchvision" / "__init__.py").write_text("raise RuntimeError('operator nms does not exist')")
    for module in [key for key in sys.modules if key.partition(".")[0] == "torchvision"]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValueError, match=rf"{message}.*does not fit torch .* \(operator nms does not exist\); install"):
        create_backbone(name, 5, **options)
