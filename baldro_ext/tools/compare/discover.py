"""Find runs: the folder of a training, and that of the evaluation of its model."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from baldro_ext.tools.compare.errors import MixedRunsError, NothingToCompareError
from baldro_ext.tools.compare.evaluations import checkpoint_step, is_evaluation
from baldro_ext.tools.compare.fields import exists
from baldro_ext.tools.compare.hydra_record import HydraRecord


@dataclass(frozen=True)
class RunFolders:
    """The folders of one run.

    Attributes:
        training: Such as `saves/unlearn/NPO`; `None` where only an evaluation is known.
        evaluation: The final one, such as `saves/eval/NPO`; `None` where there is none.
    """

    training: Path | None
    evaluation: Path | None

    @property
    def main(self) -> Path:
        """The folder that names the run."""
        return self.training or self.evaluation or Path("?")


def find_runs(arguments: Sequence[str | Path]) -> list[RunFolders]:
    """Return the runs that the arguments name: their folders, folders that hold many, or patterns.

    A training is completed by the evaluation of its model, and an evaluation by the training of its model.

    Raises:
        NothingToCompareError: An argument names nothing, or no run.
        MixedRunsError: A training has several evaluations, and none has its name.
    """
    folders = list(dict.fromkeys(folder for argument in arguments for folder in _results(str(argument))))
    trainings = {folder: folder if is_training(folder) else training_of(folder) for folder in folders}
    runs: dict[Path, RunFolders] = {}
    for folder, training in trainings.items():
        if training is None:
            runs[folder] = RunFolders(None, folder)
        elif training not in runs:
            named = [other for other, its_training in trainings.items() if its_training == training != other]
            runs[training] = RunFolders(training, _only(training, named or list(_evaluations_of(training))))
    return list(runs.values())


def is_training(folder: Path) -> bool:
    """Whether the framework has trained into this folder, or begun to."""
    begun = folder.parent.name == "unlearn" and exists(folder / ".hydra" / "config.yaml")
    return begun or exists(folder / "trainer_state.json") or any(folder.glob("checkpoint-*/evals/*_EVAL.json"))


def training_of(evaluation: Path) -> Path | None:
    """Return the training whose model an evaluation is of, or `None`."""
    if evaluation.name.startswith("evals") and is_training(evaluation.parent):
        return evaluation.parent
    record = HydraRecord.of(evaluation)
    if not record.exists:
        same_name = working_folder(evaluation) / "saves" / "unlearn" / evaluation.name
        return same_name if is_training(same_name) else None
    # The working folder may have been moved since, so the place of the evaluation comes first.
    for start in filter(None, (working_folder(evaluation), record.working_folder)):
        if record.model and os.path.isdir(start / record.model) and is_training(start / record.model):
            return Path(os.path.normpath(start / record.model))
    return None


def working_folder(result: Path) -> Path:
    """Return the folder in which the command was typed, `<it>/saves/<mode>/<task>` being the result."""
    return result.parent.parent.parent


def _evaluations_of(training: Path) -> Iterator[Path]:
    if is_evaluation(training):
        yield training
    for folder in (*sorted(training.glob("evals*")), *sorted((training.parent.parent / "eval").glob("*"))):
        if is_evaluation(folder) and training_of(folder) == training:
            yield folder


def _only(training: Path, evaluations: Sequence[Path]) -> Path | None:
    if len(evaluations) < 2:
        return evaluations[0] if evaluations else None
    same_name = [folder for folder in evaluations if folder.name in (training.name, "evals")]
    if len(same_name) == 1:
        return same_name[0]
    names = ", ".join(map(str, evaluations))
    raise MixedRunsError(f"the model in {training} has several evaluations ({names}): name the one to use")


def _results(argument: str) -> list[Path]:
    paths = sorted(glob.glob(os.path.expanduser(argument), recursive=True))
    if not paths:
        raise NothingToCompareError(f"{argument} does not exist: name folders of runs, such as saves/unlearn/NPO")
    results = [result for path in paths for result in _below(Path(os.path.abspath(path)))]
    if not results:
        raise NothingToCompareError(
            f"there is no run in {argument}: a training of the framework leaves trainer_state.json in its folder, an "
            "evaluation TOFU_SUMMARY.json, MUSE_SUMMARY.json or LMEval_SUMMARY.json"
        )
    return results


def _below(folder: Path) -> list[Path]:
    """Return the folders with results at or below a folder; checkpoints are part of their training."""
    if not folder.is_dir() or checkpoint_step(folder) is not None:
        return []
    if is_training(folder) or is_evaluation(folder):
        return [folder]
    children = sorted(child for child in folder.iterdir() if not child.name.startswith(".") and not child.is_symlink())
    return [result for child in children for result in _below(child)]
