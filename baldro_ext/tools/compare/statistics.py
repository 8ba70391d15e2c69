"""Paired tests of a method against its baseline, seed by seed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

WILCOXON_FROM = 6
"""Fewest pairs for Wilcoxon's test: with n pairs its smallest p-value is 2 / 2^n, which is below 0.05 from 6 on."""


T_INTERVAL_FROM = 4
"""Fewest values for a 95% t interval of the mean; with fewer, the interval is that of the values themselves."""


@dataclass(frozen=True)
class Paired:
    """A method against its baseline.

    Attributes:
        pairs: Number of seeds that both have.
        gain: Mean gain, positive is better; `None` without a common seed or where a value is not finite.
        better: Number of seeds in which the method is better.
        worse: Number of seeds in which it is worse.
        p_t: Two-sided p-value of the paired t-test, where it is meaningful.
        p_wilcoxon: The same for Wilcoxon's signed-rank test.
        note: Why there is no test; empty if there is one.
    """

    pairs: int
    gain: float | None = None
    better: int = 0
    worse: int = 0
    p_t: float | None = None
    p_wilcoxon: float | None = None
    note: str = ""

    @property
    def mark(self) -> str:
        """`better` or `worse` in each of at least two seeds, in brackets on average; empty if equal or unknown."""
        if not self.gain:
            return ""
        word = "better" if self.gain > 0 else "worse"
        return word if self.pairs > 1 and max(self.better, self.worse) == self.pairs else f"({word})"


def interval(values: pd.Series) -> tuple[float, float]:
    """Return the 95% t interval of the mean, or with fewer than `T_INTERVAL_FROM` values the smallest and largest."""
    if len(values) < T_INTERVAL_FROM:
        return values.min(), values.max()
    half = stats.t.ppf(0.975, len(values) - 1) * values.sem()
    return values.mean() - half, values.mean() + half


def paired(gains: pd.Series) -> Paired:
    """Test whether gains `(n,)`, one per seed, differ from zero.

    The t-test assumes normally distributed differences; Wilcoxon's test assumes only symmetry, but needs
    `WILCOXON_FROM` pairs.
    """
    n, values = len(gains), gains.to_numpy(dtype=float)
    better, worse = int((values > 0).sum()), int((values < 0).sum())
    if n == 0:
        return Paired(0, note="no common seed")
    if not np.isfinite(values).all():
        return Paired(n, None, better, worse, note="a value is 0 and has no logarithm")
    gain = float(values.mean())
    if n == 1:
        return Paired(n, gain, better, worse, note="one common seed: no test")
    # Equal differences have no spread to test against; their last digits differ by rounding.
    if np.ptp(values) <= 1e-12 * max(1.0, float(np.abs(values).max())):
        return Paired(n, gain, better, worse, note="equal differences: no test")
    p_wilcoxon = float(stats.wilcoxon(values).pvalue) if n >= WILCOXON_FROM else None
    return Paired(n, gain, better, worse, float(stats.ttest_1samp(values, 0.0).pvalue), p_wilcoxon)
