"""Datalist of the public ultrasound set FETAL_PLANES_DB, downloaded if wanted (2 GB, CC BY 4.0)."""

import argparse
import hashlib
import shutil
import zipfile
from pathlib import Path

from monai.apps.utils import HashCheckError, download_url, extractall

from ag_networks.apps.make_datalist import print_counts, write_datalist
from ag_networks.data import BRAIN_PLANES, PLANES, divide, find_fetal_planes_db, read_fetal_planes_db
from ag_networks.data.fetal_planes_db import ARCHIVE_URL

__all__ = ["download", "main", "prepare"]

FOLDER = "FETAL_PLANES_DB"


def main() -> None:
    """Command line of :func:`download` and :func:`prepare`."""
    parser = argparse.ArgumentParser(description=__doc__)
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--source", type=Path, help="folder of the unpacked archive")
    where.add_argument("--download", type=Path, help="folder to download and unpack the archive into")
    parser.add_argument("--output", type=Path, help="datalist to write (default: datalist.json beside the set's table)")
    parser.add_argument("--brain-planes", action="store_true", help="the three brain planes instead of the six classes")
    parser.add_argument(
        "--validation", type=float, default=0.15, help="share of the set's training part to validate on"
    )
    parser.add_argument("--seed", type=int, default=0, help="another number gives another validation part")
    parser.add_argument("--url", default=ARCHIVE_URL, help="where to download from (default: %(default)s)")
    parser.add_argument(
        "--md5", help="checksum of the archive, as its Zenodo page gives it; without it none is checked"
    )
    arguments = parser.parse_args()
    try:
        source = arguments.source
        if source is None:
            source = download(arguments.download, url=arguments.url, md5=arguments.md5)
        prepare(
            source,
            arguments.output,
            brain_planes=arguments.brain_planes,
            validation=arguments.validation,
            seed=arguments.seed,
        )
    except (ValueError, OSError) as error:
        parser.exit(2, f"error: {error}\n")


def prepare(
    source: Path,
    output: Path | None = None,
    *,
    brain_planes: bool = False,
    validation: float = 0.15,
    seed: int = 0,
) -> Path:
    """Write the datalist: the set's own test part, and its training part divided by patient; return its path.

    The paths in it start at the folder of the set's table, which is the ``dataset_dir`` for the bundle.

    Raises:
        ValueError: if the set is not whole, or a patient is in both parts.
    """
    folder = find_fetal_planes_db(source)
    parts = divide(read_fetal_planes_db(folder, brain_planes=brain_planes), validation=validation, test=0.0, seed=seed)
    output = output or folder / "datalist.json"
    write_datalist(parts, output)
    print(f"dataset_dir: {folder}\ndatalist: {output}")
    print_counts(parts, BRAIN_PLANES if brain_planes else PLANES)
    return output


def download(folder: Path, *, url: str = ARCHIVE_URL, md5: str | None = None) -> Path:
    """Download the archive into `folder` and unpack it there; return the folder of what was unpacked.

    What is there already is not done again. The checksum of the archive is printed and stands beside it in a file
    ``.md5``; a later run checks against that one if none is given.

    Raises:
        ValueError: if the checksum is another, or the archive is damaged.
        OSError: if the download fails.
    """
    folder.mkdir(parents=True, exist_ok=True)
    archive = folder / "FETAL_PLANES_ZENODO.zip"
    record = archive.with_name(f"{archive.name}.md5")
    if md5 is None and record.is_file():
        md5 = record.read_text(encoding="ascii").split()[0]
    try:
        download_url(url, archive, hash_val=md5, hash_type="md5")
        found = _md5(archive)
        record.write_text(f"{found}  {archive.name}\n", encoding="ascii")
        print(
            f"md5 of {archive.name}: {found} ({'as expected' if md5 else 'not checked: compare it with the web page'})"
        )
        unpacked = folder / FOLDER
        if not unpacked.exists():
            partial = folder / f".{FOLDER}"
            shutil.rmtree(partial, ignore_errors=True)
            extractall(archive, partial, has_base=False)
            partial.rename(unpacked)
    except HashCheckError as error:
        raise ValueError(
            f"{archive.name}: its md5 is not {md5}: delete the file, or give the right checksum"
        ) from error
    except zipfile.BadZipFile as error:
        raise ValueError(f"{archive.name}: no zip file, or a damaged one: delete it and download again") from error
    return unpacked


def _md5(path: Path) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


if __name__ == "__main__":
    main()
