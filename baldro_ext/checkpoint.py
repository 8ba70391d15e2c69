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

from baldro_ext.data import drawing
from baldro_ext.errors import BaldroError
from baldro_ext.state import SampleState

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


_TRAINER_STATE = "trainer_state.json"  # the Trainer writes it last


def begin(folder: Path) -> None:
    """Make a checkpoint that is about to be written, perhaps over an older one, incomplete until its end."""
    (folder / _TRAINER_STATE).unlink(missing_ok=True)


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


def newest_complete(output: Path, ranks: int = 1) -> Path:
    """Return the newest checkpoint of a folder that can be resumed, and name the newer ones that cannot in the log.

    Args:
        output: The folder of the checkpoints.
        ranks: Number of data-parallel ranks, each of which writes its own random numbers, and in its own time.

    Raises:
        StateError: There is none.
    """
    found = [(int(match[1]), path) for path in output.glob("checkpoint-*") if (match := _NUMBER.fullmatch(path.name))]
    skipped: list[str] = []
    for _, path in sorted(found, reverse=True):
        problem = _incomplete(path, ranks)
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
        return int(json.loads((checkpoint / _TRAINER_STATE).read_text())["global_step"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StateError(f"{checkpoint} is no checkpoint of a Trainer ({error}): name another one") from None


class Identity:
    """What a run's state belongs to. Computed when it is first asked for, since that reads the forget set.

    Args:
        data: The training data, with the attribute `forget` and, where there are any, `retain`.
        config: The model's configuration; where it was loaded from and by which release do not count.
        settings: What else must not change, by name.
    """

    def __init__(self, data: Any, config: Mapping[str, Any], settings: Mapping[str, str]) -> None:
        self._data = data
        self._config = config
        self._settings = settings
        self._about: dict[str, str] | None = None

    def at(self, step: int) -> dict[str, str]:
        """Return it by name, at an optimizer step."""
        if self._about is None:
            with drawing(0):  # a dataset may draw; the run's own random numbers stay as they are
                forget = digest_of(self._data.forget)
                retain = digest_of(getattr(self._data, "retain", None) or (), at_most=64)
            self._about = {"model": _digest_of_config(self._config), "forget_set": forget, "retain_set": retain}
        return {"step": str(step), **self._about, **self._settings}


def digest_of(samples: Any, at_most: int | None = None) -> str:
    """Identify tokenised samples, of a list or a dataset, by their number and their tokens; of many, by some."""
    digest = hashlib.sha256()
    every = 1 if at_most is None else max(1, len(samples) // at_most)
    for index in range(0, len(samples), every):
        sample = samples[index]
        for key in ("input_ids", "labels"):
            digest.update(torch.as_tensor(sample[key]).to(torch.int64).numpy().tobytes())
    return f"{len(samples)} samples {digest.hexdigest()[:16]}"


def _digest_of_config(config: Mapping[str, Any]) -> str:
    volatile = {"_name_or_path", "transformers_version", "torch_dtype", "dtype", "use_cache", "architectures"}
    volatile |= {"bos_token_id", "eos_token_id", "pad_token_id"}  # which a Trainer takes over from the tokenizer
    kept = {key: value for key, value in config.items() if key not in volatile and not key.startswith("_")}
    return hashlib.sha256(json.dumps(kept, sort_keys=True, default=str).encode()).hexdigest()[:16]


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
    _compare(path, note, {"step": about["step"]})  # it says nothing else that a later release could compare
    return state


def _compare(path: Path, found: Mapping[str, str], wanted: Mapping[str, str]) -> None:
    different = [name for name in wanted if found.get(name) != wanted[name]]
    if different:
        lines = "; ".join(f"{name}: {found.get(name)} there, {wanted[name]} here" for name in different)
        raise StateError(
            f"{path} belongs to another run ({lines}), and numbers of two runs do not mix: resume with the settings of "
            "that run, or start anew from the model before unlearning (without resume_from_checkpoint)"
        )


def _incomplete(checkpoint: Path, ranks: int) -> str | None:
    """Say what a checkpoint lacks."""
    try:
        step_of(checkpoint)
    except StateError:
        return f"no readable {_TRAINER_STATE}, which is written last"
    if not any((checkpoint / name).is_file() for name in (FILE_NAME, _OLD_FILE_NAME)):
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
