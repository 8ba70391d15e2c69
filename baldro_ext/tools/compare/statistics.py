"""Values over seeds, and a method against its baseline, seed by seed."""

import math

import numpy as np
import pandas as pd
from scipy import stats

T_INTERVAL_FROM = 4
"""Fewest values for a 95% t interval of the mean; with fewer, the interval is that of the values themselves."""


def interval(values: pd.Series) -> tuple[float, float]:
    """Return the 95% t interval of the mean, or with fewer than `T_INTERVAL_FROM` values the smallest and largest.

    It is nan where a value is not finite.
    """
    if not np.isfinite(values).all():
        return math.nan, math.nan
    if len(values) < T_INTERVAL_FROM:
        return values.min(), values.max()
    half = stats.t.ppf(0.975, len(values) - 1) * values.sem()
    return values.mean() - half, values.mean() + half


def paired(gains: pd.Series) -> dict[str, float | str]:
    """Describe gains `(n,)` over a baseline, one per common seed, of which positive ones are better.

    Returns:
        pairs: Number of common seeds.
        gain, gain_low, gain_high: Mean and `interval`; nan without a seed, or where a value is not finite.
        better, worse: Number of seeds in which the method is better and worse.
        mark: `better` or `worse` in each of at least two seeds, in brackets on average; empty if equal or unknown.
    """
    better, worse = int((gains > 0).sum()), int((gains < 0).sum())
    gain = float(gains.mean()) if np.isfinite(gains).all() else math.nan
    low, high = interval(gains)
    word = "better" if gain > 0 else "worse" if gain < 0 else ""
    mark = word if len(gains) > 1 and max(better, worse) == len(gains) else f"({word})" if word else ""
    row: dict[str, float | str] = {"pairs": len(gains), "gain": gain, "gain_low": low, "gain_high": high}
    return row | {"better": better, "worse": worse, "mark": mark}
