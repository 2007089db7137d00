"""Gating signal for attention gates."""

from ag_networks.blocks.convolution import ConvNormAct

__all__ = ["GatingSignal"]


class GatingSignal(ConvNormAct):
    r"""1x1 convolution, normalization and activation of the coarsest features, as the signal that gates finer ones.

    Source: the released code of Schlemper, Oktay et al. (2019); their text uses the coarsest activation map itself
    ("for segmentation, one can directly use the coarsest activation map as the gating signal", section 2.2.2), and
    so do our networks unless they are given ``gating_channels``.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the coarsest features.
        out_channels: channels of the signal.
        norm, act: as in :class:`~ag_networks.blocks.convolution.ConvNormAct`.

    Shape:
        (N, in_channels, *coarse) -> (N, out_channels, *coarse).
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        out_channels: int,
        *,
        norm: str | tuple | None = "batch",
        act: str | tuple | None = ("relu", {"inplace": True}),
    ) -> None:
        super().__init__(spatial_dims, in_channels, out_channels, kernel_size=1, norm=norm, act=act)
