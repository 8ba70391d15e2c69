"""Saves and loads the state of the samples in a Trainer's checkpoint, with a description of the run it belongs to.

The file is a NumPy archive, so that no server or hub takes it for model weights, as they would `*.safetensors`, `*.bin`
or `*.pt`.
"""

import hashlib
import json
import logging
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from baldro_ext.data import drawing, original_of
from baldro_ext.errors import BaldroError
from baldro_ext.state import SampleState

logger = logging.getLogger(__name__)

FILE_NAME = "baldro_state.npz"
_FORMAT = "2"
_ABOUT = "about"
_COLUMNS = dict.fromkeys(("losses", "hardness", "reference", "budget"), np.float64) | {"seen": np.bool_}

_TRAINER_STATE = "trainer_state.json"  # the last file that the Trainer writes
_CHECKPOINT = re.compile(r"checkpoint-\d+")
_REMEDY = (
    "Resume from another checkpoint whose state is intact, or start a new run from the model before unlearning "
    "(without resume_from_checkpoint)."
)


class StateError(BaldroError):
    """The state in a checkpoint is missing, damaged or belongs to another run; the message says what to do."""


def begin(folder: Path) -> None:
    """Mark a checkpoint folder, which may hold an older checkpoint, as incomplete until the Trainer finishes it."""
    (folder / _TRAINER_STATE).unlink(missing_ok=True)


def save(state: SampleState, folder: Path, about: Mapping[str, str], *, budget: Tensor | None = None) -> None:
    """Write the state into a checkpoint folder, atomically.

    Args:
        state: The state of the forget samples.
        folder: The checkpoint; created if missing.
        about: What the state belongs to, by name; `load` compares it.
        budget: The state of a `RetainBudget`, if there is one.
    """
    columns = {**vars(state), "budget": budget}
    arrays: dict[str, Any] = {name: column.numpy() for name, column in columns.items() if column is not None}
    note = {"format": _FORMAT, "checksum": _checksum(arrays), **about}
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f".{FILE_NAME}.partial"
    with partial.open("wb") as file:
        np.savez(file, about=np.array(json.dumps(note)), **arrays)
    os.replace(partial, folder / FILE_NAME)


def load(folder: Path, about: Mapping[str, str], *, reference: bool) -> tuple[SampleState, Tensor | None]:
    """Read the state of a checkpoint: that of the samples, and that of a `RetainBudget`, if there was one.

    Args:
        folder: The checkpoint.
        about: What this run is, as given to `save`; every name must agree. One missing in the checkpoint is `None`.
        reference: Whether this run needs log-likelihoods under the model before unlearning.

    Raises:
        StateError: The file is missing, damaged, or belongs to another step or run.
    """
    path = folder / FILE_NAME
    if not path.is_file():
        raise StateError(
            f"{folder} has no {FILE_NAME}. The state of the forget samples cannot be computed again, because the model "
            f"of a checkpoint is no longer the reference. {_REMEDY}"
        )
    state, budget, found = _read(path)
    if different := [name for name in about if found.get(name, "None") != about[name]]:
        lines = "; ".join(f"{name}: {found.get(name)} there, {about[name]} here" for name in different)
        raise StateError(
            f"{path} belongs to another run ({lines}): resume with the settings of that run, or start a new run from "
            "the model before unlearning (without resume_from_checkpoint)"
        )
    if reference and state.reference is None:
        raise StateError(
            f"{folder} holds no reference log-likelihoods, because its run did not need them, and the model of a "
            "checkpoint is no longer the reference: resume with the settings of that run, or start a new run"
        )
    return state, budget


def newest_complete(output: Path, ranks: int = 1) -> Path:
    """Return the newest checkpoint in a folder that can be resumed; log a warning for each newer one that cannot.

    Args:
        output: The folder of the checkpoints.
        ranks: Number of data-parallel ranks, each of which writes its own random state.

    Raises:
        StateError: There is none.
    """
    folders = [path for path in output.glob("checkpoint-*") if _CHECKPOINT.fullmatch(path.name)]
    skipped: list[str] = []
    for path in sorted(folders, key=lambda path: int(path.name.removeprefix("checkpoint-")), reverse=True):
        problem = _incomplete(path, ranks)
        if problem is None:
            for line in skipped:
                logger.warning("%s", line)
            return path
        skipped.append(f"{path} is incomplete ({problem}) and is skipped.")
    raise StateError(
        "\n".join([f"resume_from_checkpoint=true, but there is no checkpoint to resume from in {output}", *skipped])
    )


