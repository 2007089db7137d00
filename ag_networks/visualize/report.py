"""One page of HTML about the results of a run, with its pictures inside."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment

from ag_networks.atomic import atomic_path

__all__ = ["write_report"]


def write_report(path: str | Path, cases: Sequence[Mapping[str, Any]], *, title: str, note: str = "") -> None:
    """Write a self-contained page: a table of the cases, then a section for each with its picture and warnings.

    Args:
        path: the HTML file; it appears whole or not at all.
        cases: what :class:`ag_networks.handlers.CaseWriter` writes about a case (``"case"``, ``"classes"``,
            ``"input"``, ``"seconds"``, ``"warnings"``, ``"settings"``, ``"versions"``), and where known ``"dsc"`` (by
            class name), ``"figure"`` (path of a PNG file) and ``"failure"`` (one line; then the rest may be missing).
        title: headline.
        note: a sentence below it, such as what the data are.

    Raises:
        ValueError: if two cases have one name, or a figure is not a PNG file.
    """
    names = [case["case"] for case in cases]
    if repeated := {name for name in names if names.count(name) > 1}:
        raise ValueError(f"several cases are named {', '.join(sorted(repeated))}")
    page = _PAGE.render(
        title=title,
        note=note,
        cases=[{**case, "figure": _embedded(case.get("figure"))} for case in cases],
        settings=_common(cases, "settings"),
        versions=_common(cases, "versions"),
    )
    with atomic_path(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def _embedded(figure: str | Path | None) -> str | None:
    """The picture itself as an address."""
    if figure is None:
        return None
    content = Path(figure).read_bytes()
    if not content.startswith(b"\x89PNG\r\n\x1a\n"):
        raise ValueError(f"{Path(figure).name} is not a PNG file")
    return "data:image/png;base64," + base64.b64encode(content).decode("ascii")


def _common(cases: Sequence[Mapping[str, Any]], key: str) -> dict[str, list[str]]:
    """Values by name, each once: cases of several runs may differ."""
    values: dict[str, list[str]] = {}
    for case in cases:
        for name, value in case.get(key, {}).items():
            seen = values.setdefault(name, [])
            if _text(value) not in seen:
                seen.append(_text(value))
    return values


def _text(value: Any) -> str:
    """Write a value for people.

    Example:
        >>> _text(True), _text([2.0, 2.0, 3.0]), _text("1.6.1")
        ('yes', '2.0 x 2.0 x 3.0', '1.6.1')
    """
    if isinstance(value, bool):
        return "yes" if value else "no"
    return " x ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


_PAGE = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string("""\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ title }}</title>
<style>
  :root { color-scheme: light dark; }
  body { font: 15px/1.5 system-ui, sans-serif; max-width: 1400px; margin: 2rem auto; padding: 0 1rem; }
  table { border-collapse: collapse; margin: 0.5rem 0 1rem; }
  th, td { padding: 0.3rem 0.9rem; text-align: left; border-bottom: 1px solid #8886; }
  td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; }
  img { max-width: 100%; height: auto; border-radius: 4px; }
  .warning { border-left: 4px solid #d98200; padding: 0.1rem 0.8rem; margin: 0.3rem 0; }
  .failure { border-left: 4px solid #c62828; padding: 0.1rem 0.8rem; margin: 0.3rem 0; }
  .caution { border: 1px solid #8886; border-radius: 4px; padding: 0.5rem 0.9rem; }
  code { overflow-wrap: anywhere; }
</style>
</head>
<body>
<h1>{{ title }}</h1>
{% if note %}
<p>{{ note }}</p>
{% endif %}
<p class="caution"><strong>For research only. Not a medical device, not for clinical decisions.</strong></p>
<h2>Cases</h2>
<table>
<thead><tr><th>Case</th><th>Class</th><th class="number">Volume (ml)</th><th class="number">DSC</th>
<th class="number">Seconds</th><th class="number">Warnings</th></tr></thead>
<tbody>
{% for case in cases %}
{% set number = loop.index %}
{% if case.failure %}
<tr><td><a href="#case-{{ number }}">{{ case.case }}</a></td><td colspan="5">failed</td></tr>
{% else %}
{% for name, found in case.classes.items() %}
<tr><td><a href="#case-{{ number }}">{{ case.case }}</a></td><td>{{ name }}</td>
<td class="number">{{ "%.1f" | format(found.volume_ml) }}</td>
<td class="number">{{ "%.3f" | format(case.dsc[name]) if case.dsc and name in case.dsc else "unknown" }}</td>
<td class="number">{{ "%.1f" | format(case.seconds) }}</td><td class="number">{{ case.warnings | length }}</td></tr>
{% endfor %}
{% endif %}
{% endfor %}
</tbody>
</table>
{% for case in cases %}
<section id="case-{{ loop.index }}">
<h2>{{ case.case }}</h2>
{% if case.failure %}
<p class="failure">{{ case.failure }}</p>
{% endif %}
{% if case.input %}
<p>Input: {{ case.input["size"] | join(" x ") }} voxels of {{ case.input.spacing_mm | join(" x ") }} mm,
orientation {{ case.input.orientation }}.</p>
{% endif %}
{% for warning in case.warnings or [] %}
<p class="warning">{{ warning }}</p>
{% endfor %}
{% if case.figure %}
<img src="{{ case.figure }}" alt="Slices of {{ case.case }} with contours and attention maps">
{% endif %}
</section>
{% endfor %}
{% for heading, values in [("Settings", settings), ("Versions", versions)] if values %}
<h2>{{ heading }}</h2>
<table>
{% for name, texts in values.items() %}
<tr><th>{{ name }}</th><td><code>{{ texts | join(", ") }}</code></td></tr>
{% endfor %}
</table>
{% endfor %}
</body>
</html>
""")
