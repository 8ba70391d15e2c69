"""Find runs: the folder of a training, and that of the evaluation of its model."""

import glob
import os
from collections.abc import Sequence
from pathlib import Path

from baldro_ext.errors import RefusedError, UsageError
from baldro_ext.tools.compare.evaluations import checkpoint_step, is_evaluation
from baldro_ext.tools.compare.records import lookup, read_config

MODEL = "model.model_args.pretrained_model_name_or_path"


def find_runs(arguments: Sequence[str | Path]) -> list[tuple[Path | None, Path | None]]:
    """Return training and final evaluation of each run that the arguments name; at least one of them is known.

    A training is completed by the evaluation of its model, and an evaluation by the training of its model. Arguments
    are folders of trainings or evaluations, folders that hold many, or patterns.
    """
    read_config.cache_clear()
    folders = dict.fromkeys(folder for argument in arguments for folder in _results(str(argument)))
    trainings = {folder: folder if is_training(folder) else training_of(folder) for folder in folders}
    runs: dict[Path, tuple[Path | None, Path | None]] = {}
    for folder, training in trainings.items():
        if training is None:
            runs[folder] = None, folder
        elif training not in runs:
            named = [other for other, its_training in trainings.items() if its_training == training != other]
            runs[training] = training, _only(training, named or _evaluations_of(training))
    return list(runs.values())


def is_training(folder: Path) -> bool:
    """Whether the framework has unlearned or relearned a model in this folder, or begun to."""
    if lookup(read_config(folder), "mode") not in (None, "unlearn", "relearn"):
        return False
    begun = folder.parent.name == "unlearn" and os.path.lexists(folder / ".hydra" / "config.yaml")
    ended = os.path.lexists(folder / "trainer_state.json")
    return begun or ended or any(folder.glob("checkpoint-*/evals/*_EVAL.json"))


def training_of(evaluation: Path) -> Path | None:
    """Return the training whose model an evaluation is of, or `None`."""
    if evaluation.name.startswith("evals") and is_training(evaluation.parent):
        return evaluation.parent
    config = read_config(evaluation)
    model = lookup(config, MODEL) if config else f"saves/unlearn/{evaluation.name}"
    training = model and located(model, evaluation, config)
    return Path(os.path.normpath(training)) if training and is_training(training) else None


def located(path: str, result: Path, config: dict[str, object]) -> Path | None:
    """Return where a path below the working folder of a result's command is now, or `None`.

    Results are in `<working folder>/saves`; both may have been moved together since the command was typed.
    """
    saves = [it.parent for it in result.parents if it.name == "saves"]
    typed = lookup(config, "hydra.runtime.cwd")
    starts = [*saves, *([Path(typed)] if typed else [])]
    inside = os.path.relpath(path, typed) if typed and Path(path).is_relative_to(typed) else path
    return next((start / inside for start in starts if os.path.exists(start / inside)), None)


def _evaluations_of(training: Path) -> list[Path]:
    around = [*sorted(training.glob("evals*")), *sorted((training.parent.parent / "eval").glob("*"))]
    return [folder for folder in around if is_evaluation(folder) and training_of(folder) == training]


def _only(training: Path, evaluations: Sequence[Path]) -> Path | None:
    same_name = [folder for folder in evaluations if folder.name in (training.name, "evals")]
    chosen = same_name if len(same_name) == 1 else evaluations
    if len(chosen) > 1:
        names = ", ".join(map(str, evaluations))
        raise RefusedError(f"the model in {training} has several evaluations ({names}): name the one to use")
    return chosen[0] if chosen else None


def _results(argument: str) -> list[Path]:
    name = os.path.expanduser(argument)
    paths = [name] if os.path.lexists(name) else sorted(glob.glob(name, recursive=True))
    if not paths:
        raise UsageError(f"{argument} does not exist: name folders of runs, such as saves/unlearn/NPO")
    results = [result for path in paths for result in _below(Path(os.path.abspath(path)))]
    if not results:
        raise UsageError(
            f"there is no run in {argument}: an unlearning leaves trainer_state.json in its folder, an "
            "evaluation TOFU_SUMMARY.json, MUSE_SUMMARY.json or LMEval_SUMMARY.json"
        )
    return results


def _below(folder: Path, *above: Path) -> list[Path]:
    """Return the folders with results at or below a folder; checkpoints are part of their training.

    Of links only those are followed that lead out of the folders `above`, so that nothing is found twice.
    """
    if not folder.is_dir() or checkpoint_step(folder) is not None:
        return []
    if is_training(folder) or is_evaluation(folder):
        return [folder]
    above = (Path(os.path.realpath(folder)), *above)
    children = sorted(child for child in folder.iterdir() if not child.name.startswith("."))
    return [result for child in children if not _leads_back(child, above) for result in _below(child, *above)]


def _leads_back(child: Path, above: Sequence[Path]) -> bool:
    """Whether a link points into one of these folders, or to one that holds it."""
    if not child.is_symlink():
        return False
    target = Path(os.path.realpath(child))
    return any(target.is_relative_to(it) or it.is_relative_to(target) for it in above)
