"""What is known of the framework's metrics."""

from __future__ import annotations

import math

import pytest

from baldro_ext.tools.compare.metrics import default_metrics, metric
from baldro_ext.tools.compare.numbers import mean_and_spread, number
from baldro_ext.tools.compare.statistics import Spread


@pytest.mark.parametrize(
    ("key", "better"),
    [
        ("forget_quality", "higher"),
        ("model_utility", "higher"),
        ("forget_Q_A_Prob", "lower"),
        ("forget_Q_A_Prob.worst", "lower"),
        ("extraction_strength.largest", "lower"),
        ("forget_verbmem_ROUGE", "lower"),
        ("retain_knowmem_ROUGE", "higher"),
        ("MUSE:extraction_strength", "lower"),
        ("privleak", "zero"),
        ("arc_easy/acc", "higher"),
        ("wikitext/word_perplexity", "lower"),
        # Even remembering is even, too; and of a metric that nobody knows nothing is said.
        ("forget_Q_A_Prob.variation", None),
        ("mia_min_k", None),
        ("something_new", None),
    ],
)
def test_better_direction(key: str, better: str | None) -> None:
    assert metric(key).better == better


@pytest.mark.parametrize(
    ("key", "value", "baseline", "gain"),
    [
        ("forget_Q_A_Prob", 0.2, 0.5, 0.3),
        ("model_utility", 0.2, 0.5, -0.3),
        ("privleak", -10.0, 40.0, 30.0),
        ("privleak", 60.0, -40.0, -20.0),
    ],
)
def test_a_gain_is_positive_where_the_method_is_better(key: str, value: float, baseline: float, gain: float) -> None:
    assert metric(key).gain(value, baseline) == pytest.approx(gain)


def test_only_forget_quality_is_compared_as_a_logarithm() -> None:
    assert metric("forget_quality").scaled(1e-100) == pytest.approx(-100)
    assert metric("forget_quality").scaled(0.0) == -math.inf
    assert metric("model_utility").scaled(0.5) == 0.5


def test_columns_come_in_one_order_and_general_abilities_last() -> None:
    known = {"mmlu/acc", "model_utility", "forget_Q_A_Prob", "forget_Q_A_Prob.worst", "mia_min_k", "forget_quality"}
    assert default_metrics(known) == [
        "forget_quality", "forget_Q_A_Prob", "forget_Q_A_Prob.worst", "model_utility", "mmlu/acc",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.12345, "0.123"),
        (0.99996, "1.00"),
        (-103.4, "-103"),
        (1e-112, "1.00e-112"),
        (0.0, "0"),
        (None, "-"),
        (-math.inf, "< -323"),
    ],
)
def test_numbers_have_three_significant_digits(value: float | None, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize(
    ("found", "expected", "text"),
    [
        (Spread(0.1119, 0.00812, 3), 3, "0.112 ± 0.008"),
        (Spread(0.355, 0.00009, 3), 3, "0.355 ± 0.00009"),
        (Spread(0.5, 0.0, 2), 2, "0.500 ± 0"),
        (Spread(0.5, None, 1), 3, "0.500 (1 of 3)"),
        (None, 3, "-"),
    ],
)
def test_a_spread_has_the_decimals_of_its_mean_and_says_what_is_missing(
    found: Spread, expected: int, text: str
) -> None:
    assert mean_and_spread(found, expected) == text
