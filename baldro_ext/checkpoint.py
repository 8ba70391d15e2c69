"""What a resumed run needs beside the Trainer's own checkpoint: the state of the samples, and what it belongs to.

The file is made so that no server or hub takes it for weights: by name they read `*.safetensors`, `*.bin` and `*.pt`.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from baldro_ext.adversary import SampleState
from baldro_ext.errors import BaldroError

logger = logging.getLogger(__name__)

FILE_NAME = "baldro_state.npz"
_FORMAT = "2"
_ABOUT = "about"
_COLUMNS = {"losses": np.float64, "hardness": np.float64, "seen": np.bool_, "reference": np.float64}

_OLD_FILE_NAME = "baldro_ledger.safetensors"  # of releases up to 0.1, whose column for `seen` was `visited`
_OLD_FORMAT = "1"

_WAY_OUT = (
    "Resume from another checkpoint whose state is intact, or start anew from the model before unlearning (without "
    "resume_from_checkpoint)."
)


class StateError(BaldroError):
    """The state of a checkpoint is missing, damaged or of another run; the message says what to do."""


def save(state: SampleState, folder: Path, about: Mapping[str, str]) -> None:
    """Write the state into a checkpoint folder, whole or not at all.

    Args:
        state: Of the forget samples.
        folder: The checkpoint; made if it is not there.
        about: What the state belongs to, by name, as `load` compares it.
    """
    columns = {name: getattr(state, name) for name in _COLUMNS}
    arrays: dict[str, Any] = {name: column.numpy() for name, column in columns.items() if column is not None}
    note = {"format": _FORMAT, "checksum": _checksum(arrays), **about}
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f".{FILE_NAME}.partial"
    with partial.open("wb") as file:
        np.savez(file, about=np.array(json.dumps(note)), **arrays)
    os.replace(partial, folder / FILE_NAME)


def load(folder: Path, about: Mapping[str, str], *, reference: bool) -> SampleState:
    """Read the state of a checkpoint.

    Args:
        folder: The checkpoint.
        about: What this run is, as `save` takes it; a difference in any name is refused.
        reference: Whether this run needs log-likelihoods of the model before unlearning.

    Raises:
        StateError: The file is missing, damaged, or belongs to another step or another run.
    """
    path = folder / FILE_NAME
    old = folder / _OLD_FILE_NAME
    if not path.is_file() and old.is_file():
        state = _load_old(old, about)
        logger.warning("%s is of an older release: read, and written as %s from now on.", old, FILE_NAME)
    elif path.is_file():
        state = _load(path, about)
    else:
        raise StateError(
            f"{folder} has no {FILE_NAME}, so what was known of the forget samples is lost: the model of a checkpoint "
            f"is no longer the reference. {_WAY_OUT}"
        )
    if reference and state.reference is None:
        raise StateError(
            f"{folder} holds no reference log-likelihoods, because its run did not need them, and the model of a "
            "checkpoint is no longer the reference: resume with the settings of that run, or start anew"
        )
    return state


def newest_complete(output: Path) -> Path:
    """Return the newest checkpoint of a folder that can be resumed, and name the newer ones that cannot in the log.

    Raises:
        StateError: There is none.
    """
    found = [(int(match[1]), path) for path in output.glob("checkpoint-*") if (match := _NUMBER.fullmatch(path.name))]
    skipped: list[str] = []
    for _, path in sorted(found, reverse=True):
        problem = _incomplete(path)
        if problem is None:
            for line in skipped:
                logger.warning("%s", line)
            return path
        skipped.append(f"{path} was not written to its end ({problem}) and is skipped.")
    raise StateError(
        "\n".join([f"resume_from_checkpoint=true, but there is no checkpoint to resume from in {output}", *skipped])
    )


def step_of(checkpoint: Path) -> int:
    """Return the optimizer step of a checkpoint.

    Raises:
        StateError: It is no checkpoint of a Trainer.
    """
    try:
        return int(json.loads((checkpoint / "trainer_state.json").read_text())["global_step"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StateError(f"{checkpoint} is no checkpoint of a Trainer ({error}): name another one") from None


def digest_of(samples: Any, at_most: int | None = None) -> str:
    """Identify tokenised samples, of a list or a dataset, by their number and their tokens; of many, by some of
    them."""
    digest = hashlib.sha256()
    every = 1 if at_most is None else max(1, len(samples) // at_most)
    for index in range(0, len(samples), every):
        sample = samples[index]
        for key in ("input_ids", "labels"):
            digest.update(torch.as_tensor(sample[key]).to(torch.int64).numpy().tobytes())
    return digest.hexdigest() if at_most is None else f"{len(samples)} samples {digest.hexdigest()[:16]}"


def fingerprint(config: Mapping[str, Any], shapes: Mapping[str, list[int]], samples_digest: str) -> str:
    """Identify what the numbers of a state depend on, besides settings.

    Args:
        config: The model's configuration; where it was loaded from and by which release do not count.
        shapes: Its parameters' shapes by name.
        samples_digest: Of the tokenised forget samples, which covers dataset, tokenizer and template.
    """
    volatile = {"_name_or_path", "transformers_version", "torch_dtype", "dtype", "use_cache", "architectures"}
    kept = {key: value for key, value in config.items() if key not in volatile and not key.startswith("_")}
    text = json.dumps([kept, shapes, samples_digest], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


_NUMBER = re.compile(r"checkpoint-(\d+)")


def _load(path: Path, about: Mapping[str, str]) -> SampleState:
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        note = json.loads(str(arrays.pop(_ABOUT)))
        if note.pop("format") != _FORMAT:
            raise ValueError("its format is unknown")
        if note.pop("checksum") != _checksum(arrays):
            raise ValueError("its checksum is another")
        if wrong := [name for name, array in arrays.items() if array.dtype != _COLUMNS.get(name)]:
            raise ValueError(f"it has no use for a column {wrong[0]} of {arrays[wrong[0]].dtype}")
        state = SampleState(**{name: torch.from_numpy(array) for name, array in arrays.items()})
    except (OSError, ValueError, KeyError, TypeError, AttributeError, EOFError, zipfile.BadZipFile) as error:
        raise StateError(f"{path} is damaged ({error}). {_WAY_OUT}") from None
    _compare(path, note, about)
    return state


def _load_old(path: Path, about: Mapping[str, str]) -> SampleState:
    try:
        with safe_open(path, framework="pt") as file:
            note: dict[str, Any] = file.metadata() or {}
            columns: dict[str, Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if note.pop("format", None) != _OLD_FORMAT:
            raise ValueError("its format is unknown")
        state = SampleState(columns["losses"], columns["hardness"], columns["visited"].bool(), columns.get("reference"))
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise StateError(f"{path} is damaged ({error}). {_WAY_OUT}") from None
    _compare(path, note, {name: about[name] for name in note if name in about})
    return state


def _compare(path: Path, found: Mapping[str, str], wanted: Mapping[str, str]) -> None:
    different = [name for name in wanted if found.get(name) != wanted[name]]
    if different:
        lines = "; ".join(f"{name}: {found.get(name)} there, {wanted[name]} here" for name in different)
        raise StateError(
            f"{path} belongs to another run ({lines}), and numbers of two runs do not mix: resume with the settings of "
            "that run, or start anew from the model before unlearning (without resume_from_checkpoint)"
        )


def _incomplete(checkpoint: Path) -> str | None:
    """Say what a checkpoint lacks."""
    try:
        step_of(checkpoint)
    except StateError:
        return "no readable trainer_state.json, which is written last"
    if not any((checkpoint / name).is_file() for name in (FILE_NAME, _OLD_FILE_NAME)):
        return f"no {FILE_NAME}"
    return None


def _checksum(arrays: Mapping[str, Any]) -> str:
    digest = hashlib.sha256()
    for name in sorted(arrays):
        digest.update(f"{name} {arrays[name].dtype} {arrays[name].shape} ".encode())
        digest.update(np.ascontiguousarray(arrays[name]).tobytes())
    return digest.hexdigest()
