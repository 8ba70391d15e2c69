"""Sweeps over the real train.py: Hydra's own, the paper's grid by submitit, Optuna's search, a SLURM launcher."""

from __future__ import annotations

import json

import pytest

from baldro_ext.open_unlearning.sweep import Job

from .conftest import TRAIN, Framework

pytestmark = pytest.mark.framework
SHORT = ("experiment=unlearn/tofu", "+trainer.args.max_steps=1", "trainer.args.per_device_train_batch_size=4")


def test_hydras_multirun_as_it_is(framework: Framework) -> None:
    framework.train("-m", "trainer=NPO,BalDRO_G", "trainer.args.seed=5,6", *SHORT, "~eval.tofu")
    for trainer in ("NPO", "BalDRO_G"):
        for seed in (5, 6):
            (run,) = framework.saved("").glob(f"tofu_forget10_*_{trainer}_seed-{seed}_*")
            assert (run / "model.safetensors").exists()


def test_the_papers_grid_by_submitit_with_a_job_that_fails(framework: Framework) -> None:
    command = (
        *("-m", "+sweep=paper", "hydra/launcher=unfinished_local", "hydra.launcher.inner.timeout_min=10"),
        *("trainer=BalDRO_DV", "grid.learning_rate=1e-4", "grid.batch=4", 'grid.beta="2,none"', "grid.lambda=0.5"),
        *SHORT[:2],
        "task_name=grid_${trainer.method_args.dv_beta}",
        "~eval.tofu",
        *TRAIN,
    )
    train = str(framework.checkout / "src" / "train.py")
    printed = framework.run(train, *command, ok=False)
    assert "1 of 2 jobs failed; the same command tries them again:" in printed
    assert "dv_beta='none' is no number" in printed
    jobs = [Job.read(framework.saved(f"grid_{beta}")) for beta in ("2", "none")]
    assert [job and job.status for job in jobs] == ["done", "failed"]
    again = framework.run(train, *command, ok=False)
    assert "1 of 2 jobs are done and not run again." in again
    assert "1 of 1 jobs failed" in again


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
        job = Job.read(folder)
        assert job is not None
        (summary,) = folder.glob("checkpoint-1/evals/TOFU_SUMMARY.json")
        assert job.value == -json.loads(summary.read_text())["forget_Q_A_Prob"]
        values.append(job.value)
    assert len(values) == 2
    best = (framework.saved("") / "optimization_results.yaml").read_text()
    assert f"best_value: {max(values)}" in best


def test_the_slurm_launcher_asks_for_a_gpu(framework: Framework) -> None:
    train = str(framework.checkout / "src" / "train.py")
    chosen = ("+sweep=paper", "hydra/launcher=unfinished_slurm", "hydra.launcher.inner.partition=long")
    composed = framework.run(train, *chosen, "experiment=unlearn/tofu", "--cfg", "hydra", "-p", "hydra.launcher")
    for line in ("partition: long", "gpus_per_node: 1", "SlurmLauncher", "UnfinishedLauncher"):
        assert line in composed
