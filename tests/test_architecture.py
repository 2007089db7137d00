"""The house rules, kept by reading the source: floors, light imports, sizes, docstrings, annotations, paths."""

import ast
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import ag_networks

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "ag_networks"

# Which rooms of the package a room may import; from the bottom floor to the top.
UP_TO_FLOOR_2 = {"blocks", "nets", "losses", "metrics", "transforms", "data"}
UP_TO_FLOOR_3 = UP_TO_FLOOR_2 | {"handlers", "visualize"}
MAY_IMPORT: dict[str, set[str]] = {
    "atomic": set(),  # files that appear whole: everyone writes with it, and it stands on nothing
    "blocks": set(),
    "nets": {"blocks"},
    "losses": set(),
    "metrics": set(),
    "transforms": set(),
    "data": set(),
    "handlers": UP_TO_FLOOR_2,
    "visualize": UP_TO_FLOOR_2,
    "registry": {"blocks", "nets"},
    "interop": {"blocks", "nets"},
    "apps": UP_TO_FLOOR_3 | {"registry", "interop"},
}
BLOCKS_STAND_ON = ("torch", "numpy", "monai.networks.blocks", "monai.networks.layers", *sys.stdlib_module_names)
# A list of networks or a --help must not wait seconds for torch and monai.
LIGHT_MODULES = ("ag_networks", "ag_networks.registry", "ag_networks.apps.cli")

MAX_LINES = 350
MAX_BYTES = 25 * 2**20
MACHINE_PATH = re.compile(r"(?<![\w.])/(?:work|workspace|tmp|root|farm|home|mnt|Users)/[A-Za-z]")
GENERATED = re.compile(r"^(\..*|__pycache__|build|dist|.*\.egg-info|demo_output|eval)$")

Check = Callable[[Path], Iterator[str]]


def floor_violations(root: Path) -> Iterator[str]:
    """Imports go down only, and blocks stand on torch and two parts of monai alone."""
    for path, tree in package_modules(root):
        room = path.relative_to(root / PACKAGE).parts[0].removesuffix(".py")
        if room == "__init__":  # what it may import is seen by heavy_imports
            continue
        if room not in MAY_IMPORT:
            yield f"{path.relative_to(root)}: {room} is no room of the architecture"
            continue
        legs = path.relative_to(root).parent.parts
        for line, name in imported_names(tree, legs):
            top, _, rest = name.partition(".")
            target = rest.partition(".")[0]
            if top == PACKAGE:
                # the package's own lazy names hide the floor: only the top floor may use them
                kept = target in {room, "atomic", "__version__", *MAY_IMPORT[room]} or (
                    room == "apps" and target not in MAY_IMPORT
                )
            else:
                kept = room != "blocks" or any(f"{name}.".startswith(f"{allowed}.") for allowed in BLOCKS_STAND_ON)
            if not kept:
                yield f"{path.relative_to(root)}:{line}: {room} imports {name}"


def heavy_imports(root: Path) -> Iterator[str]:
    """The modules that are listed as light bring neither torch nor monai along."""
    for module in LIGHT_MODULES:
        stem = root.joinpath(*module.split("."))
        if not (stem.with_suffix(".py").exists() or (stem / "__init__.py").exists()):
            continue
        code = f"import sys, {module}; print(*sorted({{'torch', 'monai'}} & sys.modules.keys()))"
        environment = {**os.environ, "PYTHONPATH": str(root)}
        heavy = subprocess.check_output([sys.executable, "-c", code], cwd=root, env=environment, text=True).strip()
        if heavy:
            yield f"importing {module} imports {heavy}"


def long_modules(root: Path) -> Iterator[str]:
    """No module is too long to be read in one go."""
    for path, _ in package_modules(root):
        count = len(path.read_text(encoding="utf-8").splitlines())
        if count > MAX_LINES:
            yield f"{path.relative_to(root)}: {count} lines, at most {MAX_LINES}"


def undocumented(root: Path) -> Iterator[str]:
    """Every module, public class and public function says what it is."""
    for path, tree in package_modules(root):
        if ast.get_docstring(tree) is None:
            yield f"{path.relative_to(root)}:1: no module docstring"
        for node in tree.body:
            named = isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef))
            if named and not node.name.startswith("_") and ast.get_docstring(node) is None:
                yield f"{path.relative_to(root)}:{node.lineno}: {node.name} has no docstring"


def unannotated(root: Path) -> Iterator[str]:
    """Every function, private or not, has the types of its arguments and of its result."""
    for path, tree in package_modules(root):
        for node in ast.walk(tree):
            if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                continue
            spec = node.args
            arguments = [*spec.posonlyargs, *spec.args, *spec.kwonlyargs, spec.vararg, spec.kwarg]
            bare = [a.arg for a in arguments if a and a.annotation is None and a.arg not in {"self", "cls"}]
            bare += ["return"] if node.returns is None else []
            if bare:
                yield f"{path.relative_to(root)}:{node.lineno}: {node.name} lacks the types of {', '.join(bare)}"


