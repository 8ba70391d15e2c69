"""`study.json`: how one model was made and evaluated, beside its evaluation; what `baldro compare` reads."""

import json
from pathlib import Path
from typing import Any

import yaml

from baldro_ext.tools.commands import Runner
from baldro_ext.tools.files import replace, sha256
from baldro_ext.tools.framework import installed
from baldro_ext.tools.git import head
from baldro_ext.tools.run.study import Run, Study


def file(run: Run, runner: Runner) -> Path:
    """Return where the record of a run is."""
    return runner.folder / "saves" / "eval" / run.task / "study.json"


def write(study: Study, run: Run, runner: Runner) -> None:
    """Write the record of a run that has ended; a value that does not apply or is not known is null."""
    logs = runner.folder / (study.retain_file or "")
    versions = {name: installed(name) for name in ("baldro-ext", "transformers", "torch")}
    versions["open-unlearning"] = head(runner.checkout)
    record = {
        "schema": 1,
        "label": run.method.label if run.method else run.task,
        "trainer": run.method.trainer if run.method else None,
        "seed": run.seed,
        "overrides": run.method.overrides if run.method else (),  # beyond the trainer's defaults
        "settings": _settings(runner.folder / run.unlearned) if run.unlearned else None,  # the trainer's, defaults too
        "common": study.common,  # overrides of all trainings
        "evaluation": study.evaluation,  # overrides of all evaluations
        "experiment": study.experiment,
        "benchmark": study.benchmark.files,  # how the result files begin
        "split": study.chosen_split,
        "model": study.model,  # before unlearning; null is the experiment's own
        "model_config": study.model_config or study.benchmark.model,
        "retain_logs": study.retain_file,
        "retain_sha256": sha256(logs.read_bytes()) if logs.is_file() else None,
        "metrics": study.metrics,  # empty is the benchmark's own
        "lm_eval": study.lm_eval,
        "relearn": study.relearn,  # learning rate of the relearning that follows, or that made this model
        "folder": run.model,
        "commands": {command.name: command.line(runner.checkout) for command in run.commands},
        # As the Trainer measures it; null where evaluations ran within it, or the model was not trained here.
        "training_seconds": None if study.every_epoch or not run.training else _seconds(runner.folder / run.model),
        "jobs": runner.jobs,  # how many commands ran at a time, on which training_seconds depends
        "versions": {name: version for name, version in versions.items() if version},
    }
    replace(file(run, runner), json.dumps(record, indent=2).encode() + b"\n")


def _settings(unlearned: Path) -> Any:
    """Return what Hydra recorded below `trainer`; null where the training has been deleted."""
    config = unlearned / ".hydra" / "config.yaml"
    return yaml.safe_load(config.read_text())["trainer"] if config.exists() else None


def _seconds(model: Path) -> float | None:
    state = model / "trainer_state.json"
    history = json.loads(state.read_text())["log_history"] if state.exists() else []
    return next((float(entry["train_runtime"]) for entry in reversed(history) if "train_runtime" in entry), None)
