"""One run: its settings, its evaluations, and the facts that decide what it can be compared with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from baldro_ext.tools.compare.discover import RunFolders, working_folder
from baldro_ext.tools.compare.errors import BrokenFileError
from baldro_ext.tools.compare.evaluations import Evaluation, checkpoint_step, is_evaluation, read_evaluation
from baldro_ext.tools.compare.hydra_record import HydraRecord, read_json_if_there
from baldro_ext.tools.files import sha256

NONE = "none"
# Training arguments that do not change what a run learns, or that are handled separately.
_WITHOUT_EFFECT = (
    "args.seed", "args.output_dir", "args.logging_", "args.report_to", "args.eval_", "args.do_eval", "args.save_",
    "args.use_cpu", "args.per_device_eval_",
)  # fmt: skip


@dataclass(frozen=True)
class RunResult:
    """What is known about one run.

    Attributes:
        folders: Its folders.
        label: Method name in `study.json`, or `None`.
        trainer: Name given as `trainer=`, or `None`.
        base: The forget loss of a BalDRO trainer; `None` for others.
        seed: Of the training, or `None`.
        model: Name or path of the evaluated model, if known.
        evaluation: Of the final model; empty if there is none.
        checkpoints: Evaluations during training, by epoch.
        facts: By name, what must be equal to compare runs; `None` is unknown, `none` is known to be absent.
        settings: Flat configuration of the trainer, without what does not change the result.
        commands: As typed in the working folder.
        seconds: Training time, if known.
        versions: By package, if known.
        missing: What the run lacks, and how to get it.
    """

    folders: RunFolders
    label: str | None
    trainer: str | None
    base: str | None
    seed: int | None
    model: str | None
    evaluation: Evaluation
    checkpoints: Mapping[float, Evaluation]
    facts: Mapping[str, str | None]
    settings: Mapping[str, str]
    commands: tuple[str, ...]
    seconds: float | None
    versions: Mapping[str, str]
    missing: tuple[str, ...]

    @property
    def name(self) -> str:
        """The end of its folder's path, such as `unlearn/NPO`."""
        return "/".join(self.folders.main.parts[-2:])


def read_run(folders: RunFolders) -> RunResult:
    """Read a run from what `src/train.py`, `src/eval.py` and `baldro run` wrote.

    Raises:
        BrokenFileError: A file cannot be read.
    """
    training, evaluating = HydraRecord.of(folders.training), HydraRecord.of(folders.evaluation)
    study = read_json_if_there(folders.evaluation / "study.json") if folders.evaluation else {}
    state = read_json_if_there(folders.training / "trainer_state.json") if folders.training else {}
    checkpoints = _checkpoints(folders.training)
    logged = [entry for entry in state.get("log_history", ()) if {"step", "epoch"} <= entry.keys()]
    epochs = {0: 0.0, **{int(entry["step"]): float(entry["epoch"]) for entry in logged}}
    evaluation, missing = _final(folders, state, checkpoints)
    if folders.training and not training.exists and not study:
        missing.append(f"{folders.training} has no .hydra/config.yaml: its seed and model are unknown")
    return RunResult(
        folders=folders,
        label=study.get("label"),
        trainer=study.get("trainer") or training.trainer,
        base=training.get("trainer.method_args.base"),
        seed=_seed(study.get("seed", training.get("trainer.args.seed"))),
        model=evaluating.model,
        evaluation=evaluation,
        checkpoints={epochs[step]: evaluation for step, evaluation in checkpoints.items() if step in epochs},
        facts=_facts(folders, training, evaluating if evaluating.exists else training, study, evaluation),
        settings=_settings(training),
        commands=tuple(record.command for record in (training, evaluating) if record.command),
        seconds=study.get("training_seconds"),
        versions=study.get("versions") or {},
        missing=tuple(missing),
    )


def _seed(recorded: Any) -> int | None:
    try:
        return None if recorded is None else int(recorded)
    except (TypeError, ValueError):
        raise BrokenFileError(f"the seed {recorded!r} is not a whole number: leave this run out") from None


def _checkpoints(training: Path | None) -> dict[int, Evaluation]:
    """Return the evaluations during training, by step."""
    folders = {checkpoint_step(it): it / "evals" for it in training.glob("checkpoint-*")} if training else {}
    steps = sorted(step for step, folder in folders.items() if step is not None and is_evaluation(folder))
    return {step: read_evaluation(folders[step]) for step in steps}


def _final(
    folders: RunFolders, state: Mapping[str, Any], checkpoints: Mapping[int, Evaluation]
) -> tuple[Evaluation, list[str]]:
    """Return the evaluation of the final model, and what is missing if there is none."""
    if folders.evaluation is not None:
        return read_evaluation(folders.evaluation), []
    training = folders.main
    if not state:
        return Evaluation(training), [f"{training} has no trainer_state.json: its training has not finished"]
    if state.get("global_step") in checkpoints:
        return checkpoints[state["global_step"]], []
    return Evaluation(training), [f"{training} has no evaluation of its model: run src/eval.py on it"]


def _settings(training: HydraRecord) -> dict[str, str]:
    settings = _flat(training.raw.get("trainer") or {})
    return {key: value for key, value in settings.items() if not key.startswith(_WITHOUT_EFFECT)}


def _flat(node: Mapping[Any, Any], prefix: str = "") -> dict[str, str]:
    flat: dict[str, str] = {}
    for key, value in node.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": str(value)}
    return flat


def _facts(
    folders: RunFolders,
    training: HydraRecord,
    evaluating: HydraRecord,
    study: Mapping[str, Any],
    evaluation: Evaluation,
) -> dict[str, str | None]:
    """Return the facts from Hydra's records, and from `study.json` where those are missing.

    `evaluating` is the training's own record where there is no separate evaluation: the training evaluates, too.
    """
    return {
        "benchmark": evaluation.benchmark or study.get("benchmark"),
        "model before unlearning": training.model or study.get("model"),
        "forget split": training.get("forget_split", "data_split") or study.get("split"),
        "retain split": training.get("retain_split"),
        "evaluated split": evaluating.get("eval.tofu.forget_split", "eval.muse.data_split"),
        "holdout split": evaluating.get("eval.tofu.holdout_split"),
        "question key": evaluating.get("eval.tofu.question_key"),
        "retain logs": _retain_logs(folders, evaluating, study, evaluation),
        "lm-eval tasks": evaluating.get("eval.lm_eval.tasks")
        or (str(study["lm_eval"]) if study.get("lm_eval") else None),
    }


def _retain_logs(
    folders: RunFolders, evaluating: HydraRecord, study: Mapping[str, Any], evaluation: Evaluation
) -> str | None:
    """Return the retain model's evaluation by name and content."""
    written, optional = evaluating.retain_logs(evaluation.benchmark or "TOFU")
    if not evaluating.exists:
        written = study.get("retain_logs")
    if written is None:
        return NONE if evaluating.exists or "retain_logs" in study else None
    starts = (working_folder(folders.evaluation or folders.main), evaluating.working_folder)
    file = next((start / written for start in starts if start and (start / written).is_file()), None)
    if file is None and optional and "forget_quality" not in evaluation.aggregates:
        return NONE
    digest = study.get("retain_sha256") or (sha256(file.read_bytes()) if file else None)
    path = Path(written)
    return f"{path.name} of {path.parent.name} (sha256 {digest[:12]})" if digest else f"{written} (no longer there)"
