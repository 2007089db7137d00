"""Mean probability of what was chosen."""

import math

import pytest
import torch

from ag_networks.transforms import MeanConfidence, MeanConfidenced


def test_known_answers() -> None:
    # two voxels for class 1 with probabilities 0.8 and 0.6, one for class 2 with 0.5, none for class 3
    probabilities = torch.tensor(
        [[0.1, 0.2, 0.3, 0.9], [0.8, 0.6, 0.1, 0.05], [0.05, 0.1, 0.5, 0.03], [0.05, 0.1, 0.1, 0.02]]
    )
    means = MeanConfidence()(probabilities.log() + 3)
    assert means[:2] == pytest.approx([0.7, 0.5])
    assert math.isnan(means[2])
    assert len(means) == 3


def test_the_dictionary_keeps_the_logits() -> None:
    logits = torch.randn(2, 4, 5, 6)
    result = MeanConfidenced("pred")({"pred": logits, "other": 1})
    assert result["pred"] is logits
    softmax = logits.softmax(dim=0)
    assert result["confidence"] == pytest.approx([float(softmax[1][softmax[1] > 0.5].mean())])
    assert MeanConfidenced("pred", name="sure", allow_missing_keys=True)({}) == {}
