"""Pictures of attention during training: on time, of the right slices, and without a trace in the training."""

import logging
import random
import sys
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import nibabel as nib
import numpy as np
import pytest
import torch
from ignite.engine import Engine
from monai.data import DataLoader, Dataset, MetaTensor
from monai.engines import SupervisedTrainer
from monai.losses import DiceCELoss

from ag_networks.nets import AttentionGatedUNet
from ag_networks.visualize import AttentionFigures, capture_attention

pytestmark = pytest.mark.usefixtures("_coarse_pictures")

ROI = (12, 8, 8)
AFFINE = np.diag([2.0, 2.0, 3.0, 1.0])


def make_network(gates: int = 2) -> AttentionGatedUNet:
    """Return a small network with dropout, so that random numbers matter, and batch norm, so that modes do."""
    torch.manual_seed(0)
    return AttentionGatedUNet(3, 1, 2, channels=(2, 4, 8), gates=gates, dropout=0.2, deep_supervision=None)


def make_case(seed: int = 0, *, label_at: tuple[int, int, int] | None = None, axcodes: str = "RAS") -> dict[str, Any]:
    """Return a case as the preprocessing leaves it, with 3 x 3 x 3 labeled voxels around a place."""
    image = np.random.default_rng(seed).standard_normal((16, 14, 12)).astype(np.float32)
    label = np.zeros(image.shape, np.uint8)
    if label_at is not None:
        label[tuple(slice(max(at - 1, 0), at + 2) for at in label_at)] = 1
        label[0, 0, 0] = 255
    turn = nib.orientations.ornt_transform(nib.io_orientation(AFFINE), nib.orientations.axcodes2ornt(axcodes))
    case = {}
    for name, array in (("image", image), ("label", label)):
        volume = nib.Nifti1Image(array, AFFINE).as_reoriented(turn)
        tensor = torch.tensor(np.ascontiguousarray(volume.dataobj))[None]
        case[name] = MetaTensor(tensor, affine=torch.tensor(volume.affine))
    return case if label_at is not None else {"image": case["image"]}


def figures(folder: Path, network: torch.nn.Module, **options: Any) -> AttentionFigures:
    """Return the handler on one case."""
    dataset = options.pop("dataset", None) or Dataset([make_case()])
    return AttentionFigures(dataset, network, folder, ROI, **options)


def train(network: torch.nn.Module, epochs: int, handlers: list[AttentionFigures]) -> dict[str, torch.Tensor]:
    """Train on random crops in random order and return what the training has changed."""
    torch.manual_seed(1)
    data = [{"image": torch.rand(1, *ROI), "label": (torch.rand(1, *ROI) > 0.5).float()} for _ in range(4)]
    trainer = SupervisedTrainer(
        device=torch.device("cpu"),
        max_epochs=epochs,
        train_data_loader=DataLoader(Dataset(data), batch_size=2, shuffle=True),
        network=network,
        optimizer=torch.optim.Adam(network.parameters(), 0.01),
        loss_function=DiceCELoss(softmax=True, to_onehot_y=True),
        train_handlers=handlers,
    )
    trainer.run()
    assert network.training
    return {name: value.clone() for name, value in network.state_dict().items()}


def history(folder: Path) -> dict[str, np.ndarray]:
    """Return the slices that are kept."""
    with np.load(folder / "attention_epochs.npz") as file:
        return dict(file)


def test_the_training_does_not_notice(tmp_path: Path) -> None:
    plain = train(make_network(), 3, [])
    states = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    network = make_network()
    watched = train(network, 3, [figures(tmp_path, network, epochs=(1, 2, 3))])
    assert len(list(tmp_path.glob("attention_epoch_*.png"))) == 3
    assert plain.keys() == watched.keys()
    assert [name for name, value in plain.items() if not torch.equal(value, watched[name])] == []
    assert torch.equal(states[0], torch.get_rng_state())
    assert states[1:] == (np.random.get_state()[1].tolist(), random.getstate())
    assert all(parameter.grad is None or parameter.grad.isfinite().all() for parameter in network.parameters())


def test_it_draws_after_the_epochs_of_the_paper(tmp_path: Path) -> None:
    network = make_network()
    train(network, 7, [figures(tmp_path, network)])
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "attention_epoch_0003.png",
        "attention_epoch_0006.png",
        "attention_epochs.npz",
        "attention_epochs.png",
    ]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in tmp_path.glob("*.png"))
    assert figures(tmp_path, network).epochs == {3, 6, 10, 60, 150}


