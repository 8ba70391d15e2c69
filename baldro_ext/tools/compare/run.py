"""One run: its settings, its evaluations, and the facts that decide what it can be compared with."""

from __future__ import annotations

import os
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from baldro_ext.open_unlearning.resolvers import chosen_name
from baldro_ext.tools.compare.discover import working_folder
from baldro_ext.tools.compare.errors import BrokenFileError
from baldro_ext.tools.compare.evaluations import Evaluation, checkpoint_step, is_evaluation, read_evaluation
from baldro_ext.tools.compare.hydra_record import HydraRecord, read_record
from baldro_ext.tools.compare.reading import is_number, mapping, printable, read_json, sequence, text
from baldro_ext.tools.files import sha256


@dataclass(frozen=True)
class RunResult:
    """What is known about one run; `None` where it is unknown."""

    training: Path | None  # its folder
    evaluation: Evaluation  # of the final model; empty if there is none
    unfinished: str  # why there is none
    checkpoints: dict[float, Evaluation]  # evaluations during training, by epoch
    label: str | None  # method name in study.json
    trainer: str | None  # name given as `trainer=`, or else its class
    seed: int | None  # of the training
    learning_rate: float | None
    model: str | None  # name or path of the evaluated model
    facts: dict[str, str | None]  # by name, what must be equal to compare runs
    settings: dict[str, str]  # the trainer's, by dotted key, without what does not change the trained model
    overridden: frozenset[str]  # those that were set on the command line
    commands: tuple[str, ...]  # as typed in the working folder
    versions: dict[str, str]  # by package

    @property
    def folder(self) -> Path:
        """The folder that stands for the run: of the training, or else of the evaluation."""
        return self.training or self.evaluation.folder

    @property
    def name(self) -> str:
        """The end of that folder's path, such as `unlearn/NPO`."""
        return printable("/".join(self.folder.parts[-2:]))


def read_run(training: Path | None, evaluated: Path | None) -> RunResult:
    """Read a run, by its folders, from what `src/train.py`, `src/eval.py` and `baldro run` wrote.

    Raises:
        BrokenFileError: A file holds something else, or the seed is not a whole number.
        OSError: A file cannot be read.
    """
    record, evaluating = read_record(training), read_record(evaluated)
    folder = training or evaluated or Path()
    study = read_json((evaluated or folder) / "study.json")
    evaluation, unfinished, checkpoints = _evaluations(folder, evaluated)
    settings = _flat(mapping(record.config.get("trainer")))
    # save_pretrained notes the version in a model's config.json.
    noted = read_json(folder / "config.json").get("transformers_version")
    versions = {"transformers": noted} | mapping(study.get("versions"))
    seed = record.get("trainer.args.seed") if study.get("seed") is None else study["seed"]
    trainer = text(study.get("trainer")) or record.get("hydra.runtime.choices.trainer", "trainer.handler")
    return RunResult(
        training=training,
        evaluation=evaluation,
        unfinished=unfinished,
        checkpoints=checkpoints,
        label=text(study.get("label")),
        trainer=trainer,
        seed=_whole(seed, folder),
        learning_rate=_learning_rate(settings, study),
        model=evaluating.model,
        facts=_facts(record, evaluating, study, evaluation, working_folder(evaluated or folder)),
        settings=settings,
        overridden=frozenset(it.lstrip("+~").partition("=")[0].removeprefix("trainer.") for it in record.overrides),
        commands=tuple(it.command for it in (record, evaluating) if it.command),
        versions={printable(name): printable(version) for name, version in versions.items() if version is not None},
    )


