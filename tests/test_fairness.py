"""Which trainers are said to grow with the accumulation steps."""

import pytest
from transformers import Trainer

from baldro_ext import BalDROTrainer
from baldro_ext.open_unlearning.accumulation import averaged
from baldro_ext.tools.fairness import unfair_accumulation


@pytest.mark.parametrize("version", ["4.46.0", "4.51.3", "4.52.4"])
def test_a_trainer_that_adds_up_is_named_with_steps_version_and_remedy(version: str) -> None:
    told = unfair_accumulation("NPO", 4, version) or ""
    for words in ("NPO multiplies", "gradient_accumulation_steps=4", version, "gradient_accumulation_steps=1"):
        assert words in told


@pytest.mark.parametrize("version", [None, "", "main"])
def test_without_a_version_it_may(version: str | None) -> None:
    assert "NPO may multiply" in (unfair_accumulation("NPO", 4, version) or "")


@pytest.mark.parametrize(
    ("handler", "steps", "version"),
    [
        ("NPO", 1, "4.51.3"),
        ("NPO", 1, None),
        ("NPO", 4, "4.45.1"),
        ("NPO", 4, "4.53.0"),
        ("NPO", 4, "5.5.4"),
        ("BalDRO_DV", 4, "4.51.3"),
        ("FinetuneTrainer", 4, "4.51.3"),
    ],
)
def test_the_others_are_fair(handler: str, steps: int, version: str | None) -> None:
    assert unfair_accumulation(handler, steps, version) is None


def test_a_trainer_that_averages_by_itself_stays_as_it_is() -> None:
    assert averaged(BalDROTrainer) is BalDROTrainer
    assert averaged(Trainer).__name__ == "Trainer"
    assert averaged(Trainer) is not Trainer
    once = averaged(Trainer)  # as after the first job of a multirun
    assert averaged(once) is once
