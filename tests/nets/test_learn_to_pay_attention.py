"""LearnToPayAttentionVGG: counts, layers, pooling by compatibility, sizes, refusals."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from network_helpers import as_if_trained
from torch import nn

from ag_networks.nets import LearnToPayAttentionVGG
from ag_networks.nets.learn_to_pay_attention import CompatibilityPooling

CHANNELS = (3, 4, 5, 6)
DIMS = pytest.mark.parametrize("dims", [2, 3], ids=["2d", "3d"])


def small(dims: int = 2, size: Any = 64) -> LearnToPayAttentionVGG:
    return as_if_trained(LearnToPayAttentionVGG(dims, 2, 4, spatial_size=size, channels=CHANNELS)).eval()


@pytest.mark.parametrize(
    ("size", "classes", "parameters"),
    [(32, 100, 19_993_764), (224, 3, 32_427_587)],
    ids=["CIFAR-100", "fundus"],
)
def test_parameters_are_those_of_the_port(size: int, classes: int, parameters: int) -> None:
    with torch.device("meta"):
        network = LearnToPayAttentionVGG(2, 3, classes, spatial_size=size)
    assert sum(p.numel() for p in network.parameters()) == parameters


def plain(network: nn.Module, x: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Scores and coefficients, one layer after the other."""
    state, dims = network.state_dict(), x.dim() - 2
    conv, pool = (F.conv2d, F.conv3d)[dims - 2], (F.max_pool2d, F.max_pool3d)[dims - 2]

    def layer(name: str, x: torch.Tensor) -> torch.Tensor:
        x = conv(x, state[f"{name}.conv.weight"], state[f"{name}.conv.bias"], padding=1)
        return F.relu(F.batch_norm(x, *(state[f"{name}.norm.{p}"] for p in ("running_mean", "running_var", *AFFINE))))

    local = []
    for block, count in enumerate((2, 2, 3, 3, 3)):
        for i in range(count):
            x = layer(f"blocks.{block}.{i}", x)
        if block >= 2:
            x = pool(x, 2)
            local.append(x)
    g = conv(pool(layer("last.2", pool(layer("last.0", x), 2)), 2), state["dense.weight"], state["dense.bias"])
    assert g[0, 0].numel() == 1
    local[0] = conv(local[0], state["projector.weight"])
    vectors, coefficients = [], []
    for i, features in enumerate(local):
        c = torch.einsum("c,nc...->n...", state[f"attention.{i}.u.weight"].flatten(), features + g)
        alpha = (c.flatten(1) - c.flatten(1).logsumexp(1, keepdim=True)).exp()
        vectors.append(torch.einsum("np,ncp->nc", alpha, features.flatten(2)))
        coefficients.append(alpha.view_as(c)[:, None])
    return F.linear(torch.cat(vectors, 1), state["classifier.weight"], state["classifier.bias"]), coefficients


AFFINE = ("weight", "bias")


@DIMS
def test_it_equals_its_layers(dims: int) -> None:
    size = (64, 32, 32)[:dims]
    network = small(dims, size)
    x = torch.randn(2, 2, *size, dtype=torch.float64)
    seen: list[torch.Tensor] = []
    for pooling in network.attention:
        pooling.register_forward_hook(lambda _m, _i, output: seen.append(output[1]))
    expected, coefficients = plain(network, x)
    torch.testing.assert_close(network(x), expected)
    for i, (actual, alpha) in enumerate(zip(seen, coefficients, strict=True)):
        assert actual.shape == (2, 1, *(n // 2 ** (i + 1) for n in size))
        torch.testing.assert_close(actual, alpha)


@DIMS
def test_equal_compatibility_gives_the_mean(dims: int) -> None:
    pooling = CompatibilityPooling(dims, 3).double()
    nn.init.zeros_(pooling.u.weight)
    x = torch.randn(2, 3, *(4, 5, 6)[:dims], dtype=torch.float64)
    vectors, coefficients = pooling(x, torch.randn(2, 3, *[1] * dims, dtype=torch.float64))
    torch.testing.assert_close(vectors, x.flatten(2).mean(2))
    torch.testing.assert_close(coefficients, torch.full_like(x[:, :1], 1 / x[0, 0].numel()))


def test_a_compatible_position_is_picked() -> None:
    pooling = CompatibilityPooling(2, 3).double()
    with torch.no_grad():
        pooling.u.weight[:] = torch.tensor([1000.0, 0, 0]).view(1, 3, 1, 1)
    x = torch.rand(1, 3, 4, 5, dtype=torch.float64)
    x[0, 0, 2, 3] = 2
    vectors, coefficients = pooling(x, torch.zeros(1, 3, 1, 1, dtype=torch.float64))
    torch.testing.assert_close(vectors[0], x[0, :, 2, 3])
    assert coefficients.flatten().argmax() == 2 * 5 + 3


def test_the_global_feature_changes_nothing() -> None:
    network = small()
    x = torch.randn(2, 2, 64, 64, dtype=torch.float64)
    expected = network(x)
    nn.init.normal_(network.dense.weight)
    torch.testing.assert_close(network(x), expected)


@pytest.mark.parametrize(("size", "kernel"), [(32, (1, 1)), (112, (3, 3)), ((64, 224), (2, 7))])
def test_the_last_convolution_covers_what_is_left(size: Any, kernel: tuple[int, int]) -> None:
    network = small(size=size)
    assert network.dense.kernel_size == kernel
    shape = (size, size) if isinstance(size, int) else size
    x = torch.randn(1, 2, *shape, dtype=torch.float64)
    assert network.to_grid(torch.ones(1, 6, *kernel)).shape[2:] == kernel
    torch.testing.assert_close(network(x), plain(network, x)[0])


@pytest.mark.parametrize("shape", [(32, 32), (65, 33), (200, 47)])
def test_other_sizes_are_classified_too(shape: tuple[int, int]) -> None:
    y = small()(torch.randn(2, 2, *shape, dtype=torch.float64))
    assert y.shape == (2, 4)
    assert y.isfinite().all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"spatial_size": 31}, r"spatial_size must be at least 32 along every axis, got \(31, 31\)"),
        ({"spatial_size": (64, 16)}, r"at least 32 along every axis, got \(64, 16\)"),
        ({"spatial_size": (64,)}, "spatial_size must be one positive integer or 2 of them"),
        ({"channels": (4, 4, 4)}, r"channels must be four positive numbers, got \(4, 4, 4\)"),
        ({"channels": (4, 4, 4, 0)}, "channels must be four positive numbers"),
    ],
    ids=["small", "one axis", "axes", "three", "none"],
)
def test_wrong_arguments_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LearnToPayAttentionVGG(2, 3, 5, **{"spatial_size": 64, **options})


def test_a_small_image_is_refused() -> None:
    with pytest.raises(ValueError, match=r"at least 32 pixels along every axis, got .*31"):
        small()(torch.zeros(1, 2, 64, 31, dtype=torch.float64))
