"""What must be equal before numbers are put side by side: split, model, retain logs."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from baldro_ext.tools.compare.evaluations import Evaluation
from baldro_ext.tools.compare.places import Place, working_folder
from baldro_ext.tools.compare.records import Record

if TYPE_CHECKING:
    from baldro_ext.tools.compare.collect import Run

NONE = "none"
Facts = Mapping[str, str | None]
"""What is known of a run by name: `None` is not known, `none` is known to be absent."""

_OF_TRAINING = {
    "forget split": ("forget_split", "data_split"),
    "retain split": ("retain_split",),
}
_OF_EVALUATION = {
    "evaluated split": ("eval.tofu.forget_split", "eval.muse.data_split"),
    "holdout split": ("eval.tofu.holdout_split",),
    "question key": ("eval.tofu.question_key",),
}


@dataclass(frozen=True)
class Difference:
    """One fact in which runs differ.

    Attributes:
        name: The fact.
        values: Each value with the runs that have it.
    """

    name: str
    values: tuple[tuple[str, tuple[str, ...]], ...]

    def __str__(self) -> str:
        return f"{self.name}: " + "; ".join(f"{value} in {', '.join(runs)}" for value, runs in self.values)


def facts_of(
    place: Place,
    training: Record | None,
    evaluating: Record | None,
    study: Mapping[str, Any],
    evaluation: Evaluation,
) -> dict[str, str | None]:
    """Return what is known of a run, from Hydra's record first and `study.json` where that is missing."""
    facts: dict[str, str | None] = {"benchmark": "+".join(evaluation.benchmarks) or None}
    facts["model before unlearning"] = model_of(training) or study.get("model")
    for name, keys in _OF_TRAINING.items():
        facts[name] = _first(training, keys)
    facts["forget split"] = facts["forget split"] or study.get("split")
    # Without an evaluation of its own, the training's is the one that counts.
    for name, keys in _OF_EVALUATION.items():
        facts[name] = _first(evaluating or training, keys)
    facts["retain logs"] = _retain_logs(place, evaluating or training, evaluation, study)
    return facts


def differences(runs: Iterable[Run]) -> list[Difference]:
    """Return the facts in which the runs differ; a run of which a fact is not known differs from none in it."""
    runs = list(runs)
    found = []
    for name in dict.fromkeys(name for run in runs for name in run.facts):
        values: dict[str, list[str]] = {}
        for run in runs:
            value = run.facts.get(name)
            if value is not None:
                values.setdefault(value, []).append(run.name)
        if len(values) > 1:
            found.append(Difference(name, tuple((value, tuple(names)) for value, names in values.items())))
    return found + _different_samples(runs)


def unknown(runs: Iterable[Run]) -> list[str]:
    """Return, in words, which runs could not be checked, and for what."""
    lines: dict[tuple[str, ...], list[str]] = {}
    for run in runs:
        missing = tuple(name for name in ("model before unlearning", "evaluated split") if run.facts.get(name) is None)
        if run.facts.get("retain logs") is None:
            missing = (*missing, "retain logs")
        if missing:
            lines.setdefault(missing, []).append(run.name)
    return [f"not known of {', '.join(names)}: {', '.join(missing)}" for missing, names in lines.items()]


def _different_samples(runs: list[Run]) -> list[Difference]:
    found = []
    for key in dict.fromkeys(key for run in runs for key in run.evaluation.samples):
        sets: dict[tuple[str, ...], list[str]] = {}
        for run in runs:
            if key in run.evaluation.samples:
                sets.setdefault(run.evaluation.samples[key].indices, []).append(run.name)
        if len(sets) > 1:
            shown = tuple((f"{len(ids)} ({ids[0]} to {ids[-1]})", tuple(names)) for ids, names in sets.items())
            found.append(Difference(f"samples of {key}", shown))
    return found


def model_of(record: Record | None) -> str | None:
    """Return the name of the model that a command loaded; a path below its working folder relative to that."""
    name = _first(record, ("model.model_args.pretrained_model_name_or_path",))
    if name and record and record.folder and Path(name).is_relative_to(record.folder):
        return str(Path(name).relative_to(record.folder))
    return name


def versions(runs: Iterable[Run]) -> list[str]:
    """Return, in words, which packages ran in several versions: no reason to refuse, but to know."""
    values: dict[str, dict[str, None]] = {}
    for run in runs:
        for name, version in run.versions.items():
            values.setdefault(name, {})[version] = None
    return [f"runs of different versions: {name} {', '.join(many)}" for name, many in values.items() if len(many) > 1]


def _first(record: Record | None, keys: tuple[str, ...]) -> str | None:
    return next((value for key in keys if record and (value := record.get(key)) is not None), None)


def _retain_logs(place: Place, record: Record | None, evaluation: Evaluation, study: Mapping[str, Any]) -> str | None:
    benchmark = evaluation.benchmarks[0] if evaluation.benchmarks else "TOFU"
    written = record.retain_logs(benchmark) if record else study.get("retain_logs")
    if written is None:
        return NONE if record or "retain_logs" in study else None
    folder = place.evaluation or place.training or Path()
    for start in filter(None, (working_folder(folder), record.folder if record else None)):
        if (start / written).is_file():
            content = hashlib.sha256((start / written).read_bytes()).hexdigest()
            return f"{Path(written).name} of {Path(written).parent.name} (sha256 {content[:12]})"
    if record and record.looks_for_retain_logs and "forget_quality" not in evaluation.aggregates:
        return NONE
    return f"{written} (no longer there)"
