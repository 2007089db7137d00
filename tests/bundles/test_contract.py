"""What the model zoo, MONAI and MONAI Label read in every bundle, and the project's own rules about it."""

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import monai.bundle
import pytest
import tiny_fundus
import tiny_pancreas
import tiny_planes
import torch
from monai.bundle import ConfigParser, ConfigWorkflow
from monai.data import load_net_with_metadata

pytest_plugins = ["tiny_fixtures", "tiny_fundus_fixtures", "tiny_plane_fixtures"]

BUNDLES = sorted(path for path in (Path(__file__).resolve().parents[2] / "bundles").iterdir() if path.is_dir())
pytestmark = pytest.mark.parametrize("bundle", BUNDLES, ids=lambda path: path.name)

WORKFLOWS = [
    ("infer", ["inference"]),
    ("train", ["train"]),
    ("train", ["train", "evaluate"]),
    ("train", ["train", "published"]),
    ("train", ["train", "finetune"]),
]
# What must be the same in training and in inference, where a bundle has it.
SHARED = (
    *("network_def", "preprocessing", "intensity", "label_map", "spacing", "inferer", "sector_box", "image_size"),
    *("backbone", "backbone_options", "find_field", "aspect", "columns", "flip_right_eyes", "color_mean"),
    *("color_deviation", "local_contrast", "classes"),
    *("keys", "device", "amp", "bundle_root", "dataset_dir", "output_dir", "checkpoint"),
)


class TinyRun(NamedTuple):
    """At what size a bundle's workflows can be tested: overrides of inference and of training, names of fixtures."""

    inference: dict[str, Any]
    training: dict[str, Any]
    dataset: str
    weights: str


TINY_RUNS = {
    "pancreas_ct_segmentation": TinyRun(tiny_pancreas.TINY, tiny_pancreas.TINY_TRAINING, "dataset", "weights"),
    "fetal_plane_classification": TinyRun(tiny_planes.TINY, tiny_planes.TINY_TRAINING, "planes", "plane_weights"),
    "fundus_retinopathy_classification": TinyRun(
        tiny_fundus.TINY, tiny_fundus.TINY_TRAINING, "photographs", "fundus_weights"
    ),
}
METADATA = (
    *("schema", "version", "changelog", "monai_version", "pytorch_version", "numpy_version"),
    *("required_packages_version", "task", "description", "authors", "copyright", "network_data_format"),
    *("name", "supported_apps", "intended_use", "data_source", "references"),
)
TASKS = "segmentation|classification|detection|deepedit"
MAX_BYTES = 25 * 2**20
ABSOLUTE = re.compile(r"^(?:[/~\\]|[A-Za-z]:[\\/])")


def metadata(bundle: Path) -> dict[str, Any]:
    return json.loads((bundle / "configs/metadata.json").read_text(encoding="utf-8"))


def configs(bundle: Path) -> dict[str, Any]:
    return {path.name: json.loads(path.read_text(encoding="utf-8")) for path in (bundle / "configs").glob("*.json")}


def strings(content: Any) -> Iterator[str]:
    """Yield every string of a config, keys left out."""
    if isinstance(content, str):
        yield content
    elif isinstance(content, (list, dict)):
        for item in content.values() if isinstance(content, dict) else content:
            yield from strings(item)


def transforms(content: Any) -> Iterator[dict[str, Any]]:
    """Yield every component of a config."""
    if isinstance(content, (list, dict)):
        if isinstance(content, dict) and "_target_" in content:
            yield content
        for item in content.values() if isinstance(content, dict) else content:
            yield from transforms(item)


def network_of(bundle: Path) -> torch.nn.Module:
    """Return the network that inference.json describes, with the shipped weights."""
    parser = ConfigParser(ConfigParser.load_config_file(bundle / "configs/inference.json"))
    network = parser.get_parsed_content("network_def")
    network.load_state_dict(torch.load(bundle / "models/model.pt", weights_only=True))
    return network.eval()


