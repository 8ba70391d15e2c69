"""Sweeps by Hydra: the objective, what became of each job, and which results are never replaced.

The Hydra application is a small one, whose main function does at once what the framework's takes minutes for.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from baldro_ext.open_unlearning.registration import config_directory
from baldro_ext.open_unlearning.sweep import FILE, Outcome, SweepError, last_summary

ROOT = Path(__file__).parents[1]
APPLICATION = """
import json, hydra
from pathlib import Path

@hydra.main(version_base=None, config_path=".", config_name="config")
def main(cfg):
    with open("calls", "a") as calls:
        print(cfg.x, file=calls)
    evaluation = Path(cfg.paths.output_dir, "checkpoint-3", "evals")
    evaluation.mkdir(parents=True, exist_ok=True)
    (evaluation / "TOFU_SUMMARY.json").write_text(json.dumps({"model_utility": cfg.x, "forget_Q_A_Prob": 0.25}))
    if cfg.x > 8:
        raise ValueError("more than 8")

main()
"""
CONFIG = """
defaults: [sweep: jobs, _self_]
x: 1
y: 0
task_name: x=${{x}}
trainer: {{handler: NPO}}
paths: {{output_dir: "saves/unlearn/${{task_name}}"}}
hydra:
  searchpath: [file://{configs}]
  job_logging:
    handlers: {{file: {{filename: "${{hydra.runtime.output_dir}}/${{trainer.handler}}.log"}}}}
  callbacks:
    baldro: {{objective: [model_utility, -2*forget_Q_A_Prob]}}
"""


@pytest.fixture
def application(tmp_path: Path) -> Path:
    (tmp_path / "app.py").write_text(APPLICATION)
    (tmp_path / "config.yaml").write_text(CONFIG.format(configs=config_directory()))
    return tmp_path


def sweep(folder: Path, *overrides: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "app.py", "-m", *overrides]
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": path}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


def calls(folder: Path) -> list[str]:
    return (folder / "calls").read_text().split()


def read(folder: Path, task: str) -> Any:
    return json.loads((folder / "saves/unlearn" / task / FILE).read_text())


def test_a_job_that_fails_loses_no_other(application: Path) -> None:
    done = sweep(application, "x=1,9,2")
    assert done.returncode == 1
    assert calls(application) == ["1", "9", "2"]
    (log,) = re.findall(r"x=9 failed, see (\S+)", (application / "saves/unlearn/x=9/NPO.log").read_text())
    assert Path(log) == application / "saves/unlearn/x=9/NPO.log"
    assert "ValueError: more than 8" in done.stderr


def test_what_became_of_a_job_is_noted_beside_its_model(application: Path) -> None:
    sweep(application, "x=2,9")
    assert read(application, "x=2") == {"status": "done", "overrides": ["x=2"], "value": 1.5, "error": None}
    failed = {"status": "failed", "overrides": ["x=9"], "value": None, "error": "ValueError: more than 8"}
    assert read(application, "x=9") == failed


def test_the_result_of_other_settings_is_not_replaced(application: Path) -> None:
    sweep(application, "x=2")
    folder = application / "saves/unlearn/x=2"
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    refused = sweep(application, "x=2,3", "y=5")
    assert refused.returncode == 1
    assert "saves/unlearn/x=2 holds the result of other settings, x=2" in refused.stderr
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    assert calls(application) == ["2"]
    assert sweep(application, "x=2").returncode == 0, "the very same settings may run again"


def test_an_objective_that_was_not_evaluated_names_what_was(application: Path) -> None:
    failed = sweep(application, "x=1", "hydra.callbacks.baldro.objective=[extraction]")
    assert failed.returncode == 1
    assert "asks for 'extraction', which was not evaluated: there are forget_Q_A_Prob, model_utility" in failed.stderr
    assert read(application, "x=1")["status"] == "failed"


def test_optuna_finds_the_largest_objective(application: Path) -> None:
    tpe = ("hydra/sweeper=optuna", "hydra.sweeper.sampler.seed=0", "hydra.sweeper.direction=maximize")
    size = ("hydra.sweeper.n_trials=12", "hydra.sweeper.n_jobs=2", "hydra.sweeper.max_failure_rate=1.0")
    storage = ("hydra.sweeper.study_name=s", "hydra.sweeper.storage=sqlite:///trials.db")
    done = sweep(application, *tpe, *size, *storage, "x=choice(1,2,3,9)")
    assert done.returncode == 0, done.stderr
    result = (application / "saves/unlearn/optimization_results.yaml").read_text()
    assert "best_value: 2.5" in result
    assert "x: 3" in result


@pytest.mark.parametrize(
    ("term", "weights"),
    [
        ("model_utility", {"model_utility": 1.0}),
        ("-privleak", {"privleak": -1.0}),
        ("0.5*arc_easy/acc", {"arc_easy/acc": 0.5}),
        ("-1e-2*privleak", {"privleak": -0.01}),
    ],
)
def test_a_term_of_an_objective_is_a_metric_and_its_weight(term: str, weights: dict[str, float]) -> None:
    assert Outcome([term]).objective == weights


@pytest.mark.parametrize("term", ["", "0.5", "a-b", "a*b", "--a"])
def test_what_is_no_term_is_answered_with_one(term: str) -> None:
    with pytest.raises(SweepError, match=r"as in -0\.5\*model_utility"):
        Outcome([term])


def test_the_last_evaluation_counts_of_all_benchmarks(tmp_path: Path) -> None:
    for step, benchmark, value in ((9, "TOFU", 1.0), (10, "TOFU", 2.0), (10, "LMEval", 3.0)):
        place = tmp_path / f"checkpoint-{step}" / "evals"
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{benchmark}_SUMMARY.json").write_text(json.dumps({benchmark: value}))
    assert last_summary(tmp_path) == {"TOFU": 2.0, "LMEval": 3.0}


def test_without_an_evaluation_there_is_nothing_to_optimise(tmp_path: Path) -> None:
    with pytest.raises(SweepError, match=r"eval_strategy=epoch"):
        last_summary(tmp_path)
