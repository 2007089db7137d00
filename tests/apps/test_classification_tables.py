"""The papers' tables from saved results, as the command prints them."""

from pathlib import Path

import pytest

from ag_networks.apps.classification_tables import main
from ag_networks.metrics import PictureTable


def save(path: Path, right: list[bool], names: tuple[str, str] = ("brain", "femur")) -> Path:
    table = PictureTable(names)
    for number, is_right in enumerate(right):
        label = number % 2
        p = [0.1, 0.1]
        p[label if is_right else 1 - label] = 0.9
        table.add(f"{number}.png", label=names[label], probabilities=p)
    table.write_csv(path)
    return path


def test_a_row_for_each_file_and_a_paired_comparison(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plain = save(tmp_path / "plain" / "results.csv", [True, True, False, False, False, True, False, False])
    gated = save(tmp_path / "gated" / "results.csv", [True] * 8)
    main([str(plain), str(gated)])
    printed = capsys.readouterr().out
    assert "| plain/results | 8 | 0.375 (" in printed
    assert "| gated/results | 8 | 1.000 (1.000 to 1.000) | 1.000" in printed
    assert "gated/results (in brackets: difference from plain/results)" in printed
    assert "| brain | 4 | 1.000 (**+0.667**) | 1.000 (**+0.750**)" in printed
    assert "8 images in common (0 left out): 5 right here alone, 0 right there alone, McNemar p = 0.0625" in printed


def test_files_of_other_classes_are_not_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main([str(save(tmp_path / "a.csv", [True, True])), str(save(tmp_path / "b.csv", [True, True], ("x", "y")))])
    printed = capsys.readouterr().out
    assert "| a | 2 |" in printed
    assert "| b | 2 |" in printed
    assert "in brackets" not in printed
    assert "McNemar" not in printed


def test_kappa_is_printed_when_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["--ordered", str(save(tmp_path / "a.csv", [True, True, False, True]))])
    assert "| Kappa |" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("names", "message"),
    [(["none.csv"], "error: none.csv: No such file"), (["a.csv", "a.csv"], "error: a.csv is given twice")],
)
def test_mistakes_are_one_line(names: list[str], message: str, tmp_path: Path) -> None:
    save(tmp_path / "a.csv", [True, True])
    with pytest.raises(SystemExit, match=message):
        main([str(tmp_path / name) for name in names])
