"""Sampling weights that make classes equally frequent."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

__all__ = ["class_balanced_weights"]


def class_balanced_weights(
    items: Iterable[Mapping[str, Any]], *, share: Mapping[int | str, float] | None = None
) -> list[float]:
    r"""Weight of every item for ``torch.utils.data.WeightedRandomSampler``: :math:`w_i = s_c / n_c` for its class c.

    Source: Schlemper, Oktay et al., Medical Image Analysis 53 (2019), section 3.2: every class is sampled equally
    often (:math:`s_c = 1`), and the background of 14 classes as often as the 13 planes together (:math:`s_c = 13`).

    Args:
        items: a datalist with ``"label"``.
        share: :math:`s_c` by class where it is not 1.

    Raises:
        ValueError: if there is no item.

    Example:
        >>> class_balanced_weights([{"label": 0}, {"label": 0}, {"label": 1}], share={1: 3})
        [0.5, 0.5, 3.0]
    """
    labels = [int(item["label"]) for item in items]
    if not labels:
        raise ValueError("expected a datalist with at least one item, got none.")
    counts = Counter(labels)
    shares = {int(label): value for label, value in (share or {}).items()}
    return [shares.get(label, 1.0) / counts[label] for label in labels]
