"""Whole working folders: a benchmark's data and small models that know it, under the names of the originals.

The models stand in under the names that the framework's configurations load, so a command for the real
benchmark runs there as it is; without a GPU it ends in `+hardware=cpu` or `+hardware=cpu_eval`.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from baldro_ext.errors import BaldroError
from baldro_ext.tools.workspace.datasets import make_arc_easy, make_muse, make_tofu, make_wmdp

_SIZE: dict[str, Any] = {"hidden": 128, "vocabulary": 1024}


class WorkspaceError(BaldroError):
    """Something else stands where a working folder is to be made, and stays as it is."""

    exit_code = 4


@dataclass(frozen=True)
class Benchmark:
    """One kind of working folder.

    Attributes:
        name: `tofu`, `muse` or `wmdp`.
        make: Writes data and models into a folder, unless they are there. The seed is of the models.
        stand_ins: The name of a model that the framework loads, and which model of the folder stands in for it.
        commands: What to type next in the folder, with what it does.
    """

    name: str
    make: Callable[[Path, int], None]
    stand_ins: dict[str, str]
    commands: tuple[tuple[str, str], ...]


def lay_out(benchmark: Benchmark, folder: Path, checkout: Path | None = None, seed: int = 0) -> None:
    """Write a working folder, or what is missing of it.

    Args:
        benchmark: Of `BENCHMARKS`.
        folder: Made if missing. A checkout of the framework may be one.
        checkout: Of the framework; `src` and `configs` become links to it, so that `python src/train.py` runs. Not
            used where the folder has a `src` of its own, or one that is linked to a place of the user's.
        seed: Of the models: their first weights, and the order in which they learn.

    Raises:
        WorkspaceError: A file of another content or origin is in the way; it has not been touched.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BaldroError(f"cannot make {folder}: {error.strerror or error}\nChoose another folder") from None
    try:
        benchmark.make(folder, seed)
    except FileExistsError as error:
        raise WorkspaceError(
            f"{str(error).partition(', or pass')[0]}, or remove it. Another seed or release makes other files"
        ) from None
    for name, model in benchmark.stand_ins.items():
        _link(folder / name, folder / "models" / model, within=True)
    if checkout is not None and not _is_own(folder / "src", checkout):
        for name in ("src", "configs"):
            if (folder / name).is_symlink() and not _is_own(folder / name, checkout):
                (folder / name).unlink()
            _link(folder / name, checkout / name)


def _is_own(path: Path, checkout: Path) -> bool:
    """Whether something else than a link into a checkout beside this one is there; a dead link is nothing."""
    if path.is_symlink() and path.exists():
        return Path(os.path.normpath(path.parent / os.readlink(path))).parent.parent != checkout.parent
    return path.exists()


def _link(link: Path, target: Path, *, within: bool = False) -> None:
    """Make `link` point to `target`; `within` one working folder by a relative path, so that it can be moved."""
    link.parent.mkdir(parents=True, exist_ok=True)
    pointer = os.path.relpath(target, link.parent) if within else str(target)
    if link.is_symlink() and os.readlink(link) == pointer:
        return
    if os.path.lexists(link):
        raise WorkspaceError(f"{link} is there already and was not made by baldro: choose another folder")
    link.symlink_to(pointer, target_is_directory=True)


def _tofu(folder: Path, seed: int) -> None:
    from baldro_ext.tools.workspace import make_model, rows_to_recite

    make_tofu(folder, authors=24, questions=10, forget_authors=4)
    for name, split in (("tofu_target", "full"), ("tofu_retain90", "retain90")):
        make_model(folder, name, rows=rows_to_recite(folder, split), datasets=["locuslab"], seed=seed, **_SIZE)


def _muse(folder: Path, seed: int) -> None:
    from baldro_ext.tools.workspace import Training, make_model, texts_to_recite

    make_muse(folder, texts=4)
    training = Training(probability=0.9, batch_size=8, max_epochs=200)
    for name, known in (("muse_target", "full"), ("muse_retrain", "retain")):
        rows = texts_to_recite(folder, "News", known)
        make_model(folder, name, rows=rows, datasets=["muse-bench"], training=training, seed=seed, **_SIZE)


def _wmdp(folder: Path, seed: int) -> None:
    from baldro_ext.tools.workspace import make_model

    make_wmdp(folder)
    make_arc_easy(folder)
    make_model(folder, "wmdp_random", datasets=["data/wmdp", "allenai"], seed=seed, **_SIZE)


BENCHMARKS = {
    "tofu": Benchmark(
        "tofu",
        _tofu,
        {
            "open-unlearning/tofu_Llama-3.2-1B-Instruct_full": "tofu_target",
            "open-unlearning/tofu_Llama-3.2-1B-Instruct_retain90": "tofu_retain90",
            "meta-llama/Llama-3.2-1B-Instruct": "tofu_target",
        },
        (
            (
                "evaluate the model that never saw the authors to forget; forget quality compares with it",
                "python src/eval.py experiment=eval/tofu/default +hardware=cpu_eval "
                "task_name=tofu_Llama-3.2-1B-Instruct_retain90 model.model_args.pretrained_model_name_or_path="
                "open-unlearning/tofu_Llama-3.2-1B-Instruct_retain90",
            ),
            (
                "unlearn, and evaluate at the end of each epoch",
                "python src/train.py trainer=BalDRO_DV experiment=unlearn/tofu +hardware=cpu "
                "trainer.args.learning_rate=5e-4 trainer.args.num_train_epochs=5",
            ),
        ),
    ),
    "muse": Benchmark(
        "muse",
        _muse,
        {
            "muse-bench/MUSE-News_target": "muse_target",
            "muse-bench/MUSE-News_retrain": "muse_retrain",
            "meta-llama/Llama-2-7b-hf": "muse_target",
        },
        (
            (
                "evaluate the model that never saw the texts to forget; privacy leakage compares with it",
                "python src/eval.py experiment=eval/muse/default +hardware=cpu_eval "
                "task_name=muse_Llama-2-7b-hf_News_retrain "
                "model.model_args.pretrained_model_name_or_path=muse-bench/MUSE-News_retrain",
            ),
            (
                "unlearn, and evaluate at the end of each epoch",
                "python src/train.py trainer=BalDRO_DV experiment=unlearn/muse +hardware=cpu "
                "trainer.args.learning_rate=5e-4 data.forget.MUSE_forget.args.max_length=128",
            ),
        ),
    ),
    "wmdp": Benchmark(
        "wmdp",
        _wmdp,
        {"HuggingFaceH4/zephyr-7b-beta": "wmdp_random"},
        (
            (
                "unlearn, and evaluate on made-up questions",
                "python src/train.py trainer=BalDRO_DV experiment=unlearn/wmdp +hardware=cpu "
                "trainer.args.max_steps=8 'eval.lm_eval.tasks=[arc_easy]'",
            ),
        ),
    ),
}
"""Every kind of working folder by name."""
