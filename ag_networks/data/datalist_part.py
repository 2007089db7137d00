"""One part of a classification datalist, checked before hours are spent on it."""

from __future__ import annotations

import json
import logging
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ag_networks.data.cases import CaseError
from ag_networks.data.folders import shown
from ag_networks.data.subject_split import check_split

__all__ = ["check_classes", "read_class_names", "read_datalist_part"]

EXPECTED = "expected a datalist, JSON with lists of image, label, subject under training and validation"

logger = logging.getLogger(__name__)


def read_datalist_part(
    datalist_file: str | os.PathLike[str], part: str, dataset_dir: str | os.PathLike[str], *, classes: int
) -> list[dict[str, Any]]:
    """Read the items of a part, their paths joined with `dataset_dir`.

    A class without a picture in the part is a warning in the log.

    Args:
        datalist_file: as `ag_networks.apps.make_datalist` writes it.
        part: such as `training`.
        dataset_dir: where the paths start from.
        classes: number of classes; labels are 0 to `classes` - 1.

    Raises:
        CaseError: if the file is missing or no datalist, the part is missing or empty, a label is no class, or a
            subject or a picture is in two parts.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = Path(folder, "list.json").write_text('{"training": [{"image": "a.png", "label": 0}]}')
        ...     Path(read_datalist_part(f"{folder}/list.json", "training", "frames", classes=1)[0]["image"]).as_posix()
        'frames/a.png'
    """
    path = Path(datalist_file)
    try:
        parts = json.loads(path.read_text(encoding="utf-8"))
        items = [(item["image"], item["label"]) for item in parts[part]]
    except OSError as error:
        raise CaseError(f"datalist {shown(path)}: {error.strerror or 'cannot be read'}; {EXPECTED}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise CaseError(f"datalist {shown(path)}: no list of pictures under {part!r}; {EXPECTED}") from error
    if not items:
        raise CaseError(f"datalist {shown(path)}: no picture under {part!r}; {EXPECTED}")
    for image, label in items:
        if type(label) is not int or not 0 <= label < classes:
            raise CaseError(f"{Path(image).name}: label {label!r} is no class; expected 0 to {classes - 1}")
    check_split({name: content for name, content in parts.items() if isinstance(content, list)})
    counts = Counter(label for _, label in items)
    if absent := [str(label) for label in range(classes) if not counts[label]]:
        logger.warning("no picture of class %s under %r", ", ".join(absent), part)
    # MONAI's load_decathlon_datalist would take a subject for a path where a folder has its name.
    return [{**item, "image": os.path.normpath(os.path.join(dataset_dir, item["image"]))} for item in parts[part]]


def read_class_names(datalist_file: str | os.PathLike[str]) -> dict[str, str]:
    """Read the names of the classes by index, as ``channel_def`` in a bundle's ``metadata.json`` has them.

    Args:
        datalist_file: as `ag_networks.apps.make_datalist` writes it.

    Raises:
        CaseError: if the file is missing or names no classes.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = Path(folder, "list.json").write_text('{"class_names": {"0": "healthy", "1": "glaucoma"}}')
        ...     read_class_names(f"{folder}/list.json")
        {'0': 'healthy', '1': 'glaucoma'}
    """
    path = Path(datalist_file)
    try:
        named = json.loads(path.read_text(encoding="utf-8"))["class_names"]
        # one at least
        return {str(index): str(named[str(index)]) for index in range(max(len(named), 1))}
    except OSError as error:
        raise CaseError(f"datalist {shown(path)}: {error.strerror or 'cannot be read'}; {EXPECTED}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise CaseError(
            f"datalist {shown(path)}: names no classes; expected one that make_datalist has written"
        ) from error


def check_classes(items: Sequence[Mapping[str, Any]]) -> None:
    """Refuse a training part from which nothing can be learnt.

    Raises:
        CaseError: if all pictures are of one class.

    Example:
        >>> check_classes([{"label": 0}, {"label": 2}])
    """
    labels = {item["label"] for item in items}
    if len(labels) < 2:
        only = ", ".join(map(str, labels)) or "none"
        raise CaseError(f"{len(items)} pictures to train on, all of class {only}; expected at least two classes")
