"""A map that is learnt from a source, and a constant afterwards."""

import copy
import io
import pickle
from typing import Any

import pytest
import torch
from monai.data import MetaTensor
from torch import nn

from ag_networks.blocks import GlobalSpatialAttention, PixelCNN, PixelWeights

SIZE = (6, 5)


def learning(seed: int = 0) -> tuple[GlobalSpatialAttention, PixelCNN]:
    """An attention that learns, and its source."""
    torch.manual_seed(seed)
    source = PixelCNN(torch.randn(6, *SIZE), hidden_channels=4)
    attention = GlobalSpatialAttention(SIZE)
    attention.learn(source)
    return attention, source


def step(attention: GlobalSpatialAttention, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad()
    (attention(torch.randn(3, 2, *SIZE)).square().mean() + attention.penalty()).backward()
    optimizer.step()


class Counting(nn.Module):
    """A source that counts how often its map is asked for."""

    def __init__(self, source: nn.Module) -> None:
        super().__init__()
        self.source = source
        self.calls = 0

    def forward(self) -> Any:
        self.calls += 1
        return self.source()


@pytest.mark.parametrize("size", [(6, 5), (4, 6, 5)], ids=["2d", "3d"])
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_images_are_multiplied_with_the_map(size: tuple[int, ...], training: bool) -> None:
    attention, x = GlobalSpatialAttention(size).train(training), torch.randn(2, 3, *size)
    assert torch.equal(attention(x), x), "a map is ones at first"
    values = torch.rand(1, 1, *size)
    attention.map.copy_(values)
    expected = torch.stack([torch.stack([channel * values[0, 0] for channel in image]) for image in x])
    assert torch.equal(attention(x), expected)
    assert attention.frozen
    assert attention.penalty() == 0


def test_a_training_step_multiplies_with_the_sources_map_and_teaches_it() -> None:
    attention, source = learning()
    x = torch.randn(2, 3, *SIZE, requires_grad=True)
    y = attention(x)
    torch.testing.assert_close(y, x * source())
    y.sum().backward()
    torch.testing.assert_close(x.grad, source().expand_as(x))
    for name, parameter in source.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name
    assert not attention.frozen


def test_evaluation_uses_the_map_of_the_present_source() -> None:
    attention, source = learning()
    optimizer = torch.optim.SGD(source.parameters(), lr=1.0)
    x, maps = torch.randn(2, 3, *SIZE), []
    for _ in range(2):
        step(attention.train(), optimizer)
        attention.eval()
        maps.append(attention.map.clone())
        assert torch.equal(attention.map, source())
        assert torch.equal(attention(x), x * source())
        assert not attention(x).requires_grad
    assert not torch.equal(*maps)


def test_a_source_that_is_loaded_or_written_past_autograd_is_noticed() -> None:
    attention, source = learning()
    attention.eval()
    source.load_state_dict(learning(seed=1)[1].state_dict())
    attention.eval()
    assert torch.equal(attention.map, source())
    attention.train()(torch.randn(1, 1, *SIZE))
    for parameter in source.parameters():
        parameter.data.mul_(2)  # no new version
    attention.eval()
    assert torch.equal(attention.map, source())


def test_the_source_is_not_asked_again_for_every_batch_of_an_evaluation() -> None:
    attention, source = learning()
    counting = Counting(source)
    attention.learn(counting)
    step(attention, torch.optim.SGD(source.parameters(), lr=1.0))
    attention.eval()
    calls = counting.calls
    for _ in range(3):  # as MONAI's evaluators do
        attention.train()
        attention.eval()
        attention(torch.randn(1, 1, *SIZE))
    assert counting.calls == calls


def test_the_state_dict_holds_the_present_map_alone() -> None:
    attention, source = learning()
    step(attention, torch.optim.SGD(source.parameters(), lr=1.0))
    state = nn.Sequential(attention).state_dict()
    assert list(state) == ["0.map"]
    assert torch.equal(state["0.map"], source())
    restored = GlobalSpatialAttention(SIZE)
    restored.load_state_dict({"map": state["0.map"]})
    x = torch.randn(2, 3, *SIZE)
    assert torch.equal(restored(x), x * source())
    assert restored.frozen


def test_a_source_that_gives_its_parameter_keeps_it() -> None:
    attention, source = GlobalSpatialAttention(SIZE), PixelWeights(SIZE)
    attention.learn(source)
    attention(torch.randn(1, 1, *SIZE))
    assert not list(attention.parameters())
    assert list(attention.state_dict()) == ["map"]
    step(attention, torch.optim.SGD(source.parameters(), lr=1.0))
    assert not torch.equal(attention.map, source.weight), "the map is not the parameter itself"
    assert torch.equal(attention.eval().map, source.weight)


def test_a_distributed_wrapper_is_asked_in_training_alone() -> None:
    class Wrapper(nn.Module):
        def __init__(self, module: nn.Module) -> None:
            super().__init__()
            self.module, self.calls = module, 0

        def forward(self) -> Any:
            self.calls += 1
            return self.module()

    attention, source = learning()
    wrapper = Wrapper(source)
    attention.learn(wrapper)
    calls = wrapper.calls
    step(attention, torch.optim.SGD(wrapper.parameters(), lr=1.0))
    assert wrapper.calls == calls + 1
    attention.state_dict()
    attention.eval()
    attention.freeze()
    assert wrapper.calls == calls + 1
    assert torch.equal(attention.map, source())
    assert not any(parameter.requires_grad for parameter in source.parameters())


OPTIMIZERS: dict[str, Any] = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.1),
    "adam": lambda p: torch.optim.Adam(p, lr=0.1, weight_decay=0.1),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.1, weight_decay=0.1),
}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("to_none", [True, False], ids=["to none", "to zero"])
@pytest.mark.parametrize("kind", ["pixel cnn", "pixel weights"])
def test_frozen_means_nothing_of_it_moves(optimizer: str, to_none: bool, kind: str) -> None:
    attention, source = learning()
    if kind == "pixel weights":
        source = PixelWeights(SIZE)
        attention.learn(source)
    head = nn.Linear(2, 1)
    steps = OPTIMIZERS[optimizer]([*head.parameters(), *source.parameters()])

    def train() -> None:
        steps.zero_grad(set_to_none=to_none)
        (head(attention(torch.randn(3, 2, *SIZE)).mean((2, 3))).square().mean() + attention.penalty()).backward()
        steps.step()

    before = attention.map.clone()
    for _ in range(3):
        train()
    attention.freeze()
    assert attention.frozen
    assert attention.penalty() == 0
    assert torch.equal(attention.map, source()), "the map after the last step"
    assert not torch.equal(attention.map, before)
    kept = [tensor.detach().clone() for tensor in (attention.map, *source.parameters(), *head.parameters())]
    for mode in (True, False, True):
        attention.train(mode)
        train()
        attention.state_dict()
    now = [attention.map, *source.parameters(), *head.parameters()]
    equal = [torch.equal(a, b) for a, b in zip(kept, now, strict=True)]
    assert equal == [*[True] * (len(equal) - 2), False, False], "the head alone goes on"
    attention.freeze()
    assert torch.equal(attention.map, kept[0])


