"""What is doubtful about the pictures of a training, said before hours are spent on them."""

import logging
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from monai.data import MetaTensor

from ag_networks.data import CaseError, Framing, check_framing

__all__ = ["check_pictures"]

_logger = logging.getLogger(__name__)
SHOWN = 5


def check_pictures(dataset: Sequence[Any], *, structured: bool = True) -> None:
    """Log what reading and preprocessing found odd in the pictures, and how alike they are framed.

    Args:
        dataset: dictionaries with ``"image"``, after their preprocessing; each is looked at once.
        structured: whether one map for all pictures is to be learnt from them
            (:func:`ag_networks.data.check_framing`).

    Raises:
        CaseError: if it is, and they have nothing in common.
    """
    sizes: list[tuple[int, int]] = []
    odd: dict[str, list[str]] = {}

    def looked_at() -> Iterator[tuple[str, Any]]:
        for i in range(len(dataset)):
            image = dataset[i]["image"]
            meta = image.meta if isinstance(image, MetaTensor) else {}
            name = Path(str(meta.get("filename_or_obj", f"picture {i}"))).name
            top, left, bottom, right = meta.get("fundus_box") or (0, 0, *meta.get("spatial_shape", image.shape[1:]))
            sizes.append((int(bottom - top), int(right - left)))
            for text in filter(None, str(meta.get("picture_warnings", "")).split("; ")):
                odd.setdefault(text, []).append(name)
            yield name, image

    try:
        # one after the other: a large set is not in memory at once, and `sizes` is full when it is needed
        framing = check_framing(looked_at(), sizes=sizes) if structured else deque(looked_at(), maxlen=0)
    except CaseError as error:
        raise CaseError(f"{error}; --attention none trains without a map") from error
    finally:
        for text, names in odd.items():
            more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
            _logger.warning("%d of %d pictures: %s: %s%s", len(names), len(sizes), text, ", ".join(names[:SHOWN]), more)
    if isinstance(framing, Framing):
        _logger.info("%s", framing)
        for text in framing.warnings:
            _logger.warning("%s", text)
