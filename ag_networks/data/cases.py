"""The cases below a folder: NIfTI files and folders of DICOM slices, without those already finished."""

from __future__ import annotations

import json
import logging
import os
from collections import Counter
from pathlib import Path
from typing import Any

from ag_networks.data.folders import shown, walk_visible

__all__ = ["CaseError", "is_dicom_file", "is_nifti_file", "list_cases"]

NIFTI_SUFFIXES = (".nii.gz", ".nii")
DICOM_SUFFIXES = (".dcm", ".ima", ".dicom")
IMAGE_AND_LABEL_FOLDERS = (("images", "labels"), ("imagesTr", "labelsTr"))
EXPECTED = "expected NIfTI files (.nii, .nii.gz) or folders of DICOM slices"

logger = logging.getLogger(__name__)


class CaseError(ValueError):
    """A case (or a folder of cases) that cannot be used; the message is one line made for the user.

    It names the file or folder without its absolute path, what was found and what was expected.
    """


def list_cases(
    dataset_dir: str | os.PathLike[str],
    *,
    output_dir: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    settings: dict[str, Any] | None = None,
) -> list[dict[str, str]]:
    """List the cases of `dataset_dir` as `{"image": path, "case": name}`, in a stable order.

    A case is a NIfTI file, or a folder that holds DICOM slices. A name is the path relative to `dataset_dir` without
    the extension, its separators replaced by `_`; nothing from a file's content enters it. Hidden files and files of
    other kinds are ignored and counted in the log. Where `images` and `labels` lie side by side, only `images` is read.

    A case is finished when `output_dir/<case>/<case>.json` exists and the `"settings"` recorded in it equal `settings`
    (any record counts where `settings` is None). Finished cases are left out unless `overwrite`, so the list is empty
    when all are finished.

    Args:
        dataset_dir: a folder, searched with its subfolders, or one NIfTI file.
        output_dir: where results are written; not searched for cases when it lies inside `dataset_dir`.
        overwrite: list finished cases too.
        settings: what makes a result, JSON-serializable.

    Raises:
        CaseError: if `dataset_dir` does not exist, holds no case, is also `output_dir`, or gives two cases one name.

    Example:
        >>> import pathlib, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     pathlib.Path(folder, "liver_01.nii.gz").touch()
        ...     [case["case"] for case in list_cases(folder)]
        ['liver_01']
    """
    root = Path(dataset_dir).expanduser()
    output = Path(output_dir).expanduser() if output_dir is not None else None
    if not root.exists():
        raise CaseError(f"dataset_dir {shown(root)}: no such file or folder; {EXPECTED}")
    if output is not None and root.is_dir() and os.path.realpath(output) == os.path.realpath(root):
        raise CaseError(f"output_dir {shown(output)}: is also dataset_dir; expected another folder for the results")
    root, paths = _find_paths(root, output)
    cases = [{"image": str(path), "case": name} for path, name in zip(paths, _unique_names(paths, root), strict=True)]
    if output is None or overwrite:
        return cases
    return _unfinished(cases, output, settings)


def is_nifti_file(path: str | os.PathLike[str]) -> bool:
    """Whether the file's name ends as that of a NIfTI file."""
    return os.fspath(path).lower().endswith(NIFTI_SUFFIXES)


def is_dicom_file(path: str | os.PathLike[str]) -> bool:
    """Whether a file claims to be DICOM, by its name or its first bytes; DICOMDIR indices are not slices."""
    path = Path(path)
    if path.name.upper() == "DICOMDIR":
        return False
    if path.suffix.lower() in DICOM_SUFFIXES:
        return True
    try:
        with path.open("rb") as file:
            head = file.read(132)
    except OSError:
        return False
    # Files without the 128 bytes of preamble start with an element of group 0002 or 0008, little endian.
    return head[128:132] == b"DICM" or (len(head) == 132 and head[:2] in (b"\x02\x00", b"\x08\x00") and head[3] == 0)


def _find_paths(root: Path, output: Path | None) -> tuple[Path, list[Path]]:
    """Return the folder that names are relative to and the paths of its cases."""
    if root.is_file():
        if is_nifti_file(root):
            return root, [root]
        found = "one DICOM file; give the folder of its series" if is_dicom_file(root) else "not a NIfTI file"
        raise CaseError(f"dataset_dir {shown(root)}: {found}; {EXPECTED}")
    for images, labels in IMAGE_AND_LABEL_FOLDERS:
        if (root / images).is_dir() and (root / labels).is_dir():
            logger.info("reading the cases of %s/ only; %s/ holds labels", images, labels)
            root = root / images
            break
    paths: list[Path] = []
    others: Counter[str] = Counter()
    for folder, files in walk_visible(root, output):
        dicom = [file for file in files if not is_nifti_file(file) and is_dicom_file(folder / file)]
        paths += [folder] if dicom else []
        paths += [folder / file for file in files if is_nifti_file(file)]
        others.update(Path(file).suffix or "no extension" for file in files if not is_nifti_file(file))
        others.subtract(Path(file).suffix or "no extension" for file in dicom)
    ignored = ", ".join(f"{count} x {suffix}" for suffix, count in sorted(others.items()) if count)
    if not paths:
        raise CaseError(f"dataset_dir {shown(root)}: no case in it, found {ignored or 'nothing'}; {EXPECTED}")
    if ignored:
        logger.info("ignored files that are neither NIfTI nor DICOM: %s", ignored)
    return root, paths


def _unique_names(paths: list[Path], root: Path) -> list[str]:
    """Name the cases; where a name repeats, its kind is added, so that other cases never change a name by order."""
    names = [_name(path, root) for path in paths]
    repeated = {name for name, count in Counter(names).items() if count > 1}
    names = [f"{name}_{_kind(path)}" if name in repeated else name for name, path in zip(names, paths, strict=True)]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise CaseError(f"dataset_dir {shown(root)}: several cases would be named {twice[0]}; expected unique names")
    return names


def _name(path: Path, root: Path) -> str:
    relative = "_".join(path.relative_to(root).parts) or Path(os.path.abspath(path)).name
    if path.is_dir():
        return relative or "case"
    suffix = next(suffix for suffix in NIFTI_SUFFIXES if relative.lower().endswith(suffix))
    return relative[: -len(suffix)]


def _kind(path: Path) -> str:
    if path.is_dir():
        return "dicom"
    return "nii_gz" if path.suffix.lower() == ".gz" else "nii"


def _unfinished(cases: list[dict[str, str]], output: Path, settings: dict[str, Any] | None) -> list[dict[str, str]]:
    left = [case for case in cases if not _is_finished(output / case["case"] / f"{case['case']}.json", settings)]
    if len(left) < len(cases):
        done = len(cases) - len(left)
        logger.info("%d of %d cases are finished; overwrite=true redoes them", done, len(cases))
    return left


def _is_finished(record: Path, settings: dict[str, Any] | None) -> bool:
    try:
        content = json.loads(record.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    # Compared as JSON, where a tuple is a list.
    return isinstance(content, dict) and (
        settings is None or content.get("settings") == json.loads(json.dumps(settings))
    )
