"""ImageNet weights for our backbones: downloaded by the library that publishes them, or from a file."""

import importlib
import re
from collections.abc import Callable, Mapping
from http.client import HTTPException
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from monai.networks import nets
from monai.networks.nets.efficientnet import url_map as efficientnet_urls
from monai.networks.nets.senet import SE_NET_MODELS
from torch import nn

__all__ = ["load_imagenet_weights", "torchvision_models"]

State = Mapping[str, torch.Tensor]
RGB = 3
NOT_USED = re.compile(r"num_batches_tracked$|^aux[12]\.|^AuxLogits\.")  # of a checkpoint: counters, auxiliary heads
# Per family (a name without its last digits) what brings the names of the parameters, MONAI's and the publisher's, to
# a common form. MONAI's own reader of the SE networks passes over the blocks from the eleventh of a stage on.
RENAMES: dict[str, tuple[tuple[str, str], ...]] = {
    "densenet": (
        (r"(denselayer\d+)(?:\.layers)?\.(norm|conv)\.?([12])\.", r"\1.\2\3."),
        (r"^class_layers\.out\.", "classifier."),
    ),
    "efficientnet_b": ((r"^_blocks\.\d+\.(\d+)\.", r"_blocks.\1."),),
    "seresnet": (
        (r"\.conv(\d)\.conv\.", r".conv\1."),
        (r"\.conv(\d)\.adn\.N\.", r".bn\1."),
        (r"\.se_layer\.fc\.0\.", ".se_module.fc1."),
        (r"\.se_layer\.fc\.2\.", ".se_module.fc2."),
        (r"\.project\.conv\.", ".downsample.0."),
        (r"\.project\.adn\.N\.", ".downsample.1."),
    ),
}


def load_imagenet_weights(network: nn.Module, name: str, path: str | Path | None = None) -> None:
    """Give a classifier published weights; its last layer stays as it is.

    With one input channel the first kernel is summed over its three: the same as a picture of three equal channels.

    Args:
        network: the classifier, which is changed in place.
        name: as in :func:`ag_networks.nets.create_backbone`, which made it.
        path: a checkpoint, with its publisher's names of the parameters or those of the network. None: it is
            downloaded and cached by the library that publishes it; of torchvision's weights the first version.

    Raises:
        ValueError: if the weights are not to be had, not found, damaged, or those of another network. The network is
            then as before.
    """
    if path is None:
        state, source = _published(name), "the published weights"
    else:
        state, source = _read(Path(path)), f"the weights in {Path(path).name}"
    renames = RENAMES.get(_family(name), ())
    own = {_common(key, renames): value for key, value in network.state_dict(keep_vars=True).items()}
    given = {_common(key, renames): value for key, value in state.items()}
    layers = [key for key, module in network.named_modules() if isinstance(module, (nn.Conv2d, nn.Linear))]
    first, last = _common(f"{layers[0]}.weight", renames), _common(f"{layers[-1]}.", renames)
    own, given = (
        {key: value for key, value in tensors.items() if not key.startswith(last) and not NOT_USED.search(key)}
        for tensors in (own, given)
    )
    if first in given and own[first].shape[1] == 1:
        given[first] = given[first].sum(1, keepdim=True)
    missing, extra = own.keys() - given.keys(), given.keys() - own.keys()
    unlike = {key for key in own.keys() & given.keys() if own[key].squeeze().shape != given[key].squeeze().shape}
    if missing or extra or unlike:
        raise ValueError(
            f"{source} belong to another network than {name!r} with these options: {len(missing)} parameters are "
            f"missing, {len(extra)} unknown and {len(unlike)} of another shape, for example "
            f"{min(unlike or missing or extra)}."
        )
    with torch.no_grad():
        for key, value in own.items():
            value.copy_(given[key].reshape(value.shape))


def torchvision_models(what: str) -> Any:
    """The module ``torchvision.models``.

    Args:
        what: what needs it, for the message.

    Raises:
        ValueError: if torchvision is not installed or does not fit the installed torch.
    """
    try:
        return importlib.import_module("torchvision.models")
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == "torchvision":
            raise ValueError(f"{what} needs torchvision, which is not installed.") from None
        reason: Exception = error
    except (ImportError, RuntimeError, AttributeError, OSError) as error:  # a build for another torch
        reason = error
    raise ValueError(
        f"{what} needs torchvision, which is installed but does not fit torch {torch.__version__} "
        f"({_first_line(reason)}); install the build that belongs to it."
    ) from None


def _published(name: str) -> State:
    try:
        return PUBLISHED.get(_family(name), _torchvision_weights)(name)
    except (OSError, RuntimeError, HTTPException, UnpicklingError) as error:
        raise ValueError(
            f"the ImageNet weights of {name!r} could not be downloaded ({_first_line(error)}); download them where "
            "there is a connection and give the file's path instead."
        ) from None


def _torchvision_weights(name: str) -> State:
    models = torchvision_models(f"downloading the ImageNet weights of {name!r}")
    if name not in models.list_models(module=models):
        raise ValueError(f"there are no ImageNet weights of {name!r}.")
    weights = models.get_model_weights(name)
    state: State = getattr(weights, "IMAGENET1K_V1", weights.DEFAULT).get_state_dict(check_hash=True)
    return state


def _densenet_weights(name: str) -> State:
    own = {"densenet121": nets.DenseNet121, "densenet169": nets.DenseNet169, "densenet201": nets.DenseNet201}
    return own[name](2, RGB, 1000, pretrained=True).state_dict() if name in own else _torchvision_weights(name)


def _efficientnet_weights(name: str) -> State:
    return torch.hub.load_state_dict_from_url(efficientnet_urls[name.replace("_", "-")], weights_only=True)


def _seresnet_weights(name: str) -> State:
    return torch.hub.load_state_dict_from_url(SE_NET_MODELS[name.replace("se", "se_", 1)], weights_only=True)


PUBLISHED: dict[str, Callable[[str], State]] = {
    "densenet": _densenet_weights,
    "efficientnet_b": _efficientnet_weights,
    "seresnet": _seresnet_weights,
}


def _read(path: Path) -> State:
    if not path.is_file():
        raise ValueError(f"checkpoint {path.name} was not found in the folder '{path.parent.name}'.")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (MemoryError, PermissionError):
        raise
    except Exception as error:  # what torch raises for damaged files has no common base class
        raise ValueError(f"checkpoint {path.name} is corrupt or none ({_first_line(error)}).") from None
    if not isinstance(state, Mapping) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise ValueError(f"checkpoint {path.name} holds no state dict; expected parameter names and tensors.")
    return state


def _family(name: str) -> str:
    return name.rstrip("0123456789")


def _common(key: str, renames: tuple[tuple[str, str], ...]) -> str:
    for pattern, replacement in renames:
        key = re.sub(pattern, replacement, key)
    return key


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0][:120] if str(error) else type(error).__name__