def test_the_map_is_the_mean_of_the_gates_on_the_crop(tmp_path: Path) -> None:
    network = make_network()
    figures(tmp_path, network).draw(5)
    crop = make_case()["image"][:, 2:14, 3:11, 2:10].as_tensor()
    with torch.no_grad(), capture_attention(network.eval(), on_input_grid=True) as attention:
        network(crop[None])
    (alpha,) = attention.values()
    mean = alpha[0].mean(dim=0).numpy()
    kept = history(tmp_path)
    assert np.allclose(kept["0005/level1/axial"], mean[::-1, ::-1, 4].T)
    assert np.allclose(kept["0005/level1/sagittal"], mean[6, ::-1, ::-1].T)
    assert np.allclose(kept["image/coronal"], crop[0].numpy()[::-1, 4, ::-1].T)


@pytest.mark.parametrize("label_at", [(12, 10, 9), (1, 1, 1), (15, 13, 0)], ids=["inside", "corner", "other corner"])
def test_the_crop_lies_around_the_label(label_at: tuple[int, int, int], tmp_path: Path) -> None:
    handler = figures(tmp_path, make_network(), dataset=Dataset([make_case(label_at=label_at)]))
    handler.draw(3)
    view = handler._view
    assert view is not None
    assert tuple(view.crop.shape) == (1, *ROI)
    assert all(mask.any() for mask in view.label.values())


@pytest.mark.parametrize("axcodes", ["LPS", "AIL"])
def test_the_picture_does_not_depend_on_how_the_volume_is_stored(axcodes: str, tmp_path: Path) -> None:
    turned = tuple(ROI["RAS".index(axis)] if axis in "RAS" else ROI["LPI".index(axis)] for axis in axcodes)
    views = []
    for roi, case in ((ROI, make_case()), (turned, make_case(axcodes=axcodes))):
        handler = AttentionFigures(Dataset([case]), make_network(), tmp_path, roi)
        handler.draw(3)
        views.append(handler._view)
    assert views[0].spacing == views[1].spacing == (2, 2, 3)
    assert all(np.array_equal(views[0].image[plane], views[1].image[plane]) for plane in views[0].image)


def test_a_volume_smaller_than_the_crop_is_shown_whole(tmp_path: Path) -> None:
    handler = AttentionFigures(Dataset([make_case(label_at=(3, 3, 3))]), make_network(), tmp_path, (64, 8, 64))
    handler.draw(3)
    assert handler._view is not None
    assert tuple(handler._view.crop.shape) == (1, 16, 8, 12)


def test_a_resumed_training_goes_on_with_the_strip(tmp_path: Path) -> None:
    network = make_network()
    figures(tmp_path, network).draw(3)
    first = history(tmp_path)
    figures(tmp_path, network).draw(6)
    kept = history(tmp_path)
    assert sorted({key.split("/")[0] for key in kept}) == ["0003", "0006", "image"]
    assert all(np.array_equal(kept[key], pixels) for key, pixels in first.items())


@pytest.mark.parametrize(
    ("epoch", "seed", "epochs"),
    [(3, 0, ["0003"]), (2, 0, ["0002"]), (6, 0, ["0003", "0006"]), (6, 1, ["0006"])],
    ids=["same epoch again", "started anew", "resumed", "another volume"],
)
def test_the_strip_holds_one_training_only(epoch: int, seed: int, epochs: list[str], tmp_path: Path) -> None:
    network = make_network()
    figures(tmp_path, network).draw(3)
    figures(tmp_path, network, dataset=Dataset([make_case(seed)])).draw(epoch)
    assert sorted({key.split("/")[0] for key in history(tmp_path)} - {"image"}) == epochs


def test_a_network_without_gates_is_trained_without_pictures(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    network = make_network(gates=0)
    with caplog.at_level(logging.WARNING):
        train(network, 1, [figures(tmp_path, network, epochs=(1,))])
    assert not list(tmp_path.iterdir())
    assert "no attention figures: AttentionGatedUNet has no attention gate" in caplog.text


def test_without_matplotlib_the_training_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    network = make_network()
    with caplog.at_level(logging.WARNING):
        train(network, 1, [figures(tmp_path, network, epochs=(1,))])
    assert not list(tmp_path.iterdir())
    assert 'pip install "ag-networks[plot]"' in caplog.text


def test_only_the_first_process_draws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idist, "get_rank", lambda: 1)
    network = make_network()
    train(network, 1, [figures(tmp_path, network, epochs=(1,))])
    assert not list(tmp_path.iterdir())


def test_the_network_may_be_wrapped_and_in_half_precision(tmp_path: Path) -> None:
    network = make_network()
    wrapped = torch.nn.Module()
    wrapped.module = network
    network.forward = torch.autocast("cpu", dtype=torch.bfloat16)(network.forward)  # as the bundle's option does
    engine = Engine(lambda _engine, _batch: None)
    figures(tmp_path, wrapped, epochs=(2,)).attach(engine)
    engine.run([0], max_epochs=2)
    assert (tmp_path / "attention_epoch_0002.png").is_file()
    assert history(tmp_path)["0002/level1/axial"].dtype == np.float32
