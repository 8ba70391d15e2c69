"""Paired tests against formulas written differently: in mpmath, and by brute force."""

from __future__ import annotations

import itertools
import math
import statistics

import mpmath
import pandas as pd
import pytest

from baldro_ext.tools.compare.statistics import paired

SEVEN = [0.5, 0.4, 0.3, -0.2, 0.6, 0.1, 0.25]


@pytest.mark.parametrize("values", [[0.1, 0.2, 0.4], [-1.0, 2.0], SEVEN])
def test_paired_t_is_the_integral_of_students_density(values: list[float]) -> None:
    n = len(values)
    t = statistics.mean(values) / (statistics.stdev(values) / math.sqrt(n))
    expected = mpmath.betainc((n - 1) / 2, 0.5, 0, (n - 1) / (n - 1 + t * t), regularized=True)
    assert paired(pd.Series(values)).p_t == pytest.approx(float(expected), rel=1e-9)


def test_wilcoxon_is_the_share_of_signs_that_are_as_extreme() -> None:
    ranks = [sorted(map(abs, SEVEN)).index(abs(v)) + 1 for v in SEVEN]

    def distance(signs: tuple[bool, ...]) -> float:
        return abs(sum(rank for rank, sign in zip(ranks, signs, strict=True) if sign) - sum(ranks) / 2)

    seen = distance(tuple(v > 0 for v in SEVEN))
    signs = list(itertools.product((True, False), repeat=len(SEVEN)))
    expected = sum(distance(one) >= seen for one in signs) / len(signs)
    assert paired(pd.Series(SEVEN)).p_wilcoxon == pytest.approx(expected)


@pytest.mark.parametrize(("n", "tested"), [(5, False), (6, True)])
def test_wilcoxon_is_left_out_where_it_cannot_fall_below_one_in_twenty(n: int, tested: bool) -> None:
    result = paired(pd.Series([1.0 + 0.1 * seed for seed in range(n)]))
    assert (result.p_wilcoxon is not None) == tested == (2 / 2**n < 0.05)


@pytest.mark.parametrize(
    ("gains", "note"),
    [
        ([], "no common seed"),
        ([0.1], "one common seed"),
        ([0.0, 0.0], "equal differences"),
        ([0.1, 0.1, 0.1], "equal differences"),
        ([0.1, math.inf], "logarithm"),
        ([0.1, math.nan], "logarithm"),
    ],
)
def test_no_test_without_evidence(gains: list[float], note: str) -> None:
    result = paired(pd.Series(gains, dtype=float))
    assert (result.p_t, result.p_wilcoxon) == (None, None)
    assert note in result.note


def test_seeds_in_which_a_method_is_better_are_counted() -> None:
    result = paired(pd.Series({2: 0.3, 0: -0.1, 1: 0.2, 5: 0.0}))
    assert (result.pairs, result.better, result.worse, result.gain) == (4, 2, 1, pytest.approx(0.1))
