"""Numbers of a comparison: how evenly samples were forgotten, spread over seeds, and differences between methods."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Values = NDArray[np.float64]
WILCOXON_FROM = 6
"""Pairs from which on Wilcoxon's test can fall below 0.05 at all: with n pairs its smallest p-value is 2 / 2^n."""


@dataclass(frozen=True)
class Spread:
    """Mean and sample standard deviation (n - 1) over seeds.

    Attributes:
        mean: -inf where a logarithm of 0 is among the values.
        deviation: `None` for fewer than two values, or where the mean is not finite.
        n: Number of values.
    """

    mean: float
    deviation: float | None
    n: int


def spread(values: list[float]) -> Spread | None:
    """Return mean and spread; `None` of nothing."""
    if not values:
        return None
    mean = math.fsum(values) / len(values) if all(map(math.isfinite, values)) else min(values)
    measurable = len(values) > 1 and math.isfinite(mean)
    return Spread(mean, float(np.std(values, ddof=1)) if measurable else None, len(values))


@dataclass(frozen=True)
class Paired:
    """A method against its baseline, seed by seed.

    Attributes:
        seeds: The seeds that both have.
        gain: Mean gain, positive = better; `None` without a common seed or where it is not finite.
        better: Number of seeds in which the method is better.
        worse: And in which it is worse.
        t_p: Two-sided p-value of the paired t-test, if it says something.
        wilcoxon_p: Of Wilcoxon's signed-rank test, likewise.
        note: Why a test is missing, or what to keep in mind; empty if nothing.
    """

    seeds: tuple[int, ...]
    gain: float | None
    better: int
    worse: int
    t_p: float | None
    wilcoxon_p: float | None
    note: str


def paired(gains: dict[int, float]) -> Paired:
    """Test whether gains by seed differ from zero.

    The t-test supposes normal differences, which few pairs cannot show; Wilcoxon's supposes only symmetry, but
    needs `WILCOXON_FROM` pairs. Neither is given where it would be arithmetic without evidence.
    """
    seeds = tuple(sorted(gains))
    values = np.array([gains[seed] for seed in seeds], dtype=np.float64)
    better, worse = int((values > 0).sum()), int((values < 0).sum())
    if len(values) == 0:
        return Paired(seeds, None, 0, 0, None, None, "no seed in common")
    if not np.isfinite(values).all():
        return Paired(seeds, None, better, worse, None, None, "some values are 0 and have no logarithm")
    gain = float(values.mean())
    if len(values) == 1:
        return Paired(seeds, gain, better, worse, None, None, "one seed in common: no test")
    if not values.any():
        return Paired(seeds, gain, better, worse, None, None, "no difference in any seed")
    if np.ptp(values) <= 1e-12 * max(1.0, float(np.abs(values).max())):
        return Paired(seeds, gain, better, worse, None, None, "the same difference in every seed: no test")
    t_p = float(stats.ttest_1samp(values, 0.0).pvalue)
    if len(values) < WILCOXON_FROM:
        return Paired(seeds, gain, better, worse, t_p, None, "")
    return Paired(seeds, gain, better, worse, t_p, float(stats.wilcoxon(values).pvalue), "")
