"""Projected features of pixels: exact where they can be, and of the promised size."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from network_helpers import relative_error

from ag_networks.blocks import PixelCNN
from ag_networks.data import PROJECTIONS, PixelStack, project_pixels, projection_pace

SIZE = (9, 8)


def low_rank(rank: int, images: int = 20, channels: int = 3, size: tuple[int, ...] = SIZE) -> PixelStack:
    """Every image a mixture of the same few."""
    basis = torch.randn(rank, *size)
    mixed = torch.tensordot(torch.randn(images, channels, rank), basis, dims=1)
    stack = PixelStack(mixed.numpy())
    stack.chunk_images = 7
    return stack


def decaying(images: int = 40) -> PixelStack:
    """Singular values 1, 1/2, 1/3 ... of 120 channels."""
    left, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(3 * images, 72)))
    right, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(72, 72)))
    values = left / np.arange(1, 73) @ right
    return PixelStack(values.reshape(images, 3, *SIZE).astype(np.float32))


@pytest.mark.parametrize("size", [SIZE, (4, 5, 6)], ids=["2d", "3d"])
@pytest.mark.parametrize("rank", [1, 4, 11])
def test_with_the_rank_of_the_set_the_pixel_cnn_is_the_same(size: tuple[int, ...], rank: int) -> None:
    stack = low_rank(rank, size=size)
    pixels, features = stack.tensor(), project_pixels(stack, rank)
    assert features.shape == (rank, *size)
    u = pixels.flatten(1) @ torch.linalg.pinv(features.flatten(1))
    full, small = PixelCNN(pixels, hidden_channels=6), PixelCNN(features, hidden_channels=6)
    small.load_state_dict(full.state_dict() | {"conv1.weight": torch.einsum("kc...,cd->kd...", full.conv1.weight, u)})
    assert full().std() > 0.01
    assert relative_error(small(), full()) < 1e-4


@pytest.mark.parametrize("components", [1, 5, 20])
def test_principal_features_are_the_singular_ones(components: int) -> None:
    stack = decaying()
    features = project_pixels(stack, components).flatten(1).numpy()
    _, values, right = np.linalg.svd(stack.tensor().flatten(1).numpy(), full_matrices=False)
    expected = values[:components, None] * right[:components] * np.sqrt(components / stack.channels)
    np.testing.assert_allclose(np.linalg.norm(features, axis=1), np.linalg.norm(expected, axis=1), rtol=0.02)
    cosines = (features * expected).sum(1) / np.linalg.norm(features, axis=1) / np.linalg.norm(expected, axis=1)
    assert np.abs(cosines[:5]).min() > 0.999
    gram = features @ features.T
    assert np.abs(gram - np.diag(gram.diagonal())).max() < 1e-4 * gram.max()


@pytest.mark.parametrize("method", PROJECTIONS)
def test_a_feature_has_the_energy_of_a_channel(method: str) -> None:
    stack = low_rank(12, images=50)
    energy = stack.tensor().square().mean().item()
    components = {"principal": 12, "random": 72}[method]
    features = project_pixels(stack, components, method=method, seed=5)
    tolerance = {"principal": 1e-4, "random": 0.2}[method]
    assert features.square().mean().item() == pytest.approx(energy, rel=tolerance)


def test_random_features_keep_inner_products() -> None:
    images = torch.randn(900, 1, 3, 4)
    stack = PixelStack(images.numpy())
    expected = images.flatten(1).T @ images.flatten(1) / 900
    total, count = torch.zeros(12, 12), 20
    for seed in range(100, 100 + count):
        features = project_pixels(stack, 12, method="random", seed=seed).flatten(1)
        total += features.T @ features / len(features) / count
    # the inner products of two pixels over 20 x 12 Gaussian directions, of pixels with a norm of about 1
    assert (total - expected).abs().max() < 5 * (2 / (count * 12)) ** 0.5
    assert (total - expected).abs().mean() < (2 / (count * 12)) ** 0.5


def learnt_change(source: PixelCNN, steps: int = 10) -> torch.Tensor:
    """Return how far Adam moves the map that is asked to be small."""
    optimizer = torch.optim.Adam(source.parameters(), lr=1e-5)
    before = source().detach()
    for _ in range(steps):
        optimizer.zero_grad()
        source().mean().backward()
        optimizer.step()
    return before - source().detach()


@pytest.mark.parametrize("method", PROJECTIONS)
def test_the_map_is_learnt_at_the_pace_of_the_exact_form(method: str) -> None:
    """Images that resemble each other, as those of a structured set do."""
    scene = torch.randn(1, 3, 12, 10)
    stack = PixelStack((scene + 0.3 * torch.randn(150, 3, 12, 10)).numpy())
    features = project_pixels(stack, 16, method=method)
    pace = projection_pace(stack, features)
    exact, same, slow = (
        learnt_change(PixelCNN(pixels, hidden_channels=16, pace=own)).mean().item()
        for pixels, own in ((stack.tensor(), 1.0), (features, pace), (features, 1.0))
    )
    assert 0.6 < same / exact < 1.7
    assert slow < 0.3 * exact


def test_the_pace_is_a_ratio_of_magnitudes() -> None:
    stack = low_rank(3, images=15)
    assert projection_pace(stack, stack.tensor()) == pytest.approx(1)
    assert projection_pace(stack, -stack.tensor()[:9] / 2) == pytest.approx(
        2 * float(stack.tensor().abs().sum() / stack.tensor()[:9].abs().sum())
    )
    assert projection_pace(stack, torch.zeros(4, *SIZE)) == 1


class Counted(PixelStack):
    passes = 0

    def chunks(self) -> Iterator[torch.Tensor]:
        self.passes += 1
        return super().chunks()


@pytest.mark.parametrize(("method", "passes"), [("principal", 6), ("random", 1)])
def test_passes_over_the_set_are_as_promised(method: str, passes: int) -> None:
    stack = Counted(torch.randn(10, 3, *SIZE).numpy())
    project_pixels(stack, 4, method=method)
    assert stack.passes == passes


@pytest.mark.parametrize("method", PROJECTIONS)
def test_chunks_do_not_matter_and_seeds_do_as_they_should(method: str) -> None:
    stack = decaying()
    expected = project_pixels(stack, 4, method=method)
    assert expected.dtype == torch.float32
    assert expected.is_contiguous()
    state = torch.get_rng_state()
    assert torch.equal(project_pixels(stack, 4, method=method), expected)
    assert torch.equal(torch.get_rng_state(), state), "the training's own random numbers stay as they are"
    other = project_pixels(stack, 4, method=method, seed=1)
    span = [x.flatten(1).T @ x.flatten(1) for x in (other, expected)]
    assert (relative_error(*span) < 0.02) == (method == "principal")
    stack.chunk_images = 3
    assert relative_error(project_pixels(stack, 4, method=method), expected) < 1e-3


def test_the_file_gives_about_the_same(tmp_path: object) -> None:
    images = list(torch.from_numpy(decaying().values))
    memory, disk = PixelStack.of(images), PixelStack.of(images, file=f"{tmp_path}/set.npy")
    grams = [(x := project_pixels(stack, 6).flatten(1)).T @ x for stack in (disk, memory)]
    assert relative_error(*grams) < 0.02


@pytest.mark.parametrize("method", PROJECTIONS)
@pytest.mark.parametrize("value", [0.0, 3.0])
def test_constant_images_give_finite_features(method: str, value: float) -> None:
    stack = PixelStack(np.full((4, 3, *SIZE), value, dtype=np.float32))
    features = project_pixels(stack, 5, method=method)
    assert features.isfinite().all()
    assert (features.square().mean() > 0) == (value > 0)


@pytest.mark.parametrize(
    ("components", "method"),
    [(0, "principal"), (-1, "random"), (73, "principal"), (73, "random"), (4, "pca")],
    ids=str,
)
def test_others_are_refused(components: int, method: str) -> None:
    stack = PixelStack(np.zeros((40, 3, *SIZE), dtype=np.float32))
    with pytest.raises(ValueError, match=f"1 to 72 components, got '{method}' and {components}"):
        project_pixels(stack, components, method=method)
    assert project_pixels(PixelStack(np.ones((1, 1, *SIZE), dtype=np.float32)), 1).shape == (1, *SIZE)


def test_the_signs_of_principal_components_do_not_depend_on_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    stack = PixelStack.of(list(torch.randn(6, 2, 7, 5, generator=torch.Generator().manual_seed(0))))
    expected = project_pixels(stack, 4)
    svd = torch.linalg.svd

    def flipped(matrix: torch.Tensor, **options: Any) -> Any:
        left, values, right = svd(matrix, **options)
        return -left, values, -right

    monkeypatch.setattr(torch.linalg, "svd", flipped)
    assert torch.equal(project_pixels(stack, 4), expected)
