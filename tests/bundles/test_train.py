"""Training, evaluation and fine-tuning of the pancreas bundle by its configs alone."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from ignite.engine import Engine, Events
from monai.bundle import ConfigWorkflow
from tiny_bundle import last, states_equal
from tiny_pancreas import (
    BUNDLE,
    TINY_TRAINING,
    run_command,
    tiny_network,
    train,
    training,
    write_datalist,
)

from ag_networks.data import Phantom, write_nifti
from ag_networks.handlers import CaseScoresMetric

pytest_plugins = ["tiny_fixtures"]


class KilledError(BaseException):
    """Stands for the end of the process: nothing catches it."""


@pytest.fixture(scope="module")
def trained(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the output folder of three epochs, with one validation after each."""
    output = tmp_path_factory.mktemp("trained")
    shipped = contents(BUNDLE / "models")
    train(dataset, output, max_epochs=3)
    assert contents(BUNDLE / "models") == shipped
    return output


def contents(folder: Path) -> dict[str, tuple[int, int]]:
    return {path.name: (path.stat().st_size, path.stat().st_mtime_ns) for path in folder.iterdir()}


def kill(workflow: ConfigWorkflow, event: Any) -> None:
    """Run a training whose process ends at an event."""

    def stop(engine: Engine) -> None:
        raise KilledError

    workflow.trainer.add_event_handler(event, stop)
    with pytest.raises(KilledError):
        workflow.run()


def test_training_leaves_the_last_state_and_the_best_network(trained: Path) -> None:
    state = last(trained)
    assert (state["epoch"], state["iteration"]) == (3, 6)
    best = torch.load(trained / "checkpoints/model.pt", weights_only=True)
    assert best.keys() == state["network"].keys()
    assert all(value.device.type == "cpu" for value in best.values())
    assert 0 <= state["best"][0] <= 1
    assert state["best"][1] in (1, 2, 3)
    assert sorted(path.name for path in (trained / "checkpoints").iterdir()) == ["last.pt", "model.pt"]
    assert list(trained.glob("events.out.tfevents.*"))


@pytest.mark.parametrize(
    ("workers", "event"),
    [
        pytest.param(0, Events.ITERATION_COMPLETED(once=3), id="within epoch 2, no workers"),
        pytest.param(2, Events.ITERATION_COMPLETED(once=5), id="within epoch 3, two workers"),
    ],
)
def test_a_killed_training_ends_as_one_that_was_not(
    workers: int, event: Any, dataset: Path, trained: Path, tmp_path: Path
) -> None:
    whole = trained
    if workers:
        whole = tmp_path / "whole"
        train(dataset, whole, max_epochs=3, num_workers=workers)
    kill(training(dataset, tmp_path / "killed", max_epochs=3, num_workers=workers), event)
    assert last(tmp_path / "killed")["epoch"] < 3
    torch.rand(7)  # whatever the generators held, the resumed run does not see it
    train(dataset, tmp_path / "killed", max_epochs=3, num_workers=workers)
    assert states_equal(last(tmp_path / "killed"), last(whole))
    best = [torch.load(folder / "checkpoints/model.pt", weights_only=True) for folder in (whole, tmp_path / "killed")]
    assert states_equal(*best)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_a_process_that_was_killed_is_taken_up(workers: int, dataset: Path, tmp_path: Path) -> None:
    """The system ends the process itself, wherever it is, as soon as one epoch is saved."""
    options = {"num_workers": workers, "max_epochs": 30, "val_interval": 7}
    paths = {"dataset_dir": str(dataset), "datalist_file": str(dataset / "datalist.json"), "output_dir": "killed"}
    state = tmp_path / "killed/checkpoints/last.pt"
    run_command("train", cwd=tmp_path, kill_when=state.exists, **{**TINY_TRAINING, **paths, **options})
    epoch = last(tmp_path / "killed")["epoch"]
    assert 1 <= epoch < 30
    run = run_command("train", cwd=tmp_path, **{**TINY_TRAINING, **paths, **options})
    assert run.returncode == 0, run.stderr[-2000:]
    assert f"resumed after epoch {epoch} of 30" in run.stdout
    train(dataset, tmp_path / "whole", **options)
    assert states_equal(last(tmp_path / "killed"), last(tmp_path / "whole"))
    assert [path.name for path in state.parent.iterdir() if path.suffix != ".pt"] == []


