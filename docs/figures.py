"""Draw the figures of docs/explanation: ``python docs/figures.py``."""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import numpy as np
import torch
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from ag_networks import create_network
from ag_networks.data import make_phantom
from ag_networks.visualize import capture_attention

FOLDER = Path(__file__).parent / "explanation" / "figures"
BLUE, ORANGE, GREEN, GRAY = "#cfe2f3", "#fce5cd", "#d9ead3", "#eeeeee"
GATES = {"decoder.level1.gate": "level 1", "decoder.level2.gate": "level 2", "decoder.level3.gate": "level 3"}


def main() -> None:
    """Write gate.png, network.png and start.png."""
    plt.rcParams.update({"font.size": 9, "savefig.dpi": 100})
    FOLDER.mkdir(parents=True, exist_ok=True)
    for draw in (draw_gate, draw_network, draw_start):
        figure = draw()
        path = FOLDER / f"{draw.__name__.removeprefix('draw_')}.png"
        figure.savefig(path, bbox_inches="tight", metadata={"Software": None})
        plt.close(figure)
        print(f"{path.name}: {path.stat().st_size / 1000:.0f} kB")


def draw_gate() -> plt.Figure:
    """One attention gate: what is computed on which grid."""
    figure, axes = plt.subplots(figsize=(9.4, 3.2))
    axes.axvspan(1.7, 7.75, color="#fafafa", zorder=0)
    for x, text in ((0.6, "fine grid"), (4.7, "coarse grid"), (10.0, "fine grid")):
        axes.text(x, 2.95, text, ha="center", color="gray")
    _box(axes, 0.6, 2.2, "skip features $x$\n$C$ channels", BLUE)
    _box(axes, 0.6, 0.6, "gating signal $g$\n(a coarser grid)", ORANGE)
    _box(axes, 2.75, 2.2, r"$\theta$: $W_x$" "\nkernel, stride $s$", GRAY)
    _box(axes, 2.75, 0.6, r"$\phi$: $W_g, b_{xg}$" "\n1x1, resample", GRAY)
    _box(axes, 4.25, 1.4, "+", GRAY)
    _box(axes, 5.1, 1.4, r"$\sigma_1$" "\nReLU", GRAY)
    _box(axes, 6.1, 1.4, r"$\psi, b_\psi$" "\n1x1", GRAY)
    _box(axes, 7.15, 1.4, r"$\sigma_2$" "\nsigmoid", GRAY)
    _box(axes, 8.5, 1.4, "resample\n(linear)", GRAY)
    _box(axes, 10.0, 2.2, r"$\alpha \odot x$", GREEN)
    _box(axes, 11.5, 2.2, r"$\hat x = W(\alpha \odot x)$" "\n1x1, norm", GREEN)
    _box(axes, 10.0, 0.6, r"coefficients $\alpha$" "\n1 channel", GREEN)
    for start, end in (
        ((1.45, 2.2), (1.95, 2.2)),
        ((1.45, 0.6), (1.95, 0.6)),
        ((3.55, 2.0), (4.05, 1.55)),
        ((3.5, 0.8), (4.05, 1.25)),
        ((4.43, 1.4), (4.7, 1.4)),
        ((5.47, 1.4), (5.65, 1.4)),
        ((6.5, 1.4), (6.65, 1.4)),
        ((7.62, 1.4), (7.92, 1.4)),
        ((9.05, 1.6), (9.6, 1.98)),
        ((9.05, 1.2), (9.5, 0.9)),
        ((10.45, 2.2), (10.7, 2.2)),
    ):
        _arrow(axes, start, end)
    axes.plot([0.6, 0.6, 10.0], [2.5, 2.72, 2.72], color="black", lw=1)
    _arrow(axes, (10.0, 2.72), (10.0, 2.42))
    axes.set(xlim=(-0.3, 12.3), ylim=(0.15, 3.15))
    axes.axis("off")
    return figure


