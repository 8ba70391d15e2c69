"""One run: its settings, its evaluations, and the facts that decide what it can be compared with."""

from __future__ import annotations

import re
import reprlib
import shlex
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from baldro_ext.errors import BaldroError
from baldro_ext.open_unlearning.resolvers import chosen_name
from baldro_ext.tools.compare.discover import MODEL, located
from baldro_ext.tools.compare.evaluations import Evaluation, checkpoint_step, is_evaluation, read_evaluation
from baldro_ext.tools.compare.records import is_number, lookup, mapping, printable, read_config, read_json, sequence
from baldro_ext.tools.files import sha256

_RETAIN_LOGS = re.compile(r"\$\{baldro\.retain_logs:(\w+),\$\{(\w+)\}\}")


@dataclass(frozen=True)
class RetainLogs:
    """The retain model's evaluation, which may be in several places."""

    digest: str  # SHA-256
    name: str = field(compare=False)

    def __str__(self) -> str:
        return f"{self.name} (sha256 {self.digest[:12]})"


class RecordedRun:
    """What `src/train.py`, `src/eval.py` and `baldro run` wrote about one run; `None` where something is unknown."""

    def __init__(self, training: Path | None, evaluated: Path | None) -> None:
        self.training = training
        self.folder = training or evaluated or Path()  # the one that stands for the run
        self.name = printable("/".join(self.folder.parts[-2:]))  # such as unlearn/NPO
        self.evaluation = Evaluation(self.folder)  # of the final model
        self.unfinished = ""  # why there is none
        self.checkpoints: dict[float, Evaluation] = {}  # evaluations during training, by epoch
        self._read_evaluations(evaluated)
        trained, evaluating = read_config(training), read_config(evaluated)
        study = read_json((evaluated or self.folder) / "study.json")
        folder = str(study.get("folder"))  # of the model, which may have been deleted
        self.is_relearned = lookup(trained, "mode") == "relearn" or folder.startswith("saves/relearn/")
        unlearning, before = trained, lookup(trained, MODEL)
        if self.is_relearned and before:  # what counts is how it had been unlearned
            unlearning = read_config(located(before, self.folder, trained))
            before = lookup(unlearning, MODEL)
        self.label = study.get("label") and printable(study["label"])  # given by baldro run
        trainer = study.get("trainer") or lookup(unlearning, "hydra.runtime.choices.trainer", "trainer.handler")
        self.trainer = trainer and printable(trainer)  # as in `trainer=`, or else its class
        self.model = lookup(evaluating, MODEL)  # that was evaluated
        # The trainer's, by dotted key, without what does not change the trained model.
        self.settings = _flat(mapping(unlearning.get("trainer") or study.get("settings")))
        typed = _overrides(unlearning) or _of_study(study)
        self.overridden = {it.lstrip("+~").partition("=")[0].removeprefix("trainer.") for it in typed}
        self.seed = self._whole(lookup(unlearning, "trainer.args.seed") if study.get("seed") is None else study["seed"])
        self.learning_rate = _learning_rate(self.settings, study)
        self.commands = [_command(config) for config in (trained, evaluating) if config]  # as typed
        noted = read_json(self.folder / "config.json").get("transformers_version")  # by save_pretrained
        versions = {"transformers": noted} | mapping(study.get("versions"))
        self.versions = {printable(name): printable(version) for name, version in versions.items() if version}
        # What must be equal to compare runs; a training without a separate evaluation evaluates, too.
        self.facts = self._facts(trained, evaluating or trained, study, before)

    def _read_evaluations(self, evaluated: Path | None) -> None:
        state, epochs = read_json(self.folder / "trainer_state.json"), {0: 0.0}
        for entry in map(mapping, sequence(state.get("log_history"))):
            if is_number(step := entry.get("step")) and is_number(epoch := entry.get("epoch")):
                epochs[int(step)] = float(epoch)
        places = {checkpoint_step(it): it / "evals" for it in self.folder.glob("checkpoint-*")}
        steps = sorted(step for step, place in places.items() if step is not None and is_evaluation(place))
        during = {step: read_evaluation(places[step]) for step in steps}
        self.checkpoints = {epochs[step]: it for step, it in during.items() if step in epochs}
        last = state.get("global_step")
        if evaluated is not None:
            self.evaluation = read_evaluation(evaluated)
        elif isinstance(last, int) and last in during:
            self.evaluation = during[last]
        else:
            reasons = ("its training has not finished", "its model is not evaluated: run src/eval.py on it")
            self.unfinished = reasons[bool(state)]

    def _whole(self, seed: Any) -> int | None:
        try:
            return None if seed is None else int(np.int64(str(seed)))
        except (ValueError, OverflowError):
            told = f"{self.folder}: the seed {reprlib.repr(seed)} is not a whole number: leave this run out"
            raise BaldroError(told) from None

    def _facts(
        self, trained: dict[Any, Any], evaluating: dict[Any, Any], study: dict[str, Any], before: Any
    ) -> dict[str, Hashable]:
        """Return the facts of Hydra's records; some are in `study.json` too, which is there without the training."""
        facts = {
            "benchmark": self.evaluation.benchmark or None,
            "model before unlearning": before or study.get("model"),
            "forget split": lookup(trained, "forget_split", "data_split") or study.get("split"),
            "retain split": lookup(trained, "retain_split"),
            "evaluated split": lookup(evaluating, "eval.tofu.forget_split", "eval.muse.data_split"),
            "holdout split": lookup(evaluating, "eval.tofu.holdout_split"),
            "question key": lookup(evaluating, "eval.tofu.question_key"),
            "retain logs": self._retain_logs(evaluating) if evaluating else None,
            "lm-eval tasks": lookup(evaluating, "eval.lm_eval.tasks") or study.get("lm_eval") or None,
        }
        return {
            name: fact if fact is None or isinstance(fact, RetainLogs) else printable(fact)
            for name, fact in facts.items()
        }

    def _retain_logs(self, evaluating: dict[Any, Any]) -> RetainLogs | str:
        keys = (f"eval.{(self.evaluation.benchmark or 'TOFU').lower()}.retain_logs_path", "retain_logs_path")
        path = lookup(evaluating, *keys)
        if resolver := _RETAIN_LOGS.fullmatch(str(evaluating.get("retain_logs_path"))):  # looks at this path
            name, model = resolver[1], lookup(evaluating, "hydra.runtime.choices.model")
            path = f"saves/eval/{name}_{model}_{lookup(evaluating, resolver[2])}/{name.upper()}_EVAL.json"
        file = path and located(path, self.evaluation.folder, evaluating)
        if not file or not file.is_file():
            return f"{path} (no longer there)" if path and "forget_quality" in self.evaluation.aggregates else "none"
        return RetainLogs(sha256(file.read_bytes()), f"{file.name} of {printable(file.parent.name)}")


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


def _learning_rate(settings: Mapping[str, str], study: Mapping[str, Any]) -> float | None:
    """Return the rate of the settings, or where they are gone the one among the overrides of `study.json`."""
    typed = (it.lstrip("+") for it in _of_study(study))
    values = [it.partition("=")[2] for it in typed if it.startswith("trainer.args.learning_rate=")]
    try:
        return float(settings.get("args.learning_rate") or values[-1])
    except (IndexError, ValueError):
        return None


def _overrides(config: dict[Any, Any]) -> list[str]:
    overrides = mapping(mapping(config.get("hydra")).get("overrides"))
    return [printable(it) for it in sequence(overrides.get("task"))]


def _of_study(study: Mapping[str, Any]) -> list[str]:
    """Return the overrides of a method's trainings, in order."""
    return [printable(it) for key in ("common", "overrides") for it in sequence(study.get(key))]


def _command(config: dict[Any, Any]) -> str:
    return shlex.join(["python", f"src/{lookup(config, 'hydra.job.name')}.py", *_overrides(config)])
