"""Runs of the real framework, compared: what train.py and eval.py leave is what is read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from baldro_ext.tools.compare import Comparison, Options, compare, plots
from baldro_ext.tools.compare.plots.curves import curves
from baldro_ext.tools.compare.plots.weights import course, ranking
from tests.with_framework.conftest import MODEL, TRAIN, Framework

pytestmark = pytest.mark.framework

SLOW = ("forget_truth_ratio", "forget_quality", "forget_Q_A_ROUGE", "model_utility", "privleak")
NO_SLOW = tuple(f"~eval.tofu.metrics.{name}" for name in SLOW)
EVERY_EPOCH = (
    "trainer.args.eval_on_start=true",
    "trainer.args.eval_strategy=epoch",
    "trainer.args.num_train_epochs=2",
    "trainer.args.gradient_accumulation_steps=1",
)


@pytest.fixture(scope="module")
def trained(framework: Framework) -> list[Path]:
    """One command, two trainings with names of their own and Hydra's records below multirun."""
    framework.train("-m", "trainer=NPO,BalDRO_DV", "experiment=unlearn/tofu", *NO_SLOW, common=(*TRAIN, *EVERY_EPOCH))
    name = "tofu_forget10_Llama-3.2-1B-Instruct_{}_*num_train_epochs=2*"
    return [next((framework.folder / "saves/unlearn").glob(name.format(trainer))) for trainer in ("NPO", "BalDRO_DV")]


@pytest.fixture(scope="module")
def found(framework: Framework, trained: list[Path]) -> Comparison:
    # In Hydra's quotes, for the name holds an equals sign.
    model = Path(f"'{trained[1].relative_to(framework.folder)}'")
    framework.evaluate(model, "experiment=eval/tofu/default", "task_name=compared", *NO_SLOW)
    return compare([*map(str, trained)], Options())


def test_a_sweep_is_read_as_its_methods(found: Comparison, trained: list[Path]) -> None:
    assert [one.label for one in found.groups] == ["NPO", "BalDRO_DV"]
    assert [one.runs[0].place.training for one in found.groups] == trained
    for one in found.groups:
        (run,) = one.runs
        assert (run.seed, run.facts["model before unlearning"], run.facts["forget split"]) == (0, MODEL, "forget10")
        assert run.facts["evaluated split"] == "forget10"
        assert run.facts["retain logs"] == "none"
    assert found["BalDRO_DV"].base == "NPO"
    assert found.mixed == ()


def test_the_final_evaluation_is_that_of_eval_py_or_the_last_of_training(
    found: Comparison, framework: Framework
) -> None:
    assert found["NPO"].runs[0].source.endswith("at the end of training")
    own = framework.folder / "saves/eval/compared"
    assert found["BalDRO_DV"].runs[0].place.evaluation == own
    summary = json.loads((own / "TOFU_SUMMARY.json").read_text())
    assert found["BalDRO_DV"].runs[0].evaluation.aggregates == summary


def test_single_samples_are_followed_from_before_the_first_step(found: Comparison) -> None:
    for one in found.groups:
        x, values = curves(one.runs[0], "forget_Q_A_Prob")
        assert list(x) == [0.0, 1.0, 2.0]
        samples = one.runs[0].evaluation.samples["forget_Q_A_Prob"]
        assert values.shape == (3, len(samples.indices))
        assert samples.values.mean() == pytest.approx(one.runs[0].evaluation.aggregates["forget_Q_A_Prob"])


def test_weights_are_those_that_the_training_logged(found: Comparison) -> None:
    run = found["BalDRO_DV"].runs[0]
    assert len(course(run, "largest_weight")[0]) > 0
    assert [epoch for epoch, _ in ranking(run)] == [1.0, 2.0]
    assert {len(samples) for _, samples in ranking(run)} == {5}


def test_every_picture_has_its_data_but_forget_quality(found: Comparison) -> None:
    missing = {picture.name for picture in plots.draw(found) if picture.figure is None}
    # Both need evaluations that take minutes, model_utility and a retain model.
    assert missing == {"remainder_and_utility", "forget_quality_and_utility"}