def step_of(checkpoint: Path) -> int:
    """Return the optimizer step of a checkpoint.

    Raises:
        StateError: It is not a Trainer checkpoint.
    """
    try:
        return int(json.loads((checkpoint / _TRAINER_STATE).read_text())["global_step"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StateError(f"{checkpoint} is not a Trainer checkpoint ({error}): name another folder") from None


def identity_of(data: Any, config: Mapping[str, Any]) -> dict[str, str]:
    """Return digests that tell a run's model and data from those of other runs. Reads the whole forget set.

    Args:
        data: The training data, with the attribute `forget` and optionally `retain`.
        config: The model's configuration; the place and the release it was loaded with do not count.
    """
    with drawing(0):  # the dataset may draw random numbers; the run's own stay unchanged
        forget = digest_of(data.forget)
        retain = digest_of(getattr(data, "retain", None) or (), at_most=64)
    return {"model": _digest_of_config(config), "forget_set": forget, "retain_set": retain}


def digest_of(samples: Any, at_most: int | None = None) -> str:
    """Return the number of tokenised samples and a digest of their tokens, or of those of about `at_most` samples."""
    digest = hashlib.sha256()
    every = 1 if at_most is None else max(1, len(samples) // at_most)
    for index in range(0, len(samples), every):
        sample = original_of(samples[index])
        for key in ("input_ids", "labels"):
            digest.update(torch.as_tensor(sample[key]).to(torch.int64).numpy().tobytes())
    return f"{len(samples)} samples {digest.hexdigest()[:16]}"


def _digest_of_config(config: Mapping[str, Any]) -> str:
    volatile = {"_name_or_path", "transformers_version", "torch_dtype", "dtype", "use_cache", "architectures"}
    volatile |= {"bos_token_id", "eos_token_id", "pad_token_id"}  # the Trainer copies them from the tokenizer
    kept = {key: value for key, value in config.items() if key not in volatile and not key.startswith("_")}
    return hashlib.sha256(json.dumps(kept, sort_keys=True, default=str).encode()).hexdigest()[:16]


def _read(path: Path) -> tuple[SampleState, Tensor | None, dict[str, str]]:
    """Return the state of the samples and of the budget in a file, and what they belong to."""
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        note = json.loads(str(arrays.pop(_ABOUT)))
        if note.pop("format") != _FORMAT:
            raise ValueError("its format is unknown")
        if note.pop("checksum") != _checksum(arrays):
            raise ValueError("its checksum does not match")
        if wrong := [name for name, array in arrays.items() if array.dtype != _COLUMNS.get(name)]:
            raise ValueError(f"unexpected column {wrong[0]} of type {arrays[wrong[0]].dtype}")
        columns = {name: torch.from_numpy(array) for name, array in arrays.items()}
        budget = columns.pop("budget", None)
        return SampleState(**columns), budget, note
    except Exception as error:  # damage shows as an error of zipfile, zlib, numpy or json
        raise StateError(f"{path} is damaged ({error}). {_REMEDY}") from None


def _incomplete(checkpoint: Path, ranks: int) -> str | None:
    """Return what a checkpoint lacks, or `None` if it is complete."""
    try:
        step_of(checkpoint)
    except StateError:
        return f"no readable {_TRAINER_STATE}, which is written last"
    if not (checkpoint / FILE_NAME).is_file():
        return f"no {FILE_NAME}"
    random_states = ["rng_state.pth"] if ranks == 1 else [f"rng_state_{rank}.pth" for rank in range(ranks)]
    missing = [name for name in random_states if not (checkpoint / name).is_file()]
    return f"no {missing[0]}" if missing else None


def _checksum(arrays: Mapping[str, Any]) -> str:
    digest = hashlib.sha256()
    for name in sorted(arrays):
        digest.update(f"{name} {arrays[name].dtype} {arrays[name].shape} ".encode())
        digest.update(np.ascontiguousarray(arrays[name]).tobytes())
    return digest.hexdigest()
