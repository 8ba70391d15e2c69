"""Sweeps over the real train.py: Hydra's own, the paper's grid by submitit, Optuna's search."""

import json
from pathlib import Path
from typing import Any

import pytest

from baldro_ext.open_unlearning.sweep import FILE

from .conftest import TRAIN, Framework

pytestmark = pytest.mark.framework
SHORT = ("experiment=unlearn/tofu", "+trainer.args.max_steps=1", "trainer.args.per_device_train_batch_size=4")


def outcome(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / FILE).read_text())
    return content


def test_hydras_multirun_as_it_is(framework: Framework) -> None:
    framework.train("-m", "trainer=NPO,BalDRO_G", "trainer.args.seed=5,6", *SHORT, "~eval.tofu")
    for trainer in ("NPO", "BalDRO_G"):
        for seed in (5, 6):
            (run,) = framework.saved("").glob(f"tofu_forget10_*_{trainer}_seed-{seed}_*")
            assert (run / "model.safetensors").exists()


@pytest.mark.generations("G2")
def test_the_papers_grid_by_submitit_with_a_job_that_fails(framework: Framework) -> None:
    train = str(framework.checkout / "src" / "train.py")
    printed = framework.run(
        train,
        *("-m", "+sweep=paper", "hydra/launcher=submitit_local", "hydra.launcher.timeout_min=10"),
        *("trainer=BalDRO_DV", "grid.learning_rate=1e-4", "grid.batch=4", 'grid.beta="2,none"', "grid.lambda=0.5"),
        *SHORT[:2],
        "task_name=grid_${trainer.method_args.dv_beta}",
        *TRAIN,
        ok=False,
    )
    assert "dv_beta='none' is not a number" in printed
    done, failed = (outcome(framework.saved(f"grid_{beta}")) for beta in ("2", "none"))
    assert (done["status"], done["error"]) == ("done", None)
    assert failed["status"] == "failed"
    assert "dv_beta='none'" in failed["error"]
    assert (framework.saved("grid_2") / "model.safetensors").exists()
    assert not (framework.saved(".submitit") / "%j").exists(), "an empty folder beside the logs"


@pytest.mark.generations("G2")
def test_optuna_maximises_metrics_of_the_last_evaluation(framework: Framework) -> None:
    own = tuple(override for override in TRAIN if "eval_strategy" not in override)
    framework.train(
        *("-m", "+sweep=optuna", "hydra.sweeper.n_trials=2", "hydra.callbacks.baldro.objective=[-forget_Q_A_Prob]"),
        *("trainer=BalDRO_DV", "trainer.args.learning_rate=interval(1e-4,1e-2)"),
        *SHORT,
        "task_name=search_${trainer.args.learning_rate}",
        "trainer.args.eval_strategy=epoch",
        "eval/tofu_metrics@eval.tofu.tofu_metrics=[forget_Q_A_Prob]",
        common=own,
    )
    values = []
    for folder in framework.saved("").glob("search_*"):
        (summary,) = folder.glob("checkpoint-1/evals/TOFU_SUMMARY.json")
        value = outcome(folder)["value"]
        assert value == -json.loads(summary.read_text())["forget_Q_A_Prob"]
        values.append(value)
    assert len(values) == 2
    best = (framework.saved("") / "optimization_results.yaml").read_text()
    assert f"best_value: {max(values)}" in best
