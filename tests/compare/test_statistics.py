"""Intervals and paired gains against formulas written differently."""

import math
import statistics
from typing import Any

import mpmath
import pandas as pd
import pytest

from baldro_ext.tools.compare.statistics import interval, paired


@pytest.mark.parametrize("values", [[0.1, 0.2, 0.4, 0.2], [0.5, 0.4, 0.3, -0.2, 0.6, 0.1, 0.25]])
def test_the_interval_holds_95_percent_of_students_density(values: list[float]) -> None:
    n, (low, high) = len(values), interval(pd.Series(values))
    assert (low + high) / 2 == pytest.approx(statistics.mean(values))
    t = (high - low) / 2 / (statistics.stdev(values) / math.sqrt(n))
    outside = mpmath.betainc((n - 1) / 2, 0.5, 0, (n - 1) / (n - 1 + t * t), regularized=True)
    assert float(outside) == pytest.approx(0.05, rel=1e-9)


@pytest.mark.parametrize(
    ("values", "ends"),
    [
        ([0.3, 0.1, 0.2], (0.1, 0.3)),
        ([0.3], (0.3, 0.3)),
        ([0.2] * 4, (0.2, 0.2)),
        ([], (math.nan, math.nan)),
        ([0.1, -math.inf], (math.nan, math.nan)),
    ],
)
def test_the_interval_of_few_values_is_their_own(values: list[float], ends: tuple[float, float]) -> None:
    assert interval(pd.Series(values, dtype=float)) == pytest.approx(ends, nan_ok=True)


@pytest.mark.parametrize(
    ("gains", "expected"),
    [
        ({}, {"pairs": 0, "gain": math.nan, "mark": ""}),
        ({0: 0.1}, {"pairs": 1, "gain": 0.1, "better": 1, "mark": "(better)"}),
        ({0: 0.0, 1: 0.0}, {"gain": 0.0, "better": 0, "worse": 0, "mark": ""}),
        ({0: -0.1, 1: -0.3}, {"gain": -0.2, "gain_low": -0.3, "gain_high": -0.1, "worse": 2, "mark": "worse"}),
        ({0: 0.1, 1: math.inf}, {"pairs": 2, "gain": math.nan, "better": 2, "mark": ""}),
        ({2: 0.3, 0: -0.1, 1: 0.2, 5: 0.0}, {"pairs": 4, "better": 2, "worse": 1, "gain": 0.1, "mark": "(better)"}),
    ],
)
def test_gains_are_counted_seed_by_seed(gains: dict[int, float], expected: dict[str, Any]) -> None:
    row = paired(pd.Series(gains, dtype=float))
    for key, value in expected.items():
        assert row[key] == (value if isinstance(value, str) else pytest.approx(value, nan_ok=True)), key