def machine_paths(root: Path) -> Iterator[str]:
    """No tracked text file names a folder of somebody's machine."""
    for path in project_files(root, "--cached"):
        content = path.read_bytes()
        if b"\0" in content:  # weights, pictures
            continue
        for number, line in enumerate(content.decode("utf-8", errors="replace").splitlines(), start=1):
            if found := MACHINE_PATH.search(line):
                yield f"{path.relative_to(root)}:{number}: absolute path {found.group()}..."


def bundle_violations(root: Path) -> Iterator[str]:
    """Bundles hold no Python, and their configs name floors 0 to 3 only."""
    for path in sorted(root.glob("bundles/**/*.py")):
        yield f"{path.relative_to(root)}: Python lives in {PACKAGE}"
    for path in sorted(root.glob("bundles/*/configs/*")):
        for room in re.findall(rf"\b{PACKAGE}\.(\w+)", path.read_text(encoding="utf-8")):
            if room not in UP_TO_FLOOR_3:
                yield f"{path.relative_to(root)}: names {PACKAGE}.{room}"


def oversized(root: Path) -> Iterator[str]:
    """No file, tracked or about to be, is larger than the model zoo takes."""
    for path in project_files(root, "--cached", "--others"):
        if path.stat().st_size > MAX_BYTES:
            yield f"{path.relative_to(root)}: {path.stat().st_size / 2**20:.1f} MiB, at most 25"


def package_modules(root: Path) -> Iterator[tuple[Path, ast.Module]]:
    """Yield the package's source files with their syntax trees."""
    for path in sorted((root / PACKAGE).rglob("*.py")):
        yield path, ast.parse(path.read_text(encoding="utf-8"))


def imported_names(tree: ast.Module, legs: tuple[str, ...]) -> Iterator[tuple[int, str]]:
    """Yield line and absolute name of every import, also of those inside functions; `legs` is the module's package."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = legs[: len(legs) - node.level + 1] if node.level else ()
            base += (node.module,) if node.module else ()
            yield from ((node.lineno, ".".join((*base, alias.name))) for alias in node.names)


def project_files(root: Path, *which: str) -> Iterator[Path]:
    """Yield the files that git lists (`which`: options of ls-files), or without git all but generated ones."""
    names = []
    if (root / ".git").exists() and shutil.which("git"):
        command = ["git", "ls-files", "-z", "--exclude-standard", *which]
        names = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout.split("\0")[:-1]
    else:
        for folder, folders, files in os.walk(root):
            folders[:] = [name for name in folders if not GENERATED.match(name) or name == ".ci"]
            names += [str(Path(folder, name)) for name in files]
    yield from (root / name for name in sorted(names) if (root / name).is_file())


CHECKS: list[Check] = [
    floor_violations,
    heavy_imports,
    long_modules,
    undocumented,
    unannotated,
    machine_paths,
    bundle_violations,
    oversized,
]

BLOCK, NET, METRIC, TRANSFORM, HANDLER, REGISTRY, APP = (
    f"ag_networks/{name}.py"
    for name in ("blocks/gate", "nets/unet", "metrics/dice", "transforms/crop", "handlers/save", "registry", "apps/cli")
)
SOMEBODYS_FOLDER = "/" + "home/somebody/data"

BROKEN = [
    (floor_violations, BLOCK, "from ag_networks.nets import X", "blocks imports ag_networks.nets.X"),
    (floor_violations, BLOCK, "from monai.utils import X", "blocks imports monai.utils.X"),
    (floor_violations, BLOCK, "from monai.networks import nets", "blocks imports monai.networks.nets"),
    (floor_violations, BLOCK, "import scipy.ndimage", "blocks imports scipy.ndimage"),
    (floor_violations, BLOCK, "from ..nets import X", "blocks imports ag_networks.nets.X"),
    (floor_violations, BLOCK, "from .. import nets", "blocks imports ag_networks.nets"),
    (floor_violations, NET, "def f():\n    import ag_networks.apps.cli", ":2: nets imports ag_networks.apps.cli"),
    (floor_violations, NET, "from ag_networks import AttentionGate", "nets imports ag_networks.AttentionGate"),
    (floor_violations, METRIC, "from ag_networks.transforms import X", "metrics imports ag_networks.transforms.X"),
    (floor_violations, TRANSFORM, "from ag_networks import data", "transforms imports ag_networks.data"),
    (floor_violations, HANDLER, "import ag_networks.visualize", "handlers imports ag_networks.visualize"),
    (floor_violations, REGISTRY, "import ag_networks.apps", "registry imports ag_networks.apps"),
    (floor_violations, "ag_networks/utils.py", "", "utils is no room"),
    (heavy_imports, "ag_networks/__init__.py", "import torch", "importing ag_networks imports torch"),
    (heavy_imports, "ag_networks/registry.py", "import monai", "importing ag_networks.registry imports monai"),
    (long_modules, BLOCK, "x = 1\n" * 351, "351 lines"),
    (undocumented, BLOCK, "x = 1", "no module docstring"),
    (undocumented, BLOCK, '"""M."""\nclass Gate:\n    x = 1', ":2: Gate has no docstring"),
    (undocumented, BLOCK, '"""M."""\ndef gate():\n    x = 1', ":2: gate has no docstring"),
    (unannotated, BLOCK, "def gate(x: int):\n    pass", ":1: gate lacks the types of return"),
    (unannotated, BLOCK, "def _gate(x, *y, z, **k) -> None:\n    pass", "lacks the types of x, z, y, k"),
    (unannotated, BLOCK, "class Gate:\n    def f(self, x) -> None:\n        pass", ":2: f lacks the types of x"),
    (machine_paths, "README.md", f"\nLook in {SOMEBODYS_FOLDER}", "README.md:2: absolute path"),
    (machine_paths, "bundles/b/configs/train.json", f'{{"dir": "{SOMEBODYS_FOLDER}"}}', "train.json:1: absolute path"),
    (bundle_violations, "bundles/b/configs/train.json", '"ag_networks.apps.X"', "names ag_networks.apps"),
    (bundle_violations, "bundles/b/scripts/net.py", "", "Python lives in ag_networks"),
    (oversized, "bundles/b/models/model.pt", "\0" * (MAX_BYTES + 1), "25.0 MiB"),
]

KEPT = {
    "ag_networks/__init__.py": '"""M."""\n__version__ = "1"\n\n\ndef create_network() -> None:\n    """Create."""\n',
    BLOCK: '"""M."""\nimport math\nimport torch.nn as nn\nfrom monai.networks.layers.factories import Conv\n'
    "from monai.networks import blocks\nfrom .other import X\nfrom ag_networks.blocks.other import Y\n",
    NET: '"""M."""\nimport monai\nfrom ag_networks.blocks import AttentionGate\n',
    HANDLER: '"""M."""\nfrom ag_networks.metrics import X\nfrom ag_networks.nets import Y\n',
    REGISTRY: '"""M."""\ndef make() -> None:\n    """Make."""\n    from ag_networks import nets\n    import torch\n',
    APP: '"""M."""\nfrom ag_networks import __version__, create_network\n\n\nclass _Hidden:\n'
    "    def run(self, size: int = 1) -> None:\n        pass\n",
    "bundles/b/configs/train.json": '{"_target_": "ag_networks.nets.X", "root": "../home/x", "u": "a.org/home/x"}',
    "bundles/b/models/model.pt": SOMEBODYS_FOLDER.rjust(MAX_BYTES, "\0"),
    ".venv/lib/torch.so": "\0" * (MAX_BYTES + 1),
}


@pytest.fixture(scope="module")
def kept_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a tree that keeps every rule."""
    root = tmp_path_factory.mktemp("kept")
    write_tree(root, KEPT)
    return root


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_the_tree_keeps_the_rule(check: Check) -> None:
    assert list(check(ROOT)) == []


