"""Only the largest part of every class is left."""

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import KeepLargestConnectedComponent

from ag_networks.transforms import LargestComponent, LargestComponentd

TABLE = [
    ([0, 0, 0], [0, 0, 0]),
    ([1, 1, 0, 1], [1, 1, 0, 0]),
    ([1, 0, 1, 1], [0, 0, 1, 1]),
    ([1, 0, 1], [1, 0, 0]),  # a tie
    ([1, 0, 1, 1, 0, 2, 0, 2, 2], [0, 0, 1, 1, 0, 0, 0, 2, 2]),  # each class for itself
    ([1, 2, 1], [1, 2, 0]),
    ([3, 0, 3, 3], [0, 0, 3, 3]),
]


@pytest.mark.parametrize(("label", "expected"), TABLE, ids=[str(label) for label, _ in TABLE])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.float32], ids=str)
def test_known_answers(label: list[int], expected: list[int], dtype: torch.dtype) -> None:
    result = LargestComponent()(torch.tensor([label], dtype=dtype))
    assert result.dtype == dtype
    assert result.tolist() == [expected]


def test_corners_do_not_connect() -> None:
    label = torch.tensor([[[1, 0, 0], [0, 1, 1], [0, 0, 0]]])
    assert LargestComponent()(label).tolist() == [[[0, 0, 0], [0, 1, 1], [0, 0, 0]]]


@pytest.mark.parametrize("shape", [(20, 18), (12, 11, 10)], ids=str)
def test_agrees_with_monai(shape: tuple[int, ...]) -> None:
    pytest.importorskip("skimage")
    rng = np.random.default_rng(0)
    for threshold in (0.5, 0.7):
        label = torch.from_numpy((rng.random((1, *shape)) > threshold) * rng.integers(1, 3, (1, *shape)))
        sizes = LargestComponent()(label)
        expected = KeepLargestConnectedComponent(is_onehot=False, connectivity=1)(label.clone())
        for value in (1, 2):  # of two parts of one size either may stay
            assert (sizes == value).sum() == (expected == value).sum() > 0


def test_the_input_is_not_changed_and_its_place_is_kept() -> None:
    label = MetaTensor(torch.tensor([[[[1, 0, 1, 1]]]]), affine=torch.diag(torch.tensor([2.0, 3.0, 4.0, 1.0])))
    data = {"pred": label, "other": 1}
    result = LargestComponentd("pred")(data)
    assert label.tolist() == [[[[1, 0, 1, 1]]]]
    assert result["pred"].tolist() == [[[[0, 0, 1, 1]]]]
    assert torch.equal(result["pred"].affine, label.affine)
    assert result["other"] == 1
    assert data["pred"] is label


def test_numpy_stays_numpy() -> None:
    assert isinstance(LargestComponent()(np.array([[1, 0, 1, 1]])), np.ndarray)


def test_a_missing_key_is_an_error_unless_allowed() -> None:
    with pytest.raises(KeyError):
        LargestComponentd("pred")({})
    assert LargestComponentd("pred", allow_missing_keys=True)({}) == {}
