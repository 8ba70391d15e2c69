"""Statistics against formulas written differently: by hand, by brute force, in mpmath."""

from __future__ import annotations

import itertools
import math
import statistics
from fractions import Fraction

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from baldro_ext.compare.statistics import balance, paired, spread


def test_balance_by_hand() -> None:
    found = balance(np.array([0.1, 0.9, 0.2, 0.7, 0.1]), worst_share=0.4)
    assert found.mean == pytest.approx(0.4)
    assert found.worst == pytest.approx(0.8)
    assert (found.largest, found.worst_indices) == (0.9, (1, 3))
    assert found.variation == pytest.approx(math.sqrt((0.09 + 0.25 + 0.04 + 0.09 + 0.09) / 5) / 0.4)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=60), st.fractions(Fraction(1, 50), 1))
def test_the_worst_are_the_largest_whole_samples_of_the_share(values: list[float], share: Fraction) -> None:
    count = max(1, math.floor(share * len(values)))
    found = balance(np.array(values), float(share))
    assert len(found.worst_indices) == count
    assert found.worst == pytest.approx(math.fsum(sorted(values, reverse=True)[:count]) / count)


@pytest.mark.parametrize(
    ("n", "share", "count"), [(400, 0.1, 40), (30, 0.1, 3), (100, 0.29, 29), (5, 0.1, 1), (7, 1.0, 7)]
)
def test_rounding_noise_decides_no_sample(n: int, share: float, count: int) -> None:
    assert len(balance(np.arange(n, dtype=float), share).worst_indices) == count


def test_equal_values_are_taken_in_order_and_a_mean_of_zero_has_no_variation() -> None:
    found = balance(np.zeros(4), 0.5)
    assert found.worst_indices == (0, 1)
    assert math.isnan(found.variation)


@pytest.mark.parametrize("share", [0.0, -0.1, 1.1])
def test_a_share_that_is_none_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match="use one in"):
        balance(np.ones(3), share)


@pytest.mark.parametrize("values", [[], [math.nan], [[1.0]]])
def test_values_that_are_no_numbers_are_refused(values: list[float]) -> None:
    with pytest.raises(ValueError, match="one finite number per sample"):
        balance(np.array(values, dtype=np.float64), 0.1)


def test_spread_is_that_of_a_sample() -> None:
    values = [0.2, 0.5, 0.8, 0.4]
    found = spread(values)
    assert found is not None
    assert (found.mean, found.deviation) == pytest.approx((statistics.mean(values), statistics.stdev(values)))


def test_spread_of_few_values() -> None:
    assert spread([]) is None
    one = spread([0.3])
    assert one is not None
    assert (one.mean, one.deviation, one.n) == (0.3, None, 1)


def test_a_p_value_written_as_zero_bounds_the_mean_and_has_no_spread() -> None:
    found = spread([-3.0, -math.inf])
    assert found is not None
    assert (found.mean, found.deviation) == (-math.inf, None)


@pytest.mark.parametrize("values", [[0.1, 0.2, 0.4], [-1.0, 2.0], [0.5, 0.4, 0.3, -0.2, 0.6, 0.1, 0.25]])
def test_paired_t_is_the_integral_of_students_density(values: list[float]) -> None:
    n = len(values)
    t = statistics.mean(values) / (statistics.stdev(values) / math.sqrt(n))
    expected = mpmath.betainc((n - 1) / 2, 0.5, 0, (n - 1) / (n - 1 + t * t), regularized=True)
    assert paired(dict(enumerate(values))).t_p == pytest.approx(float(expected), rel=1e-9)


def test_wilcoxon_is_the_share_of_signs_that_are_as_extreme() -> None:
    values = [0.5, 0.4, 0.3, -0.2, 0.6, 0.1, 0.25]
    ranks = [sorted(map(abs, values)).index(abs(v)) + 1 for v in values]
    total = sum(ranks)

    def distance(signs: tuple[bool, ...]) -> float:
        return abs(sum(rank for rank, sign in zip(ranks, signs, strict=True) if sign) - total / 2)

    seen = distance(tuple(v > 0 for v in values))
    signs = list(itertools.product((True, False), repeat=len(values)))
    expected = sum(distance(one) >= seen for one in signs) / len(signs)
    assert paired(dict(enumerate(values))).wilcoxon_p == pytest.approx(expected)


@pytest.mark.parametrize(("n", "tested"), [(5, False), (6, True)])
def test_wilcoxon_is_left_out_where_it_could_not_fall_below_one_in_twenty(n: int, tested: bool) -> None:
    found = paired({seed: 1.0 + 0.1 * seed for seed in range(n)})
    assert (found.wilcoxon_p is not None) == tested
    assert (2 / 2**n < 0.05) == tested


@pytest.mark.parametrize(
    ("gains", "note"),
    [
        ({}, "no seed in common"),
        ({3: 0.1}, "one seed in common: no test"),
        ({0: 0.0, 1: 0.0}, "no difference in any seed"),
        ({0: 0.1, 1: 0.1, 2: 0.1}, "the same difference in every seed: no test"),
        ({0: 0.1, 1: math.inf}, "some values are 0 and have no logarithm"),
    ],
)
def test_no_test_without_evidence(gains: dict[int, float], note: str) -> None:
    found = paired(gains)
    assert (found.t_p, found.wilcoxon_p, found.note) == (None, None, note)


def test_seeds_in_which_a_method_is_better_are_counted() -> None:
    found = paired({2: 0.3, 0: -0.1, 1: 0.2, 5: 0.0})
    assert (found.seeds, found.better, found.worse, found.gain) == ((0, 1, 2, 5), 2, 1, pytest.approx(0.1))
