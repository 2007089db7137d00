"""A dataset in which a case that fails becomes a line of text instead of the end of the run."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping
from typing import Any

from monai.data import Dataset

from ag_networks.data.cases import CaseError

__all__ = ["CaseDataset"]

MAX_MESSAGE = 300
DIRECTORIES = re.compile(r"(?<![\w.\\/])(?:[A-Za-z]:)?[\\/](?:[^\\/\s'\":;,]+[\\/])*(?=[^\\/\s'\":;,])")

logger = logging.getLogger(__name__)


class CaseDataset(Dataset):
    """Cases as `list_cases` gives them, transformed on access; a failed one is `{"case": name, "failure": line}`.

    A `CaseError`, or a `ValueError` raised by a module of `ag_networks` (what its transforms raise for bad data), keeps
    its message, also where MONAI has wrapped it. Any other exception becomes `unexpected: <type>: <message>`, without
    folders, and its traceback goes to the log at level DEBUG. So one bad case never stops the others.

    Args:
        data: dictionaries with `"image"` (path) and `"case"` (name).
        transform: as in `monai.data.Dataset`.

    Example:
        >>> from monai.transforms import LoadImaged
        >>> load = LoadImaged("image", reader="ag_networks.data.CTReader")
        >>> CaseDataset([{"image": "no/such/scan.nii.gz", "case": "scan"}], load)[0]["failure"]
        'scan.nii.gz: no such file; expected a 3D NIfTI image (.nii, .nii.gz) or a folder of CT slices in DICOM'
    """

    def _transform(self, index: int) -> Any:
        item = self.data[index]
        try:
            return super()._transform(index)
        except Exception as error:  # whatever is wrong with this case, the others are still done
            logger.debug("%s: failed", item["case"], exc_info=True)
            return {"case": item["case"], "failure": _explain(error, item)}


def _explain(error: Exception, item: Mapping[str, Any]) -> str:
    cause: BaseException = error
    while not _is_clear(cause) and (deeper := cause.__cause__ or cause.__context__):
        cause = deeper
    text = " ".join(_without_folders(str(cause), item).split())[:MAX_MESSAGE]
    return text if _is_clear(cause) else f"unexpected: {type(cause).__name__}: {text}"


def _is_clear(error: BaseException) -> bool:
    """Whether the message was written for the user: by this package, about data."""
    if isinstance(error, CaseError):
        return True
    trace = error.__traceback__
    while trace and trace.tb_next:
        trace = trace.tb_next
    raised_in = trace.tb_frame.f_globals.get("__name__", "") if trace else ""
    return isinstance(error, ValueError) and raised_in.startswith("ag_networks.")


def _without_folders(text: str, item: Mapping[str, Any]) -> str:
    """Cut every path down to its last part; the case's own folder first, as its name may hold spaces."""
    own = os.path.dirname(os.path.abspath(str(item["image"])))
    return DIRECTORIES.sub("", text.replace(own + os.sep, ""))