def draw_network() -> plt.Figure:
    """Attention U-Net: channels and grid of every level, and which features gate which skip."""
    figure, axes = plt.subplots(figsize=(9.4, 5.2))
    channels, size = (16, 32, 64, 128, 256), np.array([160, 160, 96])
    for level, width in enumerate(channels):
        y, grid = 4.0 - level, "x".join(map(str, size // 2**level))
        if level == 4:
            _box(axes, 4.0, y, f"coarsest map: {width} channels\n{grid}", ORANGE)
            break
        left, right = 0.9 + 0.45 * level, 7.1 - 0.45 * level
        _box(axes, left, y, f"{width} channels\n{grid}", BLUE)
        _box(axes, right, y, f"{width} channels\n{grid}", GREEN)
        _arrow(axes, (left + 0.15, y - 0.27), (left + (0.3 if level < 3 else 0.9), y - 0.75))
        below = (right - 0.3, y - 0.75) if level < 3 else (right - 0.9, y - 0.75)
        _arrow(axes, below, (right - 0.15, y - 0.27))
        if level == 0:
            _arrow(axes, (left + 0.7, y), (right - 0.7, y))
            axes.text(4.0, y + 0.08, "skip, not gated", ha="center", color="gray")
            continue
        _arrow(axes, (left + 0.7, y), (3.66, y))
        _box(axes, 4.0, y, "gates", GRAY)
        _arrow(axes, (4.34, y), (right - 0.7, y))
        source = (4.0, 0.3) if level == 3 else (right - 1.1, y - 0.8)
        axes.annotate("", (4.12, y - 0.22), source, arrowprops={"arrowstyle": "->", "color": "#cc6600", "ls": "--"})
    for level in range(4):
        right = 7.1 - 0.45 * level
        _arrow(axes, (right + 0.7, 4.0 - level), (8.35, 4.0 - level))
        axes.text(8.0, 4.07 - level, "head", ha="center", color="gray")
    axes.plot([8.4, 8.4], [0.8, 4.2], color="black", lw=3)
    _arrow(axes, (8.45, 2.5), (8.75, 2.5))
    axes.text(8.8, 2.5, "up-sample,\nfuse (1x1):\nlogits", va="center")
    legend = ("dashed: gating signal", "down: max-pooling, convolutions", "up: linear up-sampling, convolutions")
    axes.text(5.6, -0.05, "\n".join(legend), va="center", color="gray")
    axes.set(xlim=(0.0, 9.9), ylim=(-0.5, 4.45))
    axes.axis("off")
    return figure


def draw_start() -> plt.Figure:
    """Coefficients of all gates on a phantom slice in networks that have not been trained."""
    phantom = make_phantom(4, spacing=(2.5, 2.5, 4.0), shape=(144, 112, 32))
    volume = torch.from_numpy(phantom.image.astype(np.float32)).clamp(0, 255)[None, None] / 127.5 - 1
    k = int((phantom.label == 1).sum(axis=(0, 1)).argmax())
    figure, axes = plt.subplots(2, 4, figsize=(9.4, 4.3), layout="constrained")
    for row, (init, title) in enumerate((("open", 'init="open"'), ("released", 'init="released"'))):
        torch.manual_seed(0)
        network = create_network("attention_unet", out_channels=2, gate_options={"init": init}).eval()
        with torch.inference_mode(), capture_attention(network, on_input_grid=True) as attention:
            network(volume)
        _show(axes[row, 0], volume[0, 0, :, :, k], "gray", (-1, 1))
        axes[row, 0].contour(phantom.label[::-1, ::-1, k].T == 1, [0.5], colors="red", linewidths=1)
        axes[row, 0].set_title(f"phantom, {title}")
        for column, name in zip(axes[row, 1:], GATES, strict=True):
            alpha = attention[name][0, 0, :, :, k]
            picture = _show(column, alpha, "viridis", (0, 1))
            column.set_title(f"{GATES[name]}: {alpha.min():.2f} to {alpha.max():.2f}")
    figure.colorbar(picture, ax=axes, shrink=0.7, label=r"coefficient $\alpha$")
    return figure


def _box(axes: Axes, x: float, y: float, text: str, color: str) -> None:
    style = {"boxstyle": "round,pad=0.35", "facecolor": color, "edgecolor": "black", "linewidth": 0.8}
    axes.text(x, y, text, ha="center", va="center", bbox=style)


def _arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    axes.annotate("", end, start, arrowprops={"arrowstyle": "->", "lw": 1})


def _show(axes: Axes, image: torch.Tensor, colors: str, limits: tuple[float, float]) -> matplotlib.image.AxesImage:
    """A slice of an array in RAS+ order as radiologists see it: the front on top, the patient's right on the left."""
    axes.axis("off")
    return axes.imshow(image.flip(0, 1).T, cmap=colors, vmin=limits[0], vmax=limits[1])


if __name__ == "__main__":
    main()