def test_a_frozen_map_does_not_follow_its_source() -> None:
    attention = GlobalSpatialAttention(SIZE)
    source = PixelWeights(SIZE)
    attention.learn(source)
    attention.freeze()
    with torch.no_grad():
        source.weight.fill_(7)
    attention.eval()
    attention.state_dict()
    assert (attention.map == 1).all()


@pytest.mark.parametrize(("reduction", "count"), [("mean", 1), ("sum", 30)])
def test_the_penalty_is_the_l1_norm_of_the_last_steps_map(reduction: str, count: int) -> None:
    attention, source = GlobalSpatialAttention(SIZE), PixelWeights(SIZE)
    with torch.no_grad():
        source.weight.copy_(torch.randn(1, 1, *SIZE))
    attention.learn(source)
    attention(torch.randn(2, 3, *SIZE))
    penalty = attention.penalty(reduction)
    total = sum(abs(v) for v in source.weight.flatten().tolist())
    assert penalty.item() == pytest.approx(total * count / 30, rel=1e-5)
    penalty.backward()
    torch.testing.assert_close(source.weight.grad, source.weight.sign() * count / 30)


def test_another_reduction_is_refused() -> None:
    with pytest.raises(ValueError, match="mean or sum, got 'max'"):
        learning()[0].penalty("max")


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))], ids=["copy", "pickle"])
def test_a_copy_made_in_the_middle_of_training_is_its_own(copied: Any) -> None:
    attention, source = learning()
    optimizer = torch.optim.SGD(source.parameters(), lr=1.0)
    step(attention, optimizer)
    attention(torch.randn(1, 1, *SIZE))  # its map waits for a backward
    twin, x = copied(attention), torch.randn(2, 3, *SIZE)
    kept = attention(x).detach()
    assert torch.equal(twin(x), kept)
    step(attention, optimizer)
    assert not torch.equal(attention(x), kept)
    assert torch.equal(twin(x), kept)
    twin.eval()
    torch.testing.assert_close(twin.map * x, kept)
    assert torch.equal(twin.state_dict()["map"], twin.map)


