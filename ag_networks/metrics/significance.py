"""Paired comparison of two methods on the same cases."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.stats import bootstrap, false_discovery_control, rankdata, wilcoxon

__all__ = ["PairedComparison", "compare_paired", "compare_with_baseline"]


@dataclass(frozen=True, kw_only=True)
class PairedComparison:
    """Result of comparing a candidate with a baseline, case by case.

    Args:
        cases: number of pairs.
        mean_candidate: mean score of the candidate.
        mean_baseline: mean score of the baseline.
        difference: mean of candidate minus baseline.
        ci_low: lower end of the 95 % confidence interval of ``difference``.
        ci_high: upper end of it.
        p_value: two-sided Wilcoxon signed-rank test.
        p_adjusted: ``p_value`` after control of the false discovery rate over all comparisons made together.
        effect_size: matched-pairs rank-biserial correlation in [-1, 1]; 1: the candidate's score is larger every time.
    """

    cases: int
    mean_candidate: float
    mean_baseline: float
    difference: float
    ci_low: float
    ci_high: float
    p_value: float
    p_adjusted: float
    effect_size: float


def compare_paired(
    candidate: Mapping[str, float], baseline: Mapping[str, float], *, seed: int = 0, resamples: int = 9999
) -> PairedComparison:
    r"""Compare two columns of per-case scores, such as ``CaseTable.column`` gives them.

    The effect size is :math:`(W_+ - W_-) / (W_+ + W_-)` with :math:`W_\pm` the sums of the ranks of the positive and
    the negative differences (Kerby 2014, doi 10.2466/11.IT.3.1). Ties of candidate and baseline are left out of it and
    of the test. The confidence interval is a bias-corrected bootstrap (BCa) over the cases' differences, which keeps
    the pairs together; it is the difference itself when all cases differ by the same amount.

    Args:
        candidate: score by case name.
        baseline: score by case name, of the same cases; their order does not matter.
        seed: seed of the bootstrap.
        resamples: number of bootstrap samples.

    Raises:
        ValueError: if the case names do not match, fewer than two cases are given, or a score is not finite.

    Example:
        >>> result = compare_paired({"a": 0.8, "b": 0.9, "c": 0.7}, {"c": 0.6, "b": 0.7, "a": 0.5})
        >>> result.cases, round(result.difference, 2), result.effect_size, result.p_value
        (3, 0.2, 1.0, 0.25)
    """
    first, second = _aligned(candidate, baseline)
    differences = first - second
    low, high = _confidence_interval(differences, seed, resamples)
    p_value, effect_size = _signed_rank(differences)
    return PairedComparison(
        cases=len(differences),
        mean_candidate=float(first.mean()),
        mean_baseline=float(second.mean()),
        difference=float(differences.mean()),
        ci_low=low,
        ci_high=high,
        p_value=p_value,
        p_adjusted=p_value,
        effect_size=effect_size,
    )


def compare_with_baseline(
    candidates: Mapping[str, Mapping[str, float]],
    baseline: Mapping[str, float],
    *,
    seed: int = 0,
    resamples: int = 9999,
) -> dict[str, PairedComparison]:
    """Compare several candidates with one baseline and adjust the p-values (Benjamini and Hochberg).

    Args:
        candidates: score by case name, by the candidate's name.
        baseline: score by case name.
        seed: seed of the bootstrap.
        resamples: number of bootstrap samples.

    Raises:
        ValueError: as :func:`compare_paired`, naming the candidate; or if there is no candidate.
    """
    if not candidates:
        raise ValueError("there is no candidate to compare with the baseline")
    results = {}
    for name, column in candidates.items():
        try:
            results[name] = compare_paired(column, baseline, seed=seed, resamples=resamples)
        except ValueError as error:
            raise ValueError(f"candidate {name!r}: {error}") from error
    adjusted = false_discovery_control([result.p_value for result in results.values()])
    return {
        name: replace(result, p_adjusted=float(p)) for (name, result), p in zip(results.items(), adjusted, strict=True)
    }


def _aligned(
    candidate: Mapping[str, float], baseline: Mapping[str, float]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    for here, there, name in ((candidate, baseline, "baseline"), (baseline, candidate, "candidate")):
        missing = sorted(set(here) - set(there))
        if missing:
            shown = ", ".join(missing[:5]) + (f" and {len(missing) - 5} more" if len(missing) > 5 else "")
            raise ValueError(f"a paired comparison needs the same cases: the {name} lacks {shown}")
    if len(candidate) < 2:
        raise ValueError(f"a paired comparison needs at least two cases, got {len(candidate)}")
    cases = sorted(candidate)
    bad = [case for case in cases if not (math.isfinite(candidate[case]) and math.isfinite(baseline[case]))]
    if bad:
        raise ValueError(f"the score of case {bad[0]} is not a finite number")
    return np.array([candidate[case] for case in cases]), np.array([baseline[case] for case in cases])


def _confidence_interval(differences: NDArray[np.float64], seed: int, resamples: int) -> tuple[float, float]:
    if np.allclose(differences, differences[0], rtol=0, atol=1e-12):
        # The bootstrap distribution is a single point, for which BCa is not defined.
        return float(differences.mean()), float(differences.mean())
    interval = bootstrap(
        (differences,), np.mean, n_resamples=resamples, method="BCa", rng=np.random.default_rng(seed)
    ).confidence_interval
    return float(interval.low), float(interval.high)


def _signed_rank(differences: NDArray[np.float64]) -> tuple[float, float]:
    # Subtraction leaves rounding behind, which the ranks would take for differences: 0.8 - 0.7 is not 0.7 - 0.6.
    rounded = np.round(differences, 12)
    changed = rounded[rounded != 0]
    if not changed.size:
        return 1.0, 0.0
    ranks = rankdata(np.abs(changed))
    positive, negative = ranks[changed > 0].sum(), ranks[changed < 0].sum()
    return float(wilcoxon(changed).pvalue), float((positive - negative) / (positive + negative))
