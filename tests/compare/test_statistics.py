"""Statistics against formulas written differently: by hand, by brute force, in mpmath."""

from __future__ import annotations

import itertools
import math
import statistics

import mpmath
import pytest

from baldro_ext.tools.compare.statistics import paired, spread


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