def _evaluations(folder: Path, evaluated: Path | None) -> tuple[Evaluation, str, dict[float, Evaluation]]:
    """Return the evaluation of the final model, why there is none, and those during training by epoch."""
    state, epochs = read_json(folder / "trainer_state.json"), {0: 0.0}
    for entry in map(mapping, sequence(state.get("log_history"))):
        if is_number(step := entry.get("step")) and is_number(epoch := entry.get("epoch")):
            epochs[int(step)] = float(epoch)
    places = {checkpoint_step(it): it / "evals" for it in folder.glob("checkpoint-*")}
    steps = sorted(step for step, place in places.items() if step is not None and is_evaluation(place))
    during = {step: read_evaluation(places[step]) for step in steps}
    by_epoch = {epochs[step]: it for step, it in during.items() if step in epochs}
    if evaluated is not None:
        return read_evaluation(evaluated), "", by_epoch
    last = state.get("global_step")
    if isinstance(last, int) and last in during:
        return during[last], "", by_epoch
    reason = "its model is not evaluated: run src/eval.py on it" if state else "its training has not finished"
    return Evaluation(folder), reason, by_epoch


def _flat(node: Mapping[Any, Any], prefix: str = "") -> dict[str, str]:
    """Return a trainer's configuration by dotted key, without what does not change the trained model or its name."""
    flat: dict[str, str] = {}
    for key, value in node.items():
        name = printable(f"{prefix}{key}")
        if isinstance(value, dict):
            flat |= _flat(value, f"{name}.")
        elif name not in ("args.seed", "args.use_cpu") and chosen_name(overrides=[f"trainer.{name}=x"]):
            whole = isinstance(value, float) and value.is_integer() and abs(value) < 1e15
            flat[name] = "null" if value is None else printable(int(value) if whole else value)
    return flat


def _whole(seed: Any, folder: Path) -> int | None:
    try:
        return None if seed is None else int(np.int64(str(seed)))
    except (ValueError, OverflowError):
        told = f"{folder}: the seed {reprlib.repr(seed)} is not a whole number of 64 bits: leave this run out"
        raise BrokenFileError(told) from None


def _learning_rate(settings: Mapping[str, str], study: Mapping[str, Any]) -> float | None:
    """Return the rate of the settings, or where they are gone the one among the overrides of `study.json`."""
    typed = [str(it).lstrip("+") for key in ("common", "overrides") for it in sequence(study.get(key))]
    values = [it.partition("=")[2] for it in typed if it.startswith("trainer.args.learning_rate=")]
    try:
        return float(settings.get("args.learning_rate") or values[-1])
    except (IndexError, ValueError):
        return None


def _facts(
    record: HydraRecord, evaluating: HydraRecord, study: Mapping[str, Any], final: Evaluation, here: Path
) -> dict[str, str | None]:
    """Return the facts from Hydra's records; some are in `study.json` too, which is there without the training."""
    evaluating = evaluating if evaluating.config else record  # a training without a separate evaluation evaluates, too
    before, tasks = record.model, sequence(study.get("lm_eval"))
    if before and record.get("mode") == "relearn":  # what was relearned had been unlearned
        before = read_record(here / before).model
    return {
        "benchmark": final.benchmark or None,
        "model before unlearning": before or text(study.get("model")),
        "forget split": record.get("forget_split", "data_split") or text(study.get("split")),
        "retain split": record.get("retain_split"),
        "evaluated split": evaluating.get("eval.tofu.forget_split", "eval.muse.data_split"),
        "holdout split": evaluating.get("eval.tofu.holdout_split"),
        "question key": evaluating.get("eval.tofu.question_key"),
        "retain logs": _retain_logs(evaluating, final, here) if evaluating.config else None,
        "lm-eval tasks": evaluating.get("eval.lm_eval.tasks") or (printable(tasks) if tasks else None),
    }


def _retain_logs(evaluating: HydraRecord, final: Evaluation, here: Path) -> str:
    """Return the retain model's evaluation by name and content."""
    written = evaluating.retain_logs(final.benchmark or "TOFU")
    starts = (here, evaluating.working_folder)
    file = next((start / written for start in starts if written and start and os.path.isfile(start / written)), None)
    if file is None:
        return f"{written} (no longer there)" if written and "forget_quality" in final.aggregates else "none"
    return f"{file.name} of {file.parent.name} (sha256 {sha256(file.read_bytes())[:12]})"
