"""One run: its settings, its evaluations, and the facts that decide what it can be compared with."""

from __future__ import annotations

import os
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from baldro_ext.open_unlearning.resolvers import chosen_name
from baldro_ext.tools.compare.discover import RunFolders, working_folder
from baldro_ext.tools.compare.errors import BrokenFileError
from baldro_ext.tools.compare.evaluations import Evaluation, checkpoint_step, is_evaluation, read_evaluation
from baldro_ext.tools.compare.fields import Fields, printable, read_json
from baldro_ext.tools.compare.hydra_record import HydraRecord
from baldro_ext.tools.files import sha256

_NONE = "none"  # known to be absent, while `None` is unknown


@dataclass(frozen=True)
class RunResult:
    """What is known about one run; `None` where it is unknown."""

    folders: RunFolders
    label: str | None  # method name in study.json
    trainer: str | None  # name given as `trainer=`
    handler: str | None  # its class
    base: str | None  # the forget loss of a BalDRO trainer
    seed: int | None  # of the training
    model: str | None  # name or path of the evaluated model
    evaluation: Evaluation  # of the final model; empty if there is none
    unfinished: str  # why there is none
    checkpoints: dict[float, Evaluation]  # evaluations during training, by epoch
    facts: dict[str, str | None]  # by name, what must be equal to compare runs
    settings: dict[str, str]  # the trainer's, by dotted key, without what does not change the trained model
    overridden: frozenset[str]  # those that were set on the command line
    commands: tuple[str, ...]  # as typed in the working folder
    learning_rate: float | None
    training_seconds: float | None
    versions: dict[str, str]  # by package

    @property
    def name(self) -> str:
        """The end of its folder's path, such as `unlearn/NPO`."""
        return printable("/".join(self.folders.main.parts[-2:]))


def read_run(folders: RunFolders) -> RunResult:
    """Read a run from what `src/train.py`, `src/eval.py` and `baldro run` wrote.

    Raises:
        BrokenFileError: A file cannot be read.
    """
    training, evaluating = HydraRecord.of(folders.training), HydraRecord.of(folders.evaluation)
    study = read_json((folders.evaluation or folders.main) / "study.json")
    state, model = (read_json(folders.main / name) for name in ("trainer_state.json", "config.json"))
    evaluation, unfinished, checkpoints = _evaluations(folders, state)
    handler = training.get("trainer.handler")
    # save_pretrained notes the version in a model's config.json.
    noted = {"transformers": model.get("transformers_version", str)} | study.within("versions").content
    versions = Fields(study.path, noted)
    return RunResult(
        folders=folders,
        label=study.get("label", str),
        trainer=study.get("trainer", str) or training.choices.get("trainer") or handler,
        handler=handler,
        base=training.get("trainer.method_args.base"),
        seed=study.get("seed", int) if study.content.get("seed") is not None else _seed(training),
        model=evaluating.model,
        evaluation=evaluation,
        unfinished=unfinished,
        checkpoints=checkpoints,
        # A training without a separate evaluation evaluates, too.
        facts=_facts(folders, training, evaluating if evaluating.exists else training, study, evaluation),
        settings=_flat(training.raw.within("trainer").content),
        overridden=frozenset(it.lstrip("+~").partition("=")[0].removeprefix("trainer.") for it in training.overrides),
        commands=tuple(record.command for record in (training, evaluating) if record.command),
        learning_rate=_learning_rate(training, study),
        training_seconds=study.get("training_seconds", float),
        versions={str(name): version for name in noted if (version := versions.get(name, str))},
    )


def _seed(training: HydraRecord) -> int | None:
    recorded, path = training.get("trainer.args.seed"), training.raw.path
    try:
        return None if recorded is None else Fields(path, {"the seed": int(recorded)}).get("the seed", int)
    except ValueError:
        seed = reprlib.repr(recorded)
        raise BrokenFileError(f"{path}: the seed {seed} is not a whole number: leave this run out") from None


