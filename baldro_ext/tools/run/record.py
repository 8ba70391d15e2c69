"""`study.json`: what a comparison needs to know of one evaluated model, beside its evaluation.

An object with these keys. A value that does not apply or is not known is null.

    schema            1
    label             the method's, or the task where the model was not trained here ("before", the retain model's)
    trainer           configuration behind trainer=, or null
    seed              of the training, or null
    overrides         Hydra overrides by which the method differs from its trainer's defaults
    common            Hydra overrides that all trainings share
    evaluation        Hydra overrides that all evaluations share
    experiment        "unlearn/tofu", ...
    benchmark         how its result files begin: "TOFU", "MUSE" or "LMEval"
    split             what is forgotten: "forget10", ...
    model             folder or name of the model before unlearning; null is the experiment's own
    model_config      the framework's model configuration
    retain_logs       file with the retain model's evaluation, or null
    retain_sha256     of that file, 64 hex digits
    metrics           of the evaluation; empty is the benchmark's own
    lm_eval           tasks of lm-evaluation-harness
    folder            the model's, relative to the working folder
    commands          {"unlearn ...": command line, ...}, in their order, as typed in the working folder
    training_seconds  from the first step to the last, as the Trainer measures it; null where evaluations ran within
                      it or the model was not trained here
    processor_seconds of the whole training command, start and end included; it hardly depends on what else the machine
                      did, but says nothing of a GPU; null as above
    jobs              how many commands ran side by side, which training_seconds depends on
    versions          {"baldro-ext": ..., "transformers": ..., "torch": ..., "open-unlearning": commit}
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path

from baldro_ext.tools.commands import Runner
from baldro_ext.tools.git import git
from baldro_ext.tools.run.plan import Run, Study

SCHEMA = 1
FILE = "study.json"


@dataclass(frozen=True)
class Record:
    """The keys of `study.json`, but for `schema`."""

    label: str
    trainer: str | None
    seed: int | None
    overrides: tuple[str, ...]
    common: tuple[str, ...]
    evaluation: tuple[str, ...]
    experiment: str
    benchmark: str
    split: str
    model: str | None
    model_config: str
    retain_logs: str | None
    retain_sha256: str | None
    metrics: tuple[str, ...]
    lm_eval: tuple[str, ...]
    folder: str
    commands: Mapping[str, str]
    training_seconds: float | None
    processor_seconds: float | None
    jobs: int
    versions: Mapping[str, str]


def of(study: Study, run: Run, runner: Runner, jobs: int) -> Record:
    """Return the record of a run that has ended."""
    benchmark, folder, checkout = study.benchmark, runner.folder, runner.checkout
    training = None if study.every_epoch else run.training
    retain = study.retain_file
    return Record(
        label=run.method.label if run.method else run.task,
        trainer=run.method.trainer if run.method else None,
        seed=run.seed,
        overrides=run.method.overrides if run.method else (),
        common=study.common,
        evaluation=study.evaluation,
        experiment=study.experiment,
        benchmark=benchmark.name,
        split=study.split or benchmark.split,
        model=study.model,
        model_config=study.model_config or benchmark.model,
        retain_logs=retain,
        retain_sha256=_sha256(folder / retain) if retain else None,
        metrics=study.metrics,
        lm_eval=study.lm_eval,
        folder=run.model,
        commands={command.name: command.line(checkout) for command in run.commands},
        training_seconds=_training_seconds(folder / run.model) if training else None,
        processor_seconds=runner.processor_seconds(training) if training else None,
        jobs=jobs,
        versions=_versions(checkout),
    )


def write(record: Record, file: Path) -> None:
    """Write a record as JSON, replacing what is there."""
    file.write_text(json.dumps({"schema": SCHEMA, **asdict(record)}, indent=2) + "\n")


def _training_seconds(model: Path) -> float | None:
    state = model / "trainer_state.json"
    if not state.exists():
        return None
    history = json.loads(state.read_text())["log_history"]
    return next((float(entry["train_runtime"]) for entry in reversed(history) if "train_runtime" in entry), None)


def _sha256(file: Path) -> str | None:
    return hashlib.sha256(file.read_bytes()).hexdigest() if file.exists() else None


def _versions(checkout: Path) -> dict[str, str]:
    versions = {}
    for package in ("baldro-ext", "transformers", "torch"):
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:  # run from source, not installed
            continue
    head = git(checkout, "rev-parse", "--verify", "HEAD")
    return versions if head.returncode else {**versions, "open-unlearning": head.stdout.strip()}
