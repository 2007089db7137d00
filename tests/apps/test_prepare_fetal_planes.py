"""The public set from a folder and from a server of this test."""

import hashlib
import json
import shutil
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from planes_archive import write_archive

from ag_networks.apps.prepare_fetal_planes import download, main, prepare

ARCHIVE = "FETAL_PLANES_ZENODO.zip"


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[str, str, Path]]:
    """Serve a small archive; yield its address, its md5 and its path."""
    web = tmp_path / "web"
    write_archive(tmp_path / "content")
    web.mkdir()
    path = Path(shutil.make_archive(str(web / "FETAL_PLANES_ZENODO"), "zip", tmp_path / "content"))
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(web)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/{ARCHIVE}", hashlib.md5(path.read_bytes()).hexdigest(), path
    server.shutdown()
    server.server_close()


def test_the_official_split_stays_and_patients_are_not_divided(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_archive(tmp_path / "any" / "set")
    output = prepare(tmp_path, validation=0.4)
    assert output == folder / "datalist.json"
    datalist = json.loads(output.read_text())
    subjects = {part: {item["subject"] for item in items} for part, items in datalist.items()}
    assert subjects["test"] == {"FP00004", "FP00005", "FP00006"}
    assert subjects["training"] | subjects["validation"] == {"FP00001", "FP00002", "FP00003"}
    assert not subjects["training"] & subjects["validation"]
    assert subjects["validation"]
    assert all((folder / item["image"]).is_file() for items in datalist.values() for item in items)
    assert f"dataset_dir: {folder}" in capsys.readouterr().out


def test_brain_planes_are_another_datalist(tmp_path: Path) -> None:
    write_archive(tmp_path / "set")
    output = prepare(tmp_path, tmp_path / "brain.json", brain_planes=True, validation=0)
    datalist = json.loads(output.read_text())
    assert sorted(item["label"] for item in datalist["training"]) == [0, 1, 2]
    assert datalist["validation"] == datalist["test"] == []


def test_the_archive_is_downloaded_checked_and_unpacked(
    served: tuple[str, str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    url, md5, _ = served
    arguments = ["prepare_fetal_planes", "--download", str(tmp_path / "new"), "--url", url, "--md5", md5]
    monkeypatch.setattr(sys, "argv", arguments)
    main()
    assert f"md5 of {ARCHIVE}: {md5} (as expected)" in capsys.readouterr().out
    datalist = json.loads((tmp_path / "new" / "FETAL_PLANES_DB" / "datalist.json").read_text())
    assert sum(map(len, datalist.values())) == 9
    assert not list((tmp_path / "new").glob(".*")), "nothing half done is left"


def test_the_checksum_is_recorded_and_used_again(
    served: tuple[str, str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url, md5, _ = served
    download(tmp_path / "new", url=url)
    assert f"{md5} (not checked: compare it with the web page)" in capsys.readouterr().out
    assert (tmp_path / "new" / f"{ARCHIVE}.md5").read_text() == f"{md5}  {ARCHIVE}\n"
    (tmp_path / "new" / ARCHIVE).write_bytes(b"something else")
    with pytest.raises(ValueError, match=f"its md5 is not {md5}: delete the file"):
        download(tmp_path / "new", url=url)


def test_what_is_there_is_not_downloaded_again(served: tuple[str, str, Path], tmp_path: Path) -> None:
    url, md5, path = served
    first = download(tmp_path / "new", url=url, md5=md5)
    path.unlink()
    shutil.rmtree(first / "Images")
    assert download(tmp_path / "new", url=url, md5=md5) == first
    assert not (first / "Images").exists()
    with pytest.raises(ValueError, match="pictures are missing"):
        prepare(first)


def test_a_wrong_checksum_or_archive_is_refused(served: tuple[str, str, Path], tmp_path: Path) -> None:
    url, _, path = served
    with pytest.raises(ValueError, match=f"{ARCHIVE}: its md5 is not {'0' * 32}"):
        download(tmp_path / "new", url=url, md5="0" * 32)
    assert not (tmp_path / "new" / ARCHIVE).exists()
    path.write_bytes(b"no zip")
    with pytest.raises(ValueError, match="no zip file, or a damaged one"):
        download(tmp_path / "other", url=url)
    with pytest.raises(OSError, match="404"):
        download(tmp_path / "third", url=url.replace(ARCHIVE, "none.zip"))


def test_a_mistake_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.setattr(sys, "argv", ["prepare_fetal_planes", "--source", str(tmp_path / "empty")])
    with pytest.raises(SystemExit) as exit_:
        main()
    assert exit_.value.code == 2
    assert capsys.readouterr().err.startswith("error: 'empty': no FETAL_PLANES_DB_data.csv in it; expected the archive")
