"""Classifiers of pictures by name: MONAI's own, and torchvision's where it is installed."""

from collections.abc import Callable, Iterable
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from monai.networks import nets
from torch import nn

from ag_networks.nets.imagenet_weights import load_imagenet_weights, torchvision_models

__all__ = ["create_backbone"]

RGB = 3  # channels of the pictures of ImageNet
WITH_AUXILIARY_HEADS = ("googlenet", "inception_v3")


def create_backbone(
    name: str,
    out_channels: int,
    *,
    in_channels: int = RGB,
    pretrained: bool | str | Path = False,
    **options: Any,
) -> nn.Module:
    """A 2D classifier by name, with a new last layer.

    MONAI's, with torchvision's layout, so that the same weights fit: ``resnet10``, ``18``, ``34``, ``50``, ``101``,
    ``152``; ``densenet121``, ``161``, ``169``, ``201``; ``efficientnet_b0`` to ``b7``; ``seresnet50``, ``101``,
    ``152``. Any other name is that of a classifier of torchvision, such as ``googlenet`` or ``vgg16``, which has to be
    installed for it; its auxiliary heads are left out.

    Args:
        name: one of the above.
        out_channels: number of classes; the output holds logits.
        in_channels: number of input channels; torchvision's classifiers take 3 only.
        pretrained: True: ImageNet weights, downloaded and cached by the library that publishes them (of torchvision's
            the first version, as in Xu et al., arXiv 2007.15897). A path: such a file, downloaded before, with its
            publisher's names of the parameters or those of the network. The last layer starts anew in both cases. With
            one input channel the first kernel is summed over its three: the same as three equal channels.
        options: further arguments of the network's class, for example ``block_inplanes=(16, 32, 64, 128)`` of a ResNet,
            ``growth_rate=8`` of a DenseNet, ``layers=(1, 1, 1, 1)`` of both residual networks.

    Shape:
        (N, in_channels, H, W) -> (N, out_channels). Pretrained weights expect RGB in [0, 1], standardized with
        ImageNet's means and deviations.

    Raises:
        ValueError: for an unknown name, options that the class does not have, another number of input channels than
            torchvision's or pretrained weights take; if torchvision is needed and missing or does not fit torch; if
            weights are not to be had, not found, damaged, or those of another network.

    Example:
        >>> import torch
        >>> network = create_backbone("resnet18", 5, block_inplanes=(4, 8, 16, 32)).eval()
        >>> network(torch.zeros(2, 3, 64, 64)).shape
        torch.Size([2, 5])
    """
    if in_channels < 1 or out_channels < 1:
        raise ValueError(f"backbone {name!r} needs at least one channel in and out, got {in_channels}, {out_channels}.")
    if pretrained and in_channels not in (1, RGB):
        raise ValueError(f"pretrained weights of {name!r} take 1 or 3 input channels, got {in_channels}.")
    build = _monai_network if name in MONAI else _torchvision_network
    try:
        network = build(name, in_channels, out_channels, options)
    except TypeError as error:
        raise ValueError(f"backbone {name!r} refuses its options {sorted(options)}: {error}.") from error
    if pretrained:
        load_imagenet_weights(network, name, None if pretrained is True else pretrained)
    return network


def _efficientnet(**arguments: Any) -> nn.Module:
    network = nets.EfficientNetBN(pretrained=False, **arguments)
    network.set_swish(memory_efficient=False)  # the other one cannot be scripted
    return network


# what MONAI calls the channels in and out, and the other arguments
Builder = tuple[Callable[..., nn.Module], tuple[str, str], dict[str, Any]]
COMMON = ("in_channels", "num_classes")
TORCHVISION_LAYOUT = {"block_inplanes": (64, 128, 256, 512), "bias_downsample": False, "conv1_t_stride": 2}
MONAI: dict[str, Builder] = {
    **{
        name: (nets.ResNet, ("n_input_channels", "num_classes"), {"block": block, "layers": n, **TORCHVISION_LAYOUT})
        for name, block, n in (
            ("resnet10", "basic", (1, 1, 1, 1)),
            ("resnet18", "basic", (2, 2, 2, 2)),
            ("resnet34", "basic", (3, 4, 6, 3)),
            ("resnet50", "bottleneck", (3, 4, 6, 3)),
            ("resnet101", "bottleneck", (3, 4, 23, 3)),
            ("resnet152", "bottleneck", (3, 8, 36, 3)),
        )
    },
    **{
        name: (nets.DenseNet, ("in_channels", "out_channels"), arguments)
        for name, arguments in (
            ("densenet121", {"block_config": (6, 12, 24, 16)}),
            ("densenet161", {"block_config": (6, 12, 36, 24), "init_features": 96, "growth_rate": 48}),
            ("densenet169", {"block_config": (6, 12, 32, 32)}),
            ("densenet201", {"block_config": (6, 12, 48, 32)}),
        )
    },
    **{f"efficientnet_b{i}": (_efficientnet, COMMON, {"model_name": f"efficientnet-b{i}"}) for i in range(8)},
    "seresnet50": (nets.SEResNet50, COMMON, {}),
    "seresnet101": (nets.SEResNet101, COMMON, {}),
    "seresnet152": (nets.SEResNet152, COMMON, {}),
}


def _monai_network(name: str, in_channels: int, out_channels: int, options: dict[str, Any]) -> nn.Module:
    build, names, arguments = MONAI[name]
    return build(**{"spatial_dims": 2, **arguments, **options, names[0]: in_channels, names[1]: out_channels})


def _torchvision_network(name: str, in_channels: int, out_channels: int, options: dict[str, Any]) -> nn.Module:
    models = torchvision_models(f"backbone {name!r} is none of MONAI's ({_close_first(name, MONAI)}); any other")
    names = models.list_models(module=models)
    if name not in names:
        raise ValueError(f"unknown backbone {name!r}; known: {_close_first(name, {*MONAI, *names})}.")
    if in_channels != RGB:
        raise ValueError(
            f"backbone {name!r} of torchvision takes 3 input channels, got {in_channels}: repeat a grey channel, or "
            f"take one of MONAI's ({', '.join(MONAI)})."
        )
    if name in WITH_AUXILIARY_HEADS:
        # their published weights expect another standardization, to which they change the input themselves; they do so
        # without these weights, too, so that a network that was trained from them is the same when it is built again
        options = {"aux_logits": False, "init_weights": True, "transform_input": True, **options}
    network: nn.Module = models.get_model(name, weights=None, num_classes=out_channels, **options)
    return network


def _close_first(name: str, known: Iterable[str]) -> str:
    """The known names, those like `name` first."""
    known = sorted(known)
    close = get_close_matches(name, known)
    return ", ".join([*close, *(other for other in known if other not in close)])
