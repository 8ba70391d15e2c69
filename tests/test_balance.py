"""The balance of forgetting, against numpy."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from baldro_ext.balance import forget_balance


@given(st.lists(st.floats(0, 1), min_size=1, max_size=60), st.sampled_from([0.05, 0.1, 0.29, 0.5, 1.0]))
def test_mean_worst_share_largest_and_variation(values: list[float], share: float) -> None:
    found = forget_balance(dict(enumerate(values)), share)
    ascending = np.sort(values)
    worst = ascending[-max(1, int(np.floor(round(share * len(values), 6)))) :]
    np.testing.assert_allclose(found.mean, np.mean(values), rtol=1e-12, atol=1e-300)
    np.testing.assert_allclose(found.worst_mean, worst.mean(), rtol=1e-12, atol=1e-300)
    assert found.largest == ascending[-1]
    assert len(found.worst) == len(worst)
    assert np.array_equal(np.sort([values[i] for i in found.worst]), worst)
    if np.mean(values) > 1e-6:
        assert found.variation == pytest.approx(np.std(values) / np.mean(values), abs=1e-7)


def test_the_worst_are_named_worst_first() -> None:
    found = forget_balance({"a": 0.2, "b": 0.9, "c": 0.1, "d": 0.9}, worst_share=0.75)
    assert found.worst == ("b", "d", "a")


def test_the_default_is_the_worst_decile() -> None:
    assert forget_balance(dict(enumerate(range(400)))).worst_mean == np.mean(range(360, 400))


def test_even_forgetting_has_no_variation_and_nothing_left_has_none_to_state() -> None:
    assert forget_balance({0: 0.3, 1: 0.3}).variation == 0
    assert forget_balance({0: 0.0, 1: 0.0}).variation is None


@pytest.mark.parametrize(
    ("values", "share", "message"),
    [
        ({}, 0.1, "no samples"),
        ({0: 0.1}, 0.0, r"use a number in \(0, 1\]"),
        ({0: 0.1}, 1.5, r"use a number in \(0, 1\]"),
        ({0: 0.1, 7: float("nan")}, 0.1, r"samples \[7\] have no finite value"),
    ],
)
def test_what_has_no_balance_is_refused(values: dict[int, float], share: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        forget_balance(values, share)


def test_by_hand() -> None:
    found = forget_balance({"a": 0.1, "b": 0.9, "c": 0.2, "d": 0.7, "e": 0.1}, worst_share=0.4)
    assert found.mean == pytest.approx(0.4)
    assert found.worst_mean == pytest.approx(0.8)
    assert (found.largest, found.worst) == (0.9, ("b", "d"))
    assert found.variation == pytest.approx(math.sqrt((0.09 + 0.25 + 0.04 + 0.09 + 0.09) / 5) / 0.4)


@pytest.mark.parametrize(
    ("n", "share", "count"), [(400, 0.1, 40), (30, 0.1, 3), (100, 0.29, 29), (5, 0.1, 1), (7, 1.0, 7)]
)
def test_rounding_noise_decides_no_sample(n: int, share: float, count: int) -> None:
    assert len(forget_balance(dict(enumerate(range(n))), share).worst) == count