@pytest.mark.parametrize(("kind", "names"), WORKFLOWS, ids=["+".join(names) for _, names in WORKFLOWS])
def test_the_properties_are_there(
    bundle: Path, kind: str, names: list[str], request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    tiny = TINY_RUNS[bundle.name]
    dataset, weights = (request.getfixturevalue(name) for name in (tiny.dataset, tiny.weights))
    overrides = {
        **(tiny.inference if kind == "infer" else {**tiny.training, "cache_rate": 0.0}),
        "dataset_dir": str(dataset / "images" if kind == "infer" else dataset),
        "datalist_file": str(dataset / "datalist.json"),
        "output_dir": str(tmp_path),
        "checkpoint": str(weights),
        "pretrained": str(weights),
    }
    files = [str(bundle / "configs" / f"{name}.json") for name in names]
    workflow = ConfigWorkflow(files, workflow_type=kind, logging_file=False, **overrides)
    workflow.initialize()
    assert workflow.check_properties() == []


def test_training_and_inference_describe_the_same_model(bundle: Path) -> None:
    train, inference = configs(bundle)["train.json"], configs(bundle)["inference.json"]
    assert {"network_def", "preprocessing", "inferer", "checkpoint"} <= train.keys() & inference.keys()
    assert {key: train.get(key) for key in SHARED} == {key: inference.get(key) for key in SHARED}


def test_the_metadata_is_complete(bundle: Path) -> None:
    content = metadata(bundle)
    assert [key for key in METADATA if not content.get(key) and key != "supported_apps"] == []
    assert content["version"] in content["changelog"]
    assert content["schema"].endswith("/meta_schema_20240725.json")
    assert "ag-networks" in content["required_packages_version"]
    pins = [content["monai_version"], content["pytorch_version"], *content["required_packages_version"].values()]
    assert [pin for pin in pins if not re.fullmatch(r"\d+(\.\d+)+", pin)] == []
    inputs, outputs = (content["network_data_format"][key] for key in ("inputs", "outputs"))
    assert (next(iter(inputs)), next(iter(outputs))) == ("image", "pred")  # MONAI Label takes these names literally
    assert len(outputs["pred"]["channel_def"]) == outputs["pred"]["num_channels"]


@pytest.mark.network
def test_the_metadata_fits_the_schema(bundle: Path, tmp_path: Path) -> None:
    monai.bundle.verify_metadata(meta_file=str(bundle / "configs/metadata.json"), filepath=str(tmp_path / "schema"))


def test_the_network_takes_and_gives_what_the_metadata_says(bundle: Path) -> None:
    monai.bundle.verify_net_in_out(
        net_id="network_def",
        meta_file=str(bundle / "configs/metadata.json"),
        config_file=str(bundle / "configs/inference.json"),
        device="cpu",
    )


def test_the_exported_network_computes_the_same(bundle: Path, tmp_path: Path) -> None:
    monai.bundle.ckpt_export(
        net_id="network_def",
        filepath=str(tmp_path / "model.ts"),
        ckpt_file=str(bundle / "models/model.pt"),
        meta_file=str(bundle / "configs/metadata.json"),
        config_file=str(bundle / "configs/inference.json"),
        bundle_root=str(bundle),
    )
    exported, content, _ = load_net_with_metadata(str(tmp_path / "model.ts"))
    format_ = metadata(bundle)["network_data_format"]["inputs"]["image"]
    x = torch.randn(1, format_["num_channels"], *(n if isinstance(n, int) else 32 for n in format_["spatial_shape"]))
    with torch.no_grad():
        torch.testing.assert_close(exported.eval()(x), network_of(bundle)(x), rtol=1e-4, atol=1e-4)
    assert content["version"] == metadata(bundle)["version"]


@pytest.mark.parametrize("kind", ["train", "inference"])
def test_the_network_loads_from_any_folder(
    bundle: Path, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    overrides = {"config_file": str(bundle / f"configs/{kind}.json"), "logging_file": False}
    (tmp_path / "arguments.json").write_text(json.dumps(overrides))
    network = monai.bundle.load(
        bundle.name, bundle_dir=str(bundle.parent), workflow_type=kind, device="cpu", args_file="arguments.json"
    )
    expected = torch.load(bundle / "models/model.pt", weights_only=True)
    assert all(torch.equal(value, expected[key]) for key, value in network.state_dict().items())
    assert [path.name for path in tmp_path.iterdir()] == ["arguments.json"]  # nothing was run


def test_the_weights_are_plain_and_whole(bundle: Path) -> None:
    state = torch.load(bundle / "models/model.pt", weights_only=True)
    assert {value.device.type for value in state.values()} == {"cpu"}
    assert {value.dtype for value in state.values()} <= {torch.float32, torch.int64}
    assert [key for key, value in state.items() if not value.isfinite().all()] == []
    assert [path.name for path in (bundle / "models").glob("*.pt")] == ["model.pt"]  # MONAI Label lists them all
    lines = (bundle / "models/SHA256SUMS").read_text(encoding="utf-8").splitlines()
    files = {path.relative_to(bundle / "models").as_posix(): path for path in (bundle / "models").rglob("*.pt")}
    digests = {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in files.items()}
    assert {name: digest for digest, name in map(str.split, lines)} == digests


@pytest.mark.parametrize(
    "name",
    [
        "LICENSE",
        *("docs/README.md", "docs/data_license.txt", "models/model.pt", "models/SHA256SUMS"),
        *(f"configs/{name}.json" for name in ("metadata", "inference", "train", "published", "evaluate", "finetune")),
        *("configs/multi_gpu_train.json", "configs/multi_gpu_evaluate.json", "configs/datalist.json"),
        "configs/logging.conf",
    ],
)
def test_the_file_is_there(bundle: Path, name: str) -> None:
    assert (bundle / name).stat().st_size > 0
    assert (bundle / name).stat().st_size <= MAX_BYTES


def test_there_is_no_code_and_a_task_in_the_name(bundle: Path) -> None:
    assert not (bundle / "scripts").exists()
    assert list(bundle.rglob("*.py")) == []
    assert re.search(rf"_({TASKS})$", bundle.name)  # MONAI Label reads the task from it


def test_the_license_is_the_project_s(bundle: Path) -> None:
    assert (bundle / "LICENSE").read_text(encoding="utf-8").split() == (
        (bundle.parents[1] / "LICENSE").read_text(encoding="utf-8").split()
    )


def test_the_configs_are_indented_as_the_model_zoo_wants(bundle: Path) -> None:
    for path in (bundle / "configs").glob("*.json"):
        text = path.read_text(encoding="utf-8")
        assert text == json.dumps(json.loads(text), indent=4) + "\n", path.name


def test_nothing_in_the_configs_depends_on_a_machine(bundle: Path) -> None:
    for name, content in configs(bundle).items():
        assert [text for text in strings(content) if ABSOLUTE.match(text)] == [], name
        assert [text for text in strings(content) if text.startswith("%")] == [], name  # relative to the current folder
        assert content.get("bundle_root", ".") == "."


def test_traps_of_monai_are_avoided(bundle: Path) -> None:
    for name, content in configs(bundle).items():
        for item in transforms(content):
            if item["_target_"] == "Orientationd":
                assert "labels" in item, name  # else it depends on what the reader calls the space
            if item["_target_"] in ("DataLoader", "CacheDataset", "Dataset"):
                assert "lambda" not in json.dumps(item), name  # breaks worker processes
        assert not any("lambda" in text for text in strings(content.get("preprocessing", {}))), name


def test_no_subject_is_in_two_parts_of_the_datalist(bundle: Path) -> None:
    parts = {name: items for name, items in configs(bundle)["datalist.json"].items() if name != "class_names"}
    assert {"training", "validation"} <= parts.keys()
    subjects: dict[str, set[str]] = {}
    for part, items in parts.items():
        side = part.removesuffix("_slices")  # the annotated slices of the same subjects
        for item in items:
            # `image_id` and the like would break Spacingd on NIfTI
            assert [key for key in item if re.match(r"(image|label)_", key)] == []
            assert [text for text in strings(item) if ABSOLUTE.match(text) or ".." in Path(text).parts] == []
            if isinstance(item["label"], str):  # a label map
                assert Path(item["image"]).name == Path(item["label"]).name
            subjects.setdefault(item.get("subject") or subject(item["image"]), set()).add(side)
    assert [name for name, found in subjects.items() if len(found) > 1] == []
    assert len(subjects) > 1


def subject(path: str) -> str:
    """Return whose image this is: the letters and the first number of its name."""
    return re.match(r"[A-Za-z_]*\d+", Path(path).name)[0]  # type: ignore[index]
