"""What is known about the framework's metrics."""

import math

import pytest

from baldro_ext.open_unlearning.registration import config_directory
from baldro_ext.tools.compare.metrics import default_metrics, metric


@pytest.mark.parametrize(
    ("key", "better"),
    [
        ("forget_quality", "higher"),
        ("forget_Q_A_Prob", "lower"),
        ("forget_Q_A_Prob.worst", "lower"),
        ("retain_knowmem_ROUGE", "higher"),
        ("privleak", "zero"),
        ("arc_easy/acc", "higher"),
        ("gsm8k/exact_match", "higher"),
        ("wmdp_cyber/acc", "lower"),
        ("wmdp/acc_norm", "lower"),
        ("wikitext/word_perplexity", "lower"),
        ("something_new", ""),
    ],
)
def test_better_direction(key: str, better: str) -> None:
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
def test_a_positive_gain_is_better(key: str, value: float, baseline: float, gain: float) -> None:
    assert metric(key).gain(value, baseline) == pytest.approx(gain)


def test_only_forget_quality_is_compared_as_a_logarithm() -> None:
    assert metric("forget_quality").scaled(1e-100) == pytest.approx(-100)
    assert metric("forget_quality").scaled(0.0) == -math.inf
    assert math.isnan(metric("forget_quality").scaled(math.nan))
    assert metric("model_utility").scaled(0.5) == 0.5


OURS = sorted({file.stem for file in config_directory().glob("eval/*_metrics/*.yaml")})


def test_each_metric_of_this_package_has_a_direction_and_attacks_are_shown() -> None:
    assert {key: metric(key).better for key in OURS} == dict.fromkeys(OURS, "lower")
    attacks = {f"{key}.worst" for key in OURS if not key.endswith("_balance")}
    assert attacks
    assert set(default_metrics(attacks)) == attacks


def test_columns_have_one_order_and_general_abilities_come_last() -> None:
    known = {
        "mmlu/acc",
        "gsm8k/exact_match",
        "model_utility",
        "forget_Q_A_Prob",
        "forget_Q_A_Prob.worst",
        "mia_min_k",
        "forget_quality",
    }
    assert default_metrics(known) == [
        "forget_quality", "forget_Q_A_Prob", "forget_Q_A_Prob.worst", "model_utility",
        "gsm8k/exact_match", "mmlu/acc",
    ]  # fmt: skip
