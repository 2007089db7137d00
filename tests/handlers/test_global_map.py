"""What a map is learnt from, from when to when, and what a resumed training makes of it."""

import logging
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ignite.engine import Engine, Events
from torch import nn

from ag_networks.blocks import PixelCNN
from ag_networks.data import CaseError, PixelStack
from ag_networks.handlers import MAP_SOURCES, GlobalMapSchedule, ResumableTraining, map_source
from ag_networks.losses import MapPenaltyLoss
from ag_networks.nets import GlobalAttentionClassifier

SIZE = (6, 5)


def pictures(count: int = 8, channels: int = 3) -> list[dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(1)
    return [{"image": torch.randn(channels, *SIZE, generator=generator)} for _ in range(count)]


def parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize(
    ("kind", "options", "count"),
    [
        ("pixel_cnn", {}, 4 * (9 * 24 + 1) + 5),
        ("pixel_cnn", {"features": "principal", "components": 7}, 4 * (9 * 7 + 1) + 5),
        ("pixel_cnn", {"features": "random", "components": 7}, 4 * (9 * 7 + 1) + 5),
        ("pixel_cnn", {"features": "random", "components": 64}, 4 * (9 * 24 + 1) + 5),
        ("pixel_weights", {}, 30),
        ("none", {}, 0),
    ],
    ids=["all", "principal", "random", "fewer channels than components", "weights", "none"],
)
def test_every_kind_has_its_parameters(kind: str, options: dict[str, Any], count: int) -> None:
    assert kind in MAP_SOURCES
    source = map_source(kind, pictures(), SIZE, hidden_channels=4, **options)
    assert parameters(source) == count
    if kind != "none":
        values = source()
        assert values.shape == (1, 1, *SIZE)
        assert bool((values == 1).all()) == (kind == "pixel_weights")
        assert values.min() > 0


def test_a_grey_set_counts_with_one_channel() -> None:
    grey = [{"image": item["image"][:1].expand(3, *SIZE)} for item in pictures()]
    assert parameters(map_source("pixel_cnn", grey, SIZE, hidden_channels=4)) == 4 * (9 * 8 + 1) + 5


@pytest.mark.parametrize("features", ["all", "principal"])
def test_the_file_gives_the_map_that_memory_gives(features: str, tmp_path: Path) -> None:
    options: dict[str, Any] = {"hidden_channels": 4, "features": features, "components": 24}
    memory = map_source("pixel_cnn", pictures(), SIZE, **options)
    file = map_source("pixel_cnn", pictures(), SIZE, file=tmp_path / "pixels.npy", **options)
    assert np.load(tmp_path / "pixels.npy").dtype == np.uint8
    assert torch.equal(memory.state_dict()["conv1.weight"], memory.conv1.weight)  # type: ignore[arg-type]
    if features == "all":
        assert not any(True for _ in file.buffers()), "the images are not in memory"
        file.load_state_dict(memory.state_dict())
        torch.testing.assert_close(file(), memory(), atol=5e-3, rtol=0)
        assert not torch.equal(file(), memory())
    else:  # the components' signs are free
        mine, other = (source.get_buffer("pixels")[0].flatten(1) for source in (memory, file))
        torch.testing.assert_close(mine.T @ mine, other.T @ other, atol=0.2, rtol=0.02)


def test_images_in_memory_are_there_once() -> None:
    stack = PixelStack.of([item["image"] for item in pictures()])
    assert stack.tensor().data_ptr() == stack.values.ctypes.data
    torch.testing.assert_close(stack.tensor(), torch.cat(list(stack.chunks())), atol=0, rtol=0)


class Many:
    """A set of which only the number and the shape are looked at."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        assert index == 0, "too many to be read"
        return {"image": torch.zeros(1).expand(3, 224, 224)}


# 5,000 images: 15,000 channels of 224 * 224 * 4 bytes = 2.80 GiB, three times while a step over all of them runs;
# 9 * 128 * 15,000 weights in float32, four times (weight, gradient, two moments) = 0.26 GiB; of 64 components 1.1 MiB
WAYS = "raise memory_limit, or name a pixel_file, which keeps the images on disk, or take pixel_features principal or "


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"memory_limit": 3.0},
            f"all intensities of 5,000 images needs about 8.7 GiB (a step over the images 8.4, filters 0.3; a "
            f"third if all are grey); memory_limit is 3: {WAYS}",
        ),
        (
            {"memory_limit": 2.5, "features": "random"},
            "about 2.8 GiB (images 2.8, filters 0.0; a third if all are grey); memory_limit is 2.5: raise memory_limit,"
            " or name a pixel_file",
        ),
        (
            {"memory_limit": 0.2, "file": "x.npy"},
            "about 0.3 GiB (images 0.0, filters 0.3; a third if all are grey); memory_limit is 0.2: raise memory_limit,"
            " or take pixel_features",
        ),
    ],
    ids=["all", "projected", "file"],
)
def test_a_set_too_large_is_refused_with_what_it_needs(options: dict[str, Any], message: str) -> None:
    with pytest.raises(CaseError) as refusal:
        map_source("pixel_cnn", Many(5000), (224, 224), **options)
    assert message in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("kind", "features", "count", "message"),
    [
        ("cnn", "all", 8, "attention must be one of pixel_cnn, pixel_weights, none and .* got 'cnn' and 'all'"),
        ("pixel_cnn", "pca", 8, "pixel_features one of all, principal, random, got 'pixel_cnn' and 'pca'"),
        ("pixel_cnn", "all", 0, "no image to learn an attention map from"),
    ],
    ids=["kind", "features", "empty"],
)
def test_mistakes_are_refused(kind: str, features: str, count: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        map_source(kind, pictures(count), SIZE, features=features)


class Training:
    """Two steps an epoch of a small network with a map, momentum and weight decay, in a folder that it resumes from."""

    def __init__(self, folder: Path, *, cutoff: int | None = 3, kind: str = "pixel_cnn", draw: Any = None) -> None:
        torch.manual_seed(0)
        items = pictures()
        images = torch.stack([item["image"] for item in items])
        labels = torch.arange(len(images)) % 2
        backbone = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(48, 2))
        self.network = GlobalAttentionClassifier(backbone, SIZE)
        self.source = map_source(kind, items, SIZE, hidden_channels=4)
        groups: list[dict[str, Any]] = [{"params": m.parameters()} for m in (self.network, self.source)]
        optimizer = torch.optim.SGD(groups, lr=0.1, momentum=0.9, weight_decay=0.01)
        loss = MapPenaltyLoss(nn.CrossEntropyLoss(), self.network.attention, weight=0.1)
        self.maps: list[torch.Tensor] = []
        self.parameters: list[torch.Tensor] = []

        def step(engine: Engine, batch: list[int]) -> None:
            self.network.train()
            optimizer.zero_grad()
            loss(self.network(images[batch]), labels[batch]).backward()
            optimizer.step()

        def keep(engine: Engine) -> None:
            self.network.eval()
            self.maps.append(self.network.attention.map.clone())
            self.parameters.append(
                torch.cat([torch.zeros(1), *(p.detach().flatten() for p in self.source.parameters())])
            )

        self.engine = Engine(step)
        schedule = GlobalMapSchedule(
            self.network.attention, self.source, cutoff_epoch=cutoff, draw=draw, output_dir=folder
        )
        schedule.attach(self.engine)
        self.engine.add_event_handler(Events.EPOCH_COMPLETED, keep)
        objects = {"optimizer": optimizer, "map_source": self.source}
        resumable = ResumableTraining(folder, network=self.network, objects=objects, dataset=Any)  # type: ignore[arg-type]
        resumable.attach(self.engine)

    def run(self, epochs: int) -> "Training":
        self.engine.run([[0, 1, 2, 3], [4, 5, 6, 7]], max_epochs=epochs)
        return self


def changes(values: list[torch.Tensor]) -> Iterator[bool]:
    return (not torch.equal(a, b) for a, b in pairwise(values))


@pytest.mark.parametrize("kind", ["pixel_cnn", "pixel_weights"])
def test_the_map_is_learnt_until_the_cutoff_and_frozen_after_it(
    kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    training = Training(tmp_path, cutoff=3, kind=kind).run(6)
    assert training.network.attention.frozen
    assert list(changes(training.maps)) == [True, True, False, False, False]
    assert list(changes(training.parameters)) == [True, True, False, False, False]
    assert not torch.equal(training.maps[0], Training(tmp_path / "b", kind=kind).network.attention.map)
    lines = [record.getMessage() for record in caplog.records if record.getMessage().startswith("attention map")]
    values = training.maps[-1]
    said = f": {values.min():.3f} to {values.max():.3f}, mean {values.mean():.3f}"
    assert lines == [f"attention map frozen after epoch 3{said}", f"attention map{said}"]


def test_without_a_cutoff_it_is_learnt_to_the_end(tmp_path: Path) -> None:
    training = Training(tmp_path, cutoff=None).run(5)
    assert all(changes(training.maps))
    assert torch.equal(training.network.attention.map, training.source())


def test_without_a_source_it_stays_one(tmp_path: Path) -> None:
    training = Training(tmp_path, kind="none").run(4)
    assert all(bool((values == 1).all()) for values in training.maps)


@pytest.mark.parametrize("stopped", [2, 3, 5], ids=["before the cut-off", "at it", "after it"])
def test_a_resumed_training_has_the_same_map(stopped: int, tmp_path: Path) -> None:
    whole = Training(tmp_path / "whole").run(6)
    Training(tmp_path / "parts").run(stopped)
    resumed = Training(tmp_path / "parts").run(6)
    assert len(resumed.maps) == 6 - stopped
    for mine, other in zip(resumed.maps, whole.maps[stopped:], strict=True):
        assert torch.equal(mine, other)
    assert resumed.network.attention.frozen
    state, expected = resumed.network.state_dict(), whole.network.state_dict()
    assert all(torch.equal(value, expected[key]) for key, value in state.items())


def test_the_map_is_drawn_at_the_end(tmp_path: Path) -> None:
    drawn: list[tuple[Path, torch.Tensor]] = []
    training = Training(tmp_path, draw=lambda path, values: drawn.append((path, values.clone())))
    training.run(2)
    ((path, values),) = drawn
    assert path == tmp_path / "attention_map.png"
    assert torch.equal(values, training.source()[0, 0])
    Training(tmp_path, draw=lambda path, values: drawn.append((path, values.clone()))).run(2)  # finished before
    assert torch.equal(drawn[1][1], values)


def test_a_cutoff_before_the_first_epoch_is_refused() -> None:
    network = GlobalAttentionClassifier(nn.Flatten(), SIZE)
    source = PixelCNN(torch.zeros(3, *SIZE), hidden_channels=2)
    with pytest.raises(ValueError, match="cutoff_epoch must be 1 or more, or None, got 0"):
        GlobalMapSchedule(network.attention, source, cutoff_epoch=0)