def test_a_finished_training_is_not_trained_further(dataset: Path, trained: Path) -> None:
    before = last(trained)
    train(dataset, trained, max_epochs=3)
    assert states_equal(last(trained), before)


def test_another_seed_gives_another_training(dataset: Path, trained: Path, tmp_path: Path) -> None:
    train(dataset, tmp_path, max_epochs=1, val_interval=5, seed=1)
    first = last(tmp_path)
    assert first["best"][1] == -1  # never validated: the last network is the one there is
    assert states_equal(torch.load(tmp_path / "checkpoints/model.pt", weights_only=True), first["network"])
    assert not states_equal(first["network"], last(trained)["network"])


def test_the_best_network_is_kept_when_a_later_one_is_worse(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = iter([0.5, 0.2])
    compute = CaseScoresMetric.compute

    def falling(self: CaseScoresMetric) -> float:
        compute(self)
        return next(values)

    monkeypatch.setattr(CaseScoresMetric, "compute", falling)
    kill(training(dataset, tmp_path), Events.EPOCH_STARTED(once=2))
    first = last(tmp_path)["network"]
    train(dataset, tmp_path)
    state = last(tmp_path)
    assert tuple(state["best"]) == (0.5, 1)
    assert states_equal(torch.load(tmp_path / "checkpoints/model.pt", weights_only=True), first)
    assert not states_equal(state["network"], first)


def test_training_learns(dataset: Path, tmp_path: Path) -> None:
    losses: list[float] = []
    workflow = training(dataset, tmp_path, max_epochs=6, val_interval=100, learning_rate=0.01)
    workflow.trainer.add_event_handler(
        Events.ITERATION_COMPLETED, lambda engine: losses.append(engine.state.output[0]["loss"])
    )
    workflow.run()
    assert np.mean(losses[-4:]) < 0.9 * np.mean(losses[:4])


def test_evaluation_writes_a_table_of_cases(dataset: Path, weights: Path, tmp_path: Path) -> None:
    workflow = train(dataset, tmp_path, "evaluate", checkpoint=str(weights), cache_rate=0.0)
    with (tmp_path / "metrics_per_case.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert (row["case"], row["class"]) == ("case_2", "pancreas")
    summary = json.loads((tmp_path / "metrics_summary.json").read_text())["classes"]["pancreas"]
    assert {"dsc", "precision", "recall", "s2s_mm", "nsd", "hd95_mm"} <= summary["mean"].keys()
    assert summary["mean"]["dsc"] == pytest.approx(float(row["dsc"]))
    assert states_equal(workflow.network_def.state_dict(), torch.load(weights, weights_only=True))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["metrics_per_case.csv", "metrics_summary.json"]


@pytest.mark.parametrize("largest_component", ["true", "false"])
def test_the_switch_of_the_evaluation_is_read(
    largest_component: str, dataset: Path, weights: Path, tmp_path: Path
) -> None:
    workflow = training(
        dataset, tmp_path, "evaluate", checkpoint=str(weights), largest_component=largest_component, cache_rate=0.0
    )
    names = [type(item).__name__ for item in workflow.val_postprocessing.transforms]
    assert ("LargestComponentd" in names) == (largest_component == "true")


def test_the_published_protocol_averages_gradients(dataset: Path, phantoms: list[Phantom], tmp_path: Path) -> None:
    names = ["case_0", "case_1", "case_2"]
    datalist = write_datalist(tmp_path, training=names, validation=names[:1])
    workflow = train(dataset, tmp_path / "out", "published", max_epochs=1, datalist_file=str(datalist))
    state = last(tmp_path / "out")
    assert state["iteration"] == 3
    steps = {int(item["step"]) for item in state["optimizer"]["state"].values()}
    assert steps == {2}  # two batches, then the one that is left
    assert state["optimizer"]["param_groups"][0]["lr"] == 1e-4
    assert type(workflow.parser.get_parsed_content("optimizer")) is torch.optim.Adam
    metrics = workflow.evaluator.state.metrics
    assert {"pancreas_dsc", "spleen_dsc", "kidneys_dsc", "val_mean_dice"} <= metrics.keys()
    assert state["network"]["fuse.weight"].shape[0] == 4


def test_fine_tuning_starts_from_the_chosen_outputs(dataset: Path, tmp_path: Path) -> None:
    many = tiny_network(out_channels=5)
    torch.save(many.state_dict(), tmp_path / "organs.pt")
    workflow = training(
        dataset, tmp_path / "out", "finetune", pretrained=str(tmp_path / "organs.pt"), keep_classes=[0, 2], max_epochs=1
    )
    trainer = workflow.trainer
    start: dict[str, torch.Tensor] = {}

    def keep(engine: Engine) -> None:
        x = torch.randn(1, 1, 16, 16, 16)
        with torch.no_grad():
            start.update(scores=engine.network.eval()(x), expected=many(x)[:, [0, 2]])

    trainer.add_event_handler(Events.STARTED, keep)
    workflow.run()
    torch.testing.assert_close(start["scores"], start["expected"], rtol=1e-4, atol=1e-5)
    assert last(tmp_path / "out")["epoch"] == 1


@pytest.fixture(scope="module")
def sliced(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the output folder of one epoch of the 2D network on slices."""
    output = tmp_path_factory.mktemp("sliced")
    parts = json.loads((dataset / "datalist.json").read_text())
    parts |= {f"{part}_slices": cases for part, cases in parts.items()}
    (output / "datalist.json").write_text(json.dumps(parts))
    in_2d = {f"network_def#{key}": value for key, value in (("kernel_size", 3), ("strides", 2))}
    in_2d |= {"roi_size": [24, 24, 1], "inferer#roi_size": [32, 32]}
    train(dataset, output, "train_slices", datalist_file=str(output / "datalist.json"), max_epochs=1, **in_2d)
    return output


def test_training_on_slices_gives_a_2d_network(sliced: Path) -> None:
    state = last(sliced)["network"]
    assert state["encoder.0.conv1.conv.weight"].shape == (4, 1, 3, 3)
    assert (sliced / "checkpoints" / "model.pt").is_file()


def test_the_3d_network_starts_from_the_slices(dataset: Path, sliced: Path, tmp_path: Path) -> None:
    pretrained = sliced / "checkpoints" / "model.pt"
    started: dict[str, torch.Tensor] = {}

    def keep(engine: Engine) -> None:
        started.update({key: value.clone() for key, value in engine.network.state_dict().items()})

    made = training(dataset, tmp_path, "from_slices", pretrained=str(pretrained), max_epochs=1)
    made.parser.get_parsed_content("train#trainer").add_event_handler(Events.STARTED, keep)
    made.run()
    flat = torch.load(pretrained, weights_only=True)
    for name, depth in (("encoder.0.conv1.conv.weight", 1), ("encoder.1.conv1.conv.weight", 3)):
        assert started[name].shape[-1] == depth
        assert torch.equal(started[name][..., depth // 2], flat[name])
    theta = "decoder.level1.gate.gates.0.theta.weight"
    assert torch.allclose(started[theta].sum(-1), flat[theta])


def test_fine_tuning_from_nothing_is_refused(dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"error: checkpoint none.pt was not found"):
        train(dataset, tmp_path, "finetune", pretrained=str(tmp_path / "none.pt"))


@pytest.mark.parametrize("keys", [str, int], ids=["JSON", "command line"])
def test_labels_of_another_numbering_train_the_same(
    keys: Callable[[int], Any], phantoms: list[Phantom], dataset: Path, trained: Path, tmp_path: Path
) -> None:
    """Pancreas 11 and spleen 3; the command line makes the keys of a mapping numbers."""
    (tmp_path / "images").symlink_to(dataset / "images")
    (tmp_path / "labels").mkdir()
    for path in (dataset / "labels").iterdir():
        label = nib.Nifti1Image.from_filename(path)
        values = np.array([0, 11, 3, 5, 9], np.uint8)[np.asarray(label.dataobj)]
        nib.save(nib.Nifti1Image(values, label.affine), tmp_path / "labels" / path.name)
    write_datalist(tmp_path, training=["case_0", "case_1"], validation=["case_2"])
    label_map = {keys(label): int(label == 11) for label in (0, 11, 3, 5, 9)}
    train(tmp_path, tmp_path / "out", max_epochs=3, label_map=label_map)
    assert states_equal(last(tmp_path / "out"), last(trained))


def spoil(folder: Path, change: Callable[[np.ndarray], np.ndarray]) -> None:
    path = folder / "labels/case_1.nii.gz"
    label = nib.Nifti1Image.from_filename(path)
    nib.save(nib.Nifti1Image(change(np.asarray(label.dataobj)), label.affine), path)


BAD_LABELS = [
    pytest.param(lambda label: np.where(label == 1, 7, label), "the label holds 7 in", id="unknown value"),
    pytest.param(lambda label: label[:-1], "the label is 43x36x24; expected 44x36x24", id="other size"),
]


@pytest.mark.parametrize("overlay", ["train", "evaluate"])
@pytest.mark.parametrize(("change", "message"), BAD_LABELS)
def test_a_bad_label_ends_the_run_with_one_line(
    change: Callable[[np.ndarray], np.ndarray],
    message: str,
    overlay: str,
    phantoms: list[Phantom],
    weights: Path,
    tmp_path: Path,
) -> None:
    for phantom in phantoms[:2]:
        write_nifti(phantom, tmp_path, f"case_{phantom.seed}")
    spoil(tmp_path, change)
    write_datalist(tmp_path, training=["case_0", "case_1"], validation=["case_1"])
    names = [overlay] if overlay == "evaluate" else []
    with pytest.raises(SystemExit, match=rf"^error: case_1.nii.gz: {message}[^\n]*$"):
        train(tmp_path, tmp_path / "out", *names, checkpoint=str(weights))


BAD_FOLDERS = [
    pytest.param({"dataset_dir": "nowhere"}, r"case_\d.nii.gz: no such file; expected", id="no data"),
    pytest.param({"datalist_file": "nowhere/list.json"}, "list.json", id="no datalist"),
    pytest.param({"output_dir": "a_file/out"}, "output folder 'out': cannot be written to", id="read-only"),
]


@pytest.mark.parametrize(("overrides", "message"), BAD_FOLDERS)
def test_a_missing_folder_ends_the_run_with_one_line(
    overrides: dict[str, str], message: str, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a_file").touch()
    with pytest.raises(SystemExit, match=rf"^error: [^\n]*{message}[^\n]*$"):
        train(dataset, tmp_path / "out", **overrides)


@pytest.mark.parametrize("content", [b"", b"not a checkpoint"], ids=["empty", "text"])
def test_a_damaged_last_state_is_not_trained_over(content: bytes, dataset: Path, tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints/last.pt").write_bytes(content)
    with pytest.raises(SystemExit, match=r"^error: last.pt in the checkpoint folder is damaged"):
        train(dataset, tmp_path)
    assert (tmp_path / "checkpoints/last.pt").read_bytes() == content


@pytest.mark.gpu
def test_training_in_mixed_precision(dataset: Path, tmp_path: Path) -> None:
    train(dataset, tmp_path, max_epochs=1, device="$torch.device('cuda')", amp=True)
    assert "scaler" in last(tmp_path)
    best = torch.load(tmp_path / "checkpoints/model.pt", weights_only=True)
    assert all(value.device.type == "cpu" and value.isfinite().all() for value in best.values())