@pytest.mark.parametrize(("check", "name", "content", "message"), BROKEN, ids=[case[3] for case in BROKEN])
def test_a_broken_rule_is_found(check: Check, name: str, content: str, message: str, tmp_path: Path) -> None:
    write_tree(tmp_path, {name: content})
    (found,) = check(tmp_path)
    assert message in found


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_what_is_allowed_is_not_blamed(check: Check, kept_tree: Path) -> None:
    assert list(check(kept_tree)) == []


def test_what_git_ignores_is_not_the_project(tmp_path: Path) -> None:
    write_tree(tmp_path, {".gitignore": "*.log\n", "a.log": "x", "tracked.txt": "x", "new.txt": "x"})
    listed = [path.name for path in project_files(tmp_path, "--cached", "--others")]
    assert "a.log" in listed  # without git nothing is known to be ignored
    git = shutil.which("git") or pytest.skip("git is not installed")
    subprocess.run([git, "init", "--quiet"], cwd=tmp_path, check=True)
    subprocess.run([git, "add", "tracked.txt"], cwd=tmp_path, check=True)
    assert [path.name for path in project_files(tmp_path, "--cached")] == ["tracked.txt"]
    listed = [path.name for path in project_files(tmp_path, "--cached", "--others")]
    assert listed == [".gitignore", "__init__.py", "monai.py", "new.txt", "torch.py", "tracked.txt"]


def test_a_public_name_is_found_on_first_use() -> None:
    assert set(ag_networks.__all__) <= set(dir(ag_networks))
    with pytest.raises(AttributeError, match="no attribute 'AttentionGatedUnet'"):
        _ = ag_networks.AttentionGatedUnet


@pytest.mark.parametrize("name", ag_networks.__all__)
def test_every_public_name_exists(name: str) -> None:
    assert getattr(ag_networks, name).__doc__


def write_tree(root: Path, files: dict[str, str]) -> None:
    """Write the files into a package, beside a torch and a monai that cost nothing to import."""
    for name, content in {"torch.py": "", "monai.py": "", "ag_networks/__init__.py": '"""M."""', **files}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
