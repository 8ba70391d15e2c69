"""Which folders belong together: a training, and the evaluation of the model that it saved."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from baldro_ext.tools.compare.errors import MixedRunsError, NothingToCompareError
from baldro_ext.tools.compare.evaluations import checkpoint_step, is_evaluation
from baldro_ext.tools.compare.records import Record

_MODEL = "model.model_args.pretrained_model_name_or_path"


@dataclass(frozen=True)
class Place:
    """Where one run is.

    Attributes:
        training: Folder of the training, such as `saves/unlearn/NPO`; `None` where only an evaluation is known.
        evaluation: Folder of the final evaluation, such as `saves/eval/NPO`; `None` where there is none.
    """

    training: Path | None
    evaluation: Path | None

    @property
    def name(self) -> str:
        """The folder that names the run."""
        return (self.training or self.evaluation or Path("?")).name

    def __str__(self) -> str:
        return str(self.training or self.evaluation)


def find(arguments: Sequence[str]) -> list[Place]:
    """Return the runs that the arguments name: their folders, folders that hold many, or patterns.

    A training brings the evaluation of its model along, and the other way round.

    Raises:
        NothingToCompareError: An argument names nothing, or no run.
        MixedRunsError: A training has several evaluations, and none has its name.
    """
    folders = list(dict.fromkeys(folder for argument in arguments for folder in _results(argument)))
    trainings = [folder for folder in folders if is_training(folder)]
    evaluations = {folder: training_of(folder) for folder in folders if not is_training(folder)}
    places: dict[Path, Place] = {}
    for folder in folders:
        training = folder if folder in trainings else evaluations[folder]
        if training is None:
            places[folder] = Place(None, folder)
        elif training not in places:
            own = [evaluation for evaluation, of in evaluations.items() if of == training]
            places[training] = Place(training, _the_one(training, own or list(_evaluations_of(training))))
    return list(places.values())


def is_training(folder: Path) -> bool:
    """Whether the framework has trained into this folder, or begun to."""
    begun = folder.parent.name == "unlearn" and (folder / ".hydra" / "config.yaml").is_file()
    return begun or (folder / "trainer_state.json").is_file() or any(folder.glob("checkpoint-*/evals/*_EVAL.json"))


def training_of(evaluation: Path) -> Path | None:
    """Return the training whose model an evaluation is of; `None` if there is no such folder."""
    if evaluation.name.startswith("evals") and is_training(evaluation.parent):
        return evaluation.parent
    record = Record.of(evaluation)
    if record is None:
        named = working_folder(evaluation) / "saves" / "unlearn" / evaluation.name
        return named if is_training(named) else None
    model = record.get(_MODEL)
    # The place of the evaluation comes first: a working folder may have been moved since.
    for start in filter(None, (working_folder(evaluation), record.folder)):
        if model and is_training(start / model):
            return Path(os.path.normpath(start / model))
    return None


def working_folder(result: Path) -> Path:
    """Return the folder in which the command was typed, by the place of its result: `<it>/saves/<mode>/<task>`."""
    return result.parent.parent.parent


def _evaluations_of(training: Path) -> Iterator[Path]:
    if is_evaluation(training):
        yield training
    for folder in (*sorted(training.glob("evals*")), *sorted((training.parent.parent / "eval").glob("*"))):
        if is_evaluation(folder) and training_of(folder) == training:
            yield folder


def _the_one(training: Path, evaluations: list[Path]) -> Path | None:
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
        raise NothingToCompareError(f"there is nothing at {argument}: name folders of runs, such as saves/unlearn/NPO")
    found = [result for path in paths for result in _below(Path(os.path.abspath(path)))]
    if not found:
        raise NothingToCompareError(
            f"there is no run in {argument}: a training of the framework leaves trainer_state.json in its folder, an "
            "evaluation TOFU_SUMMARY.json, MUSE_SUMMARY.json or LMEval_SUMMARY.json"
        )
    return found


def _below(folder: Path) -> list[Path]:
    """Return the folders of results at or below a folder; checkpoints are part of their training."""
    if not folder.is_dir() or checkpoint_step(folder) is not None:
        return []
    if is_training(folder) or is_evaluation(folder):
        return [folder]
    children = sorted(child for child in folder.iterdir() if not child.name.startswith("."))
    return [result for child in children if not child.is_symlink() for result in _below(child)]
