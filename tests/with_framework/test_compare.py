"""Runs of the real framework, compared as its train.py and eval.py leave them."""

import json
from pathlib import Path

import pytest

from baldro_ext.tools.compare import Comparison, compare
from baldro_ext.tools.compare.report import draw
from tests.with_framework.conftest import MODEL, TRAIN, Framework

pytestmark = [pytest.mark.framework, pytest.mark.generations("G2")]

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
    """One command, two trainings with names and records of their own."""
    sweep = ("-m", "+sweep=jobs", "trainer=NPO,BalDRO_DV", "experiment=unlearn/tofu")
    framework.train(*sweep, *NO_SLOW, common=(*TRAIN, *EVERY_EPOCH))
    name = "tofu_forget10_Llama-3.2-1B-Instruct_{}_*num_train_epochs-2*"
    return [next((framework.folder / "saves/unlearn").glob(name.format(trainer))) for trainer in ("NPO", "BalDRO_DV")]


@pytest.fixture(scope="module")
def comparison(framework: Framework, trained: list[Path]) -> Comparison:
    # In Hydra's quotes, because the name holds an equals sign.
    model = Path(f"'{trained[1].relative_to(framework.folder)}'")
    framework.evaluate(model, "experiment=eval/tofu/default", "task_name=compared", *NO_SLOW)
    return compare(trained)


def test_a_sweep_is_read_as_its_methods(comparison: Comparison, trained: list[Path]) -> None:
    assert [method.label for method in comparison.methods] == ["NPO", "BalDRO_DV"]
    assert [run.training for run in comparison.runs] == trained
    for run in comparison.runs:
        assert (run.seed, run.facts["model before unlearning"], run.facts["forget split"]) == (0, MODEL, "forget10")
        assert (run.facts["evaluated split"], run.facts["retain logs"]) == ("forget10", "none")
    assert comparison["BalDRO_DV"].base == "NPO"
    assert not comparison.warnings


def test_the_final_evaluation_is_that_of_eval_py_or_the_last_of_training(
    comparison: Comparison, framework: Framework
) -> None:
    own = framework.folder / "saves/eval/compared"
    assert comparison["NPO"].runs[0].evaluation.folder.parent.name.startswith("checkpoint-")
    assert comparison["BalDRO_DV"].runs[0].evaluation.folder == own
    summary = json.loads((own / "TOFU_SUMMARY.json").read_text())
    assert comparison["BalDRO_DV"].runs[0].evaluation.aggregates == summary


def test_single_samples_are_known_from_before_the_first_step(comparison: Comparison) -> None:
    for run in comparison.runs:
        assert list(run.checkpoints) == [0.0, 1.0, 2.0]
        for evaluation in (run.evaluation, *run.checkpoints.values()):
            samples = evaluation.samples["forget_Q_A_Prob"]
            assert samples.mean() == pytest.approx(evaluation.aggregates["forget_Q_A_Prob"])


def test_every_picture_has_its_data_but_the_one_with_utility(comparison: Comparison) -> None:
    # Utility takes minutes to evaluate.
    assert {picture.name for picture in draw(comparison) if picture.missing} == {"trade_off"}
