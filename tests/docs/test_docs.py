"""The documents tell the truth: their code runs, their links lead somewhere, their options and names exist."""

import ast
import contextlib
import importlib
import inspect
import io
import json
import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import monai.bundle
import pytest
from monai.bundle import ConfigParser

from ag_networks import registry

ROOT = Path(__file__).resolve().parents[2]
BUNDLE = ROOT / "bundles" / "pancreas_ct_segmentation"
BUNDLES = sorted(path for path in (ROOT / "bundles").iterdir() if path.is_dir())
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("bundles/*/docs/*.md")])
IDS = [path.relative_to(ROOT).as_posix() for path in PAGES]
FENCE = re.compile(r"^```(\S*)([^\n]*)\n(.*?)^```$(?:\n```text\n(.*?)^```$)?", re.MULTILINE | re.DOTALL)
PATHS = re.compile(r"`((?:bundles|docs|ag_networks|tests|benchmarks|configs)/[\w./-]+\.\w+)`")
# Keys that hold a bundle together, and are no options.
STRUCTURE = {"imports", "keys", "network", "settings", "displayable_configs", "initialize", "run", "finalize"}
STRUCTURE |= {"dataset", "dataloader", "handlers", "evaluator"}
# What users make by following a page.
MADE_BY_USERS = ("bundles/spleen_ct_segmentation",)

per_page = pytest.mark.parametrize("page", PAGES, ids=IDS)


