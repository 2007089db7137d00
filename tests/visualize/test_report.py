"""The page about a run: complete, self-contained, and safe whatever a case is called."""

import base64
import re
from pathlib import Path
from typing import Any

import pytest

from ag_networks.visualize import write_report

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256))


def record(name: str, **more: Any) -> dict[str, Any]:
    """Return what is written about a case."""
    return {
        "case": name,
        "classes": {"pancreas": {"label": 1, "voxels": 12000, "volume_ml": 81.04}},
        "input": {"size": [221, 221, 63], "spacing_mm": [1.5, 1.5, 3.0], "orientation": "LPS"},
        "seconds": 12.34,
        "warnings": [],
        "settings": {"spacing_mm": [2.0, 2.0, 2.0], "largest_component": True, "weights": "abc123"},
        "versions": {"python": "3.11.4", "monai": "1.6.1"},
        **more,
    }


def written(path: Path, cases: list[dict[str, Any]], **options: Any) -> str:
    """Write a page and return it in one line."""
    write_report(path / "report.html", cases, **{"title": "A run", **options})
    assert [file.name for file in path.glob("*.html")] == ["report.html"]
    return " ".join((path / "report.html").read_text(encoding="utf-8").split())


def test_the_page_says_what_there_is_to_know(tmp_path: Path) -> None:
    cases = [
        record("case_1", dsc={"pancreas": 0.8236}, warnings=["slices are 6.0 mm apart"]),
        record("case_2", seconds=99.0, settings={"spacing_mm": [2.0, 2.0, 2.0], "weights": "def456"}),
    ]
    page = written(tmp_path, cases, note="Two scans.")
    expected = [
        "<h1>A run</h1>", "Two scans.", "Not a medical device", "case_1", "case_2", "81.0", "0.824", "unknown", "12.3",
        "99.0", "slices are 6.0 mm apart", "221 x 221 x 63 voxels of 1.5 x 1.5 x 3.0 mm", "LPS", "abc123, def456",
        "2.0 x 2.0 x 2.0", "yes", "3.11.4",
    ]  # fmt: skip
    assert [text for text in expected if text not in page] == []
    assert len(re.findall("1.6.1", page)) == 1
    assert page.index('href="#case-2">case_2') < page.index('id="case-1"') < page.index('id="case-2"')


def test_the_page_needs_no_other_file(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(PNG)
    page = written(tmp_path, [record("case_1", figure=tmp_path / "a.png"), record("case_2")])
    (source,) = re.findall(r'src="([^"]*)"', page)
    assert base64.b64decode(source.removeprefix("data:image/png;base64,")) == PNG
    assert "http" not in page.replace("http-equiv", "")
    assert str(tmp_path) not in page
    assert "<script" not in page


def test_a_failed_case_is_a_line_of_its_own(tmp_path: Path) -> None:
    page = written(tmp_path, [{"case": "broken", "failure": "broken.nii.gz: the file is cut short"}, record("case_2")])
    assert "broken.nii.gz: the file is cut short" in page
    assert '<td colspan="5">failed</td>' in page
    assert "case_2" in page


def test_what_a_case_is_called_cannot_break_the_page(tmp_path: Path) -> None:
    page = written(tmp_path, [record("<b>&", warnings=["<script>alert(1)</script>"])], title="<i>")
    assert "<script>" not in page
    assert "<b>" not in page
    assert "&lt;b&gt;&amp;" in page
    assert "<h1>&lt;i&gt;</h1>" in page


def test_a_run_without_cases_is_a_page(tmp_path: Path) -> None:
    assert "Settings" not in written(tmp_path, [])


@pytest.mark.parametrize(
    ("cases", "message"),
    [
        ([record("a"), record("b"), record("a")], "several cases are named a"),
        ([record("a", figure=Path(__file__))], r"test_report\.py is not a PNG file"),
    ],
    ids=["one name twice", "no picture"],
)
def test_what_cannot_be_reported_is_refused(cases: list[dict[str, Any]], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        written(tmp_path, cases)
    assert not list(tmp_path.iterdir())
