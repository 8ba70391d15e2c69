"""Everything that is known of one run, read from what the framework left behind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from baldro_ext.tools.compare.comparability import Facts, facts_of, model_of
from baldro_ext.tools.compare.errors import BrokenFileError
from baldro_ext.tools.compare.evaluations import Evaluation, checkpoint_step, is_evaluation, read_evaluation
from baldro_ext.tools.compare.places import Place
from baldro_ext.tools.compare.records import Record, read_json

# Without influence on what a run learns, or told apart otherwise.
_SILENT = ("seed", "output_dir", "logging_", "report_to", "eval_", "do_eval", "save_", "use_cpu", "per_device_eval_")


@dataclass(frozen=True)
class Checkpoint:
    """The evaluation of one moment of a training.

    Attributes:
        step: Optimizer steps.
        epoch: Passes over the forget set; `None` if the training's log does not say.
        evaluation: Of the model at that step.
    """

    step: int
    epoch: float | None
    evaluation: Evaluation


@dataclass(frozen=True)
class Run:
    """One run.

    Attributes:
        place: Its folders.
        label: Given by `study.json`, or `None`.
        trainer: The word behind `trainer=`, or `None`.
        base: The forget loss inside a BalDRO trainer; `None` for others.
        seed: Of the training, or `None`.
        evaluated: Name or path of the evaluated model, if its evaluation noted that.
        evaluation: Of the model at the end.
        source: Where that evaluation is from.
        checkpoints: By step.
        log: Entries of the training's log with numbers, by step.
        facts: What must be equal to compare.
        settings: What was chosen of `trainer`, flat, without what leaves the result alone.
        commands: As typed in the working folder.
        seconds: Training time, if known.
        versions: Of what ran, by name, if known.
        gaps: What is missing, in words.
    """

    place: Place
    label: str | None
    trainer: str | None
    base: str | None
    seed: int | None
    evaluated: str | None
    evaluation: Evaluation
    source: str
    checkpoints: tuple[Checkpoint, ...]
    log: tuple[Mapping[str, Any], ...]
    facts: Facts
    settings: Mapping[str, str]
    commands: tuple[str, ...]
    seconds: float | None
    versions: Mapping[str, str]
    gaps: tuple[str, ...] = field(default=())

    @property
    def name(self) -> str:
        """How messages call it: the folder by which one finds it."""
        return "/".join((self.place.training or self.place.evaluation or Path()).parts[-2:])


def read_run(place: Place) -> Run:
    """Return what is known of a run.

    Raises:
        BrokenFileError: One of its files cannot be read.
    """
    training = Record.of(place.training) if place.training else None
    evaluating = Record.of(place.evaluation) if place.evaluation else None
    study = _study(place)
    state = _state(place.training)
    log = tuple(entry for entry in state.get("log_history", ()) if isinstance(entry, dict))
    checkpoints = _checkpoints(place.training, log)
    evaluation, source, gaps = _final(place, state, checkpoints)
    if training is None and place.training is not None and not study:
        gaps = (*gaps, f"no record of its settings (.hydra/config.yaml) in {place.training}: seed and model unknown")
    return Run(
        place=place,
        label=study.get("label"),
        trainer=study.get("trainer") or (training.trainer if training else None),
        base=training.get("trainer.method_args.base") if training else None,
        seed=_seed(study, training),
        evaluated=model_of(evaluating),
        evaluation=evaluation,
        source=source,
        checkpoints=checkpoints,
        log=log,
        facts=facts_of(place, training, evaluating, study, evaluation),
        settings=_settings(training),
        commands=tuple((study.get("commands") or {}).values()) or _commands(training, evaluating),
        seconds=study.get("training_seconds"),
        versions=study.get("versions") or {},
        gaps=gaps,
    )


def _commands(*records: Record | None) -> tuple[str, ...]:
    return tuple(record.command for record in records if record and record.command)


def _study(place: Place) -> Mapping[str, Any]:
    """Return what `baldro run` noted of the run; empty for a run of one's own."""
    path = place.evaluation / "study.json" if place.evaluation else None
    return read_json(path) if path and path.is_file() else {}


def _state(training: Path | None) -> Mapping[str, Any]:
    path = training / "trainer_state.json" if training else None
    return read_json(path) if path and path.is_file() else {}


def _seed(study: Mapping[str, Any], training: Record | None) -> int | None:
    found = study.get("seed", training.get("trainer.args.seed") if training else None)
    try:
        return None if found is None else int(found)
    except (TypeError, ValueError):
        raise BrokenFileError(f"the seed {found!r} is no whole number: leave this run out") from None


def _checkpoints(training: Path | None, log: tuple[Mapping[str, Any], ...]) -> tuple[Checkpoint, ...]:
    if training is None:
        return ()
    epochs = {int(entry["step"]): float(entry["epoch"]) for entry in log if {"step", "epoch"} <= entry.keys()}
    found = []
    for folder in training.glob("checkpoint-*/evals"):
        step = checkpoint_step(folder.parent)
        if step is not None and is_evaluation(folder):
            found.append(Checkpoint(step, 0.0 if step == 0 else epochs.get(step), read_evaluation(folder)))
    return tuple(sorted(found, key=lambda checkpoint: checkpoint.step))


def _final(
    place: Place, state: Mapping[str, Any], checkpoints: tuple[Checkpoint, ...]
) -> tuple[Evaluation, str, tuple[str, ...]]:
    """Return the evaluation of the finished model, where it is from, and what is missing."""
    if place.evaluation is not None:
        return read_evaluation(place.evaluation), str(place.evaluation), ()
    training = place.training or Path()
    if not state:
        return Evaluation(training), "-", (f"{training} has no trainer_state.json: its training has not finished",)
    if checkpoints and checkpoints[-1].step == state.get("global_step"):
        last = checkpoints[-1]
        return last.evaluation, f"{last.evaluation.folder}, at the end of training", ()
    return Evaluation(training), "-", (f"no evaluation of the model in {training}: run src/eval.py on it",)


def _settings(training: Record | None) -> dict[str, str]:
    if training is None:
        return {}
    node = OmegaConf.to_container(training.config, resolve=False)
    trainer = node.get("trainer") if isinstance(node, dict) else None
    flat = _flat(trainer or {})
    return {
        key: value
        for key, value in flat.items()
        if not (key.startswith("args.") and key.removeprefix("args.").startswith(_SILENT))
    }


def _flat(node: Mapping[Any, Any], prefix: str = "") -> dict[str, str]:
    found: dict[str, str] = {}
    for key, value in node.items():
        found |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": str(value)}
    return found