def fences(text: str, *languages: str) -> Iterator[tuple[str, str, str | None]]:
    """Yield options, content and printed text of every fenced block of the languages."""
    for language, options, content, printed in FENCE.findall(text):
        if language in languages:
            yield options.strip(), content, printed or None


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    prose = FENCE.sub("", page.read_text(encoding="utf-8"))
    headings = re.findall(r"^#+ (.+)$", prose, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken_links(page: Path) -> Iterator[str]:
    """Yield the relative links of a page that lead nowhere."""
    prose = FENCE.sub("", page.read_text(encoding="utf-8"))
    for target in re.findall(r"\]\(([^)\s]+)\)", prose):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        path = page.parent / name if name else page
        if not path.exists() or (anchor and anchor not in anchors(path)):
            yield target


def unknown_names(text: str) -> Iterator[str]:
    """Yield the names below `ag_networks` that cannot be imported."""
    for name in sorted(set(re.findall(r"\bag_networks(?:\.\w+)+", text))):
        if not resolves(name):
            yield name


def resolves(name: str) -> bool:
    """Whether a dotted name is a module or something in one."""
    module, found = name.split("."), None
    for end in range(len(module), 0, -1):
        with contextlib.suppress(ModuleNotFoundError):
            found = importlib.import_module(".".join(module[:end]))
            break
    return all((found := getattr(found, part, None)) is not None for part in module[end:])


def commands(text: str) -> Iterator[list[str]]:
    """Yield the words of every command line, with shell variables filled in."""
    variables: dict[str, str] = {}
    for _, content, _ in fences(text, "bash"):
        for line in content.replace("\\\n", " ").splitlines():
            line = re.sub(r"\$(\w+)", lambda match: variables.get(match[1], match[0]), line)
            if assigned := re.fullmatch(r"(\w+)=(\S+)", line.strip()):
                variables[assigned[1]] = assigned[2]
            elif line.strip():
                yield shlex.split(line)


def wrong_options(words: list[str]) -> Iterator[str]:
    """Yield the options of a command line that the command does not have."""
    options = [word[2:].partition("=")[0] for word in words if word.startswith("--")]
    if "monai.bundle" in words:
        command, *rest = words[words.index("monai.bundle") + 1 :]
        known = set(inspect.signature(getattr(monai.bundle, command)).parameters) - {"override"}
        given = [word[2:] for word in rest if word.startswith("--")]
        config = merged(rest[rest.index("--config_file") + 1]) if command == "run" else None
        yield from (name for name in given if name not in known and (config is None or name not in config))
    elif "-m" in words and words[words.index("-m") + 1].startswith("ag_networks.apps"):
        source = ROOT.joinpath(*words[words.index("-m") + 1].split(".")).with_suffix(".py").read_text(encoding="utf-8")
        yield from (name for name in options if f'"--{name}"' not in source)


def merged(config_file: str) -> ConfigParser:
    """Read the configs of a command line; the users' own overlays are left out."""
    names = ast.literal_eval(config_file) if config_file.startswith("[") else [config_file]
    return _merged(tuple(str(own_bundle(name)) for name in names if name.startswith("bundles/")))


@cache
def _merged(paths: tuple[str, ...]) -> ConfigParser:
    parser = ConfigParser()
    parser.read_config(list(paths))
    return parser


def own_bundle(name: str) -> Path:
    """Return the path of a config; that of a bundle which the reader copies is ours."""
    for made in MADE_BY_USERS:
        name = name.replace(made, "bundles/pancreas_ct_segmentation")
    return ROOT / name


def unknown_keys(overlay: str) -> Iterator[str]:
    """Yield the keys of an overlay, as JSON, that neither of the two complete configs has."""
    configs = [_merged((str(BUNDLE / "configs" / name),)) for name in ("train.json", "inference.json")]
    yield from (key for key in json.loads(overlay) if not any(key in config for config in configs))


@per_page
def test_the_code_runs_and_prints_what_the_page_says(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(registry, "_REGISTRY", dict(registry._REGISTRY))
    (tmp_path / "bundles").symlink_to(ROOT / "bundles", target_is_directory=True)
    names: dict[str, object] = {"__name__": "page"}
    for options, code, expected in fences(page.read_text(encoding="utf-8"), "python"):
        compiled = compile(code, page.name, "exec")
        if options == "data":
            continue
        assert not options
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compiled, names)
        assert expected is None or printed.getvalue() == expected


@per_page
def test_links_lead_somewhere(page: Path) -> None:
    assert list(broken_links(page)) == []


@per_page
def test_names_files_and_targets_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert list(unknown_names(text)) == []
    places = [page.parent, page.parents[1], ROOT, BUNDLE]
    assert [name for name in PATHS.findall(text) if not any((place / name).exists() for place in places)] == []
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert set(re.findall(r"(?:`|^)make ([a-z-]+)", text, re.MULTILINE)) <= set(targets)


@per_page
def test_commands_have_the_options_that_they_are_given(page: Path) -> None:
    for words in commands(page.read_text(encoding="utf-8")):
        assert list(wrong_options(words)) == [], shlex.join(words)
        scripts = [word for word in words if word.endswith(".py")]
        assert [script for script in scripts if not (ROOT / script).is_file()] == []


@per_page
def test_no_value_of_a_command_line_is_a_null_that_does_nothing(page: Path) -> None:
    assert re.findall(r"--[\w#]+ (?:null|None)\b", page.read_text(encoding="utf-8")) == []


@per_page
def test_overlays_have_the_keys_of_the_configs(page: Path) -> None:
    for options, content, _ in fences(page.read_text(encoding="utf-8"), "json"):
        assert list(unknown_keys(content)) == [], options


@pytest.mark.parametrize("bundle", BUNDLES, ids=lambda path: path.name)
def test_the_model_card_explains_every_option(bundle: Path) -> None:
    text = (bundle / "docs" / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`.+?) \| ([^|]+) \|", text.split("\n## Options")[1], re.MULTILINE)
    explained: dict[str, set[str]] = {"T": set(), "I": set()}
    for keys, places in rows:
        for key in re.findall(r"`([^`]+)`", keys):
            for place in re.findall(r"\bT\b|\bI\b", places):
                explained[place].add(key)
            for name in re.findall(r"`([^`]+)`", places):
                assert key in _merged((str(bundle / "configs" / "train.json"), str(bundle / "configs" / name)))
    for place, name in (("T", "train.json"), ("I", "inference.json")):
        assert explained[place] == set(json.loads((bundle / "configs" / name).read_text(encoding="utf-8"))) - STRUCTURE


def test_the_tables_of_networks_have_the_right_counts() -> None:
    networks = {name: registry.create_network(name) for name in registry.list_networks()}
    counts = {name: sum(p.numel() for p in network.parameters()) for name, network in networks.items()}
    for page in (ROOT / "README.md", ROOT / "docs" / "reference" / "networks.md"):
        rows = re.findall(r"^\| `(\w+)` \| ([\d,]{7,}) \|", page.read_text(encoding="utf-8"), re.MULTILINE)
        assert {name: int(count.replace(",", "")) for name, count in rows} == counts


@pytest.mark.parametrize(
    ("command", "wrong"),
    [
        ("python -m monai.bundle run --config_file {train} --bundle_root . --max_epoch 3", ["max_epoch"]),
        ("python -m monai.bundle run --config_file {train} --max_epochs 3 --train#trainer#amp True", []),
        ("python -m monai.bundle run --config_file \"['{train}']\" --keep_classes 1", ["keep_classes"]),
        ("python -m monai.bundle ckpt_export network_def --filepth a", ["filepth"]),
        ("python -m ag_networks.apps.prepare_pancreas --source a --phantom 1", ["phantom"]),
    ],
)
def test_a_misspelt_option_is_found(command: str, wrong: list[str]) -> None:
    train = "bundles/pancreas_ct_segmentation/configs/train.json"
    assert list(wrong_options(shlex.split(command.format(train=train)))) == wrong


def test_broken_links_and_names_are_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# A title: of it\n[a](page.md#a-title-of-it) [b](page.md#none) [c](none.md) [d](https://x.org)\n")
    assert list(broken_links(page)) == ["page.md#none", "none.md"]
    text = "`ag_networks.nets.AttentionGatedUNet` `ag_networks.nets.Nothing` `ag_networks.nothing.x`"
    assert list(unknown_names(text)) == ["ag_networks.nets.Nothing", "ag_networks.nothing.x"]
    assert list(unknown_keys('{"max_epochs": 1, "max_epoch": 1, "network_def#channels": []}')) == ["max_epoch"]