def _learning_rate(training: HydraRecord, study: Fields) -> float | None:
    """Return the rate in Hydra's record, or where that is gone the one among the overrides of `study.json`."""
    typed = [str(it).lstrip("+") for key in ("common", "overrides") for it in study.get(key, list) or ()]
    values = [it.partition("=")[2] for it in typed if it.startswith("trainer.args.learning_rate=")]
    try:
        return float(training.get("trainer.args.learning_rate") or values[-1])
    except (IndexError, ValueError):
        return None


def _evaluations(folders: RunFolders, state: Fields) -> tuple[Evaluation, str, dict[float, Evaluation]]:
    """Return the evaluation of the final model, why there is none, and those during training by epoch."""
    logged = [Fields(state.path, entry) for entry in state.get("log_history", list) or ()]
    epochs = {0: 0.0} | {entry.get("step", int): entry.get("epoch", float) for entry in logged}
    places = {checkpoint_step(it): it / "evals" for it in (folders.training or folders.main).glob("checkpoint-*")}
    steps = sorted(step for step, place in places.items() if step is not None and is_evaluation(place))
    during = {step: read_evaluation(places[step]) for step in steps}
    by_epoch = {epoch: it for step, it in during.items() if (epoch := epochs.get(step)) is not None}
    if folders.evaluation is not None:
        return read_evaluation(folders.evaluation), "", by_epoch
    if state.content and (last := during.get(state.get("global_step", int) or 0)):
        return last, "", by_epoch
    reason = "its model is not evaluated: run src/eval.py on it" if state.content else "its training has not finished"
    return Evaluation(folders.main), reason, by_epoch


def _flat(node: Mapping[Any, Any], prefix: str = "") -> dict[str, str]:
    """Return a trainer's configuration by dotted key, without what does not change the trained model or its name."""
    flat: dict[str, str] = {}
    for key, value in node.items():
        name = printable(f"{prefix}{key}")
        if isinstance(value, dict):
            flat |= _flat(value, f"{name}.")
        elif name not in ("args.seed", "args.use_cpu") and chosen_name(overrides=[f"trainer.{name}=x"]):
            whole = isinstance(value, float) and value.is_integer() and abs(value) < 1e15
            flat[name] = "null" if value is None else printable(str(int(value) if whole else value))
    return flat


def _facts(
    folders: RunFolders, training: HydraRecord, evaluating: HydraRecord, study: Fields, evaluation: Evaluation
) -> dict[str, str | None]:
    """Return the facts from Hydra's records, and from `study.json` where those are missing."""
    before, tasks = training.model, study.get("lm_eval", list)
    if folders.training and before and training.get("mode") == "relearn":  # what was relearned had been unlearned
        before = HydraRecord.of(working_folder(folders.training) / before).model
    return {
        "benchmark": evaluation.benchmark or study.get("benchmark", str),
        "model before unlearning": before or study.get("model", str),
        "forget split": training.get("forget_split", "data_split") or study.get("split", str),
        "retain split": training.get("retain_split"),
        "evaluated split": evaluating.get("eval.tofu.forget_split", "eval.muse.data_split"),
        "holdout split": evaluating.get("eval.tofu.holdout_split"),
        "question key": evaluating.get("eval.tofu.question_key"),
        "retain logs": _retain_logs(folders, evaluating, study, evaluation),
        "lm-eval tasks": evaluating.get("eval.lm_eval.tasks") or (str(tasks) if tasks else None),
    }


def _retain_logs(folders: RunFolders, evaluating: HydraRecord, study: Fields, evaluation: Evaluation) -> str | None:
    """Return the retain model's evaluation by name and content."""
    written, optional = evaluating.retain_logs(evaluation.benchmark or "TOFU")
    if not evaluating.exists:
        written = study.get("retain_logs", str)
    if written is None:
        return _NONE if evaluating.exists or "retain_logs" in study.content else None
    starts = (working_folder(folders.evaluation or folders.main), evaluating.working_folder)
    file = next((start / written for start in starts if start and os.path.isfile(start / written)), None)
    if file is None and optional and "forget_quality" not in evaluation.aggregates:
        return _NONE
    digest = study.get("retain_sha256", str) or (sha256(file.read_bytes()) if file else None)
    path = Path(written)
    return f"{path.name} of {path.parent.name} (sha256 {digest[:12]})" if digest else f"{written} (no longer there)"
