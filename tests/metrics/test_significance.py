"""Paired comparisons against enumerated tests and known answers."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from ag_networks.metrics import compare_paired, compare_with_baseline


def column(values: list[float]) -> dict[str, float]:
    return {f"case_{number:03d}": value for number, value in enumerate(values)}


def enumerated_p_value(differences: list[float]) -> float:
    """Two-sided signed-rank test over all 2^n signs, for differences without ties or zeros."""
    ranks = np.argsort(np.argsort(np.abs(differences))) + 1
    observed = ranks[np.array(differences) > 0].sum()
    sums = np.array([ranks[list(signs)].sum() for signs in product([False, True], repeat=len(ranks))])
    return float(min(1.0, 2 * min((sums >= observed).mean(), (sums <= observed).mean())))


@pytest.mark.parametrize(
    "differences",
    [[0.1, 0.2, 0.3, 0.4, 0.5], [0.1, -0.2, 0.3, 0.4, -0.05, 0.6, 0.7], [-0.3, -0.1, 0.2, -0.4]],
    ids=["all better", "mixed", "mostly worse"],
)
def test_p_value_and_effect_size(differences: list[float]) -> None:
    baseline = [0.3 + 0.01 * number for number in range(len(differences))]
    result = compare_paired(column([b + d for b, d in zip(baseline, differences, strict=True)]), column(baseline))
    assert result.p_value == pytest.approx(enumerated_p_value(differences))
    order = sorted(differences, key=abs)
    balance = sum(rank * np.sign(difference) for rank, difference in enumerate(order, start=1))
    assert result.effect_size == pytest.approx(balance / (len(order) * (len(order) + 1) / 2))
    assert result.difference == pytest.approx(np.mean(differences))
    assert result.mean_candidate - result.mean_baseline == pytest.approx(result.difference)


def test_rounding_does_not_break_ties() -> None:
    """0.8 - 0.7 and 0.7 - 0.8 differ in size only by rounding: both get the mean rank."""
    result = compare_paired(column([0.8, 0.7, 0.3]), column([0.7, 0.8 - 1e-17, 0.1 + 0.2]))
    assert result.effect_size == 0


def test_equal_columns_do_not_differ() -> None:
    result = compare_paired(column([0.1, 0.5, 0.9]), column([0.1, 0.5, 0.9]))
    assert (result.difference, result.ci_low, result.ci_high, result.effect_size, result.p_value) == (0, 0, 0, 0, 1)


def test_constant_difference_has_itself_as_interval() -> None:
    result = compare_paired(column([0.3, 0.5, 0.9]), column([0.1, 0.3, 0.7]))
    assert (result.ci_low, result.ci_high) == pytest.approx((0.2, 0.2))


def test_exchange_changes_all_signs() -> None:
    rng = np.random.default_rng(0)
    first, second = column(list(rng.random(20))), column(list(rng.random(20)))
    there, back = compare_paired(first, second, resamples=2000), compare_paired(second, first, resamples=2000)
    assert there.effect_size == pytest.approx(-back.effect_size)
    assert there.p_value == pytest.approx(back.p_value)
    assert (there.ci_low, there.ci_high) == pytest.approx((-back.ci_high, -back.ci_low), abs=0.03)


def test_interval_is_that_of_a_mean_of_pairs() -> None:
    """The cases vary far more than the differences: only a paired interval is this narrow."""
    rng = np.random.default_rng(1)
    cases, noise = rng.normal(size=300), rng.normal(0.02, 0.05, size=300)
    result = compare_paired(column(list(cases + noise)), column(list(cases)), resamples=2000)
    half = 1.96 * noise.std(ddof=1) / np.sqrt(300)
    assert (result.ci_low, result.ci_high) == pytest.approx((noise.mean() - half, noise.mean() + half), abs=half / 5)


def test_seed_repeats_the_interval_and_order_does_not_matter() -> None:
    rng = np.random.default_rng(2)
    first, second = column(list(rng.random(9))), column(list(rng.random(9)))
    shuffled = dict(reversed(first.items()))
    assert compare_paired(first, second, resamples=500) == compare_paired(shuffled, second, resamples=500)
    assert compare_paired(first, second, resamples=500, seed=1) != compare_paired(first, second, resamples=500)


@pytest.mark.parametrize("cases", [2, 3, 4])
def test_few_cases_still_have_an_interval(cases: int) -> None:
    result = compare_paired(column([0.5, 0.7, 0.4, 0.9][:cases]), column([0.4, 0.3, 0.5, 0.1][:cases]), resamples=500)
    assert result.ci_low <= result.difference <= result.ci_high


def test_false_discovery_rate_is_controlled_over_all_comparisons() -> None:
    rng = np.random.default_rng(3)
    baseline = rng.random(12)
    shifts = {"none": 0.0, "small": 0.05, "large": 0.5}
    columns = {name: column(list(baseline + shift + 0.1 * rng.normal(size=12))) for name, shift in shifts.items()}
    results = compare_with_baseline(columns, column(list(baseline)), resamples=200)
    ordered = sorted(results.values(), key=lambda result: result.p_value)
    for rank, result in enumerate(ordered, start=1):
        later = [min(1.0, other.p_value * 3 / place) for place, other in enumerate(ordered, start=1) if place >= rank]
        assert result.p_adjusted == pytest.approx(min(later))
    assert results["large"].p_adjusted < 0.01
    assert list(results) == list(shifts)


@pytest.mark.parametrize(
    ("candidate", "baseline", "message"),
    [
        pytest.param({"a": 1.0, "b": 2.0}, {"a": 1.0}, "the baseline lacks b", id="baseline lacks"),
        pytest.param({"a": 1.0}, {"a": 1.0, "b": 2.0}, "the candidate lacks b", id="candidate lacks"),
        pytest.param(column([1.0] * 9), {}, "lacks case_000, .* and 4 more", id="many"),
        pytest.param({"a": 1.0}, {"a": 1.0}, "at least two cases, got 1", id="one case"),
        pytest.param({}, {}, "at least two cases, got 0", id="no case"),
        pytest.param({"a": 1.0, "b": np.nan}, {"a": 1.0, "b": 1.0}, "case b is not a finite", id="NaN"),
    ],
)
def test_unpaired_input_is_refused(candidate: dict[str, float], baseline: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        compare_paired(candidate, baseline)
    with pytest.raises(ValueError, match=f"candidate 'gated': .*{message}"):
        compare_with_baseline({"gated": candidate}, baseline)


def test_no_candidate_is_refused() -> None:
    with pytest.raises(ValueError, match="no candidate"):
        compare_with_baseline({}, column([0.1, 0.2]))