def test_learning_again_takes_the_new_source() -> None:
    attention, _ = learning()
    attention(torch.randn(1, 1, *SIZE))
    attention.learn(PixelWeights(SIZE))
    assert (attention.map == 1).all()
    assert attention.penalty() == 0, "no step of the new source yet"


@pytest.mark.parametrize("source", [True, False], ids=["learning", "frozen"])
def test_torchscript_computes_the_same(source: bool) -> None:
    attention = learning()[0]
    if not source:
        attention.freeze()
    file = io.BytesIO()
    torch.jit.save(torch.jit.script(attention.eval()), file)
    file.seek(0)
    scripted, x = torch.jit.load(file), torch.randn(2, 3, *SIZE)
    assert torch.equal(scripted(x), attention(x))
    assert list(scripted.state_dict()) == ["map"]
    with pytest.raises(torch.jit.Error, match=r"expected images of \[6, 5\] pixels"):
        scripted(torch.randn(1, 3, 5, 6))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16], ids=str)
def test_the_source_may_have_another_precision(dtype: torch.dtype) -> None:
    attention, source = learning()
    attention.to(dtype)
    x = torch.randn(2, 3, *SIZE, dtype=dtype)
    y = attention(x)
    assert y.dtype == attention.map.dtype == attention.penalty().dtype == dtype
    y.float().sum().backward()
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in source.parameters())
    assert torch.equal(attention.eval()(x), y)


def test_the_source_may_be_on_another_device() -> None:
    attention = learning()[0].to("meta")
    x = torch.empty(2, 3, *SIZE, device="meta")
    assert attention(x).device.type == "meta"
    assert attention.eval()(x).device.type == "meta"


def test_autocast_leaves_the_penalty_in_single_precision() -> None:
    attention, source = learning()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = attention(torch.ones(1, 1, *SIZE))
    assert y.dtype == attention.penalty().dtype == torch.float32
    torch.testing.assert_close(y, source(), rtol=0.02, atol=0.02)
    attention.penalty().backward()
    assert source.conv1.weight.grad.dtype == torch.float32


def test_metadata_stays_with_the_images() -> None:
    attention, _ = learning()
    x = MetaTensor(torch.randn(2, 3, *SIZE), meta={"filename_or_obj": "a.png"})
    assert attention(x).meta["filename_or_obj"] == "a.png"
    assert type(attention.map) is torch.Tensor
    assert type(attention.state_dict()["map"]) is torch.Tensor


@pytest.mark.parametrize("size", [4, (4,), (0, 4), (4, -1), (2, 2, 2, 2), ()], ids=str)
def test_sizes_that_are_none_are_refused(size: Any) -> None:
    with pytest.raises(ValueError, match="spatial_size must be"):
        GlobalSpatialAttention(size)


@pytest.mark.parametrize("size", [(5, 6), (6, 6), (1, 6, 5)], ids=str)
def test_a_source_of_another_size_is_refused(size: tuple[int, ...]) -> None:
    attention = GlobalSpatialAttention(SIZE)
    with pytest.raises(ValueError, match=r"a map of shape \(1, 1, 6, 5\), got one of"):
        attention.learn(PixelWeights(size))
    assert attention.frozen


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.zeros(1, 3, 5, 6), r"expected images of \[6, 5\] pixels, as the map has, got \[1, 3, 5, 6\]"),
        (torch.zeros(3, 6, 5), r"got \[3, 6, 5\]"),
        (torch.zeros(1, 3, 1, 1), r"got \[1, 3, 1, 1\]"),
        (torch.zeros(1, 3, 6, 5, dtype=torch.uint8), "floating point, got integers"),
        (torch.zeros(1, 3, 6, 5, dtype=torch.int64), "floating point, got integers"),
    ],
    ids=["turned", "no batch", "would broadcast", "uint8", "int64"],
)
def test_images_that_do_not_fit_are_refused(x: torch.Tensor, message: str) -> None:
    for attention in (GlobalSpatialAttention(SIZE), learning()[0]):
        with pytest.raises(ValueError, match=message):
            attention(x)
