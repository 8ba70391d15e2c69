"""Files that a run leaves behind: JSON of the framework, and Hydra's record of what was asked for."""

from __future__ import annotations

import functools
import json
import re
import shlex
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from baldro_ext.open_unlearning.resolvers import chosen_name
from baldro_ext.tools.compare.errors import BrokenFileError

_RUN_NAME = re.compile(r"\$\{baldro\.run_name:(.+)\}")
_RETAIN_LOGS = re.compile(r"\$\{baldro\.retain_logs:(\w+),(.+)\}")


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file.

    Raises:
        BrokenFileError: It cannot be read, or holds something else.
    """
    try:
        content = json.loads(path.read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise BrokenFileError(f"cannot read {path}: {error}") from None
    except json.JSONDecodeError as error:
        raise BrokenFileError(
            f"{path} is not valid JSON ({error.msg} in line {error.lineno}, column {error.colno}), as when a job was "
            "stopped while writing it: evaluate again, with eval.tofu.overwrite=true or eval.muse.overwrite=true, "
            "or leave this run out"
        ) from None
    if not isinstance(content, dict):
        raise BrokenFileError(f"{path} holds {type(content).__name__} instead of an object: leave this run out")
    return content


@dataclass(frozen=True)
class Record:
    """What Hydra noted in `.hydra` of a training's or an evaluation's folder.

    Attributes:
        config: The composed configuration, with its interpolations.
        hydra: Hydra's own.
    """

    config: DictConfig
    hydra: DictConfig

    @classmethod
    def of(cls, folder: Path) -> Record | None:
        """Return the record of an output folder; `None` where there is none.

        Raises:
            BrokenFileError: It is there and cannot be read.
        """
        return cls.read(folder / ".hydra") if (folder / ".hydra" / "config.yaml").is_file() else _of_sweep(folder)

    @classmethod
    def read(cls, folder: Path) -> Record:
        """Return the record in a `.hydra` folder."""
        hydra = folder / "hydra.yaml"
        return cls(_read_yaml(folder / "config.yaml"), _read_yaml(hydra) if hydra.is_file() else OmegaConf.create())

    def get(self, key: str) -> str | None:
        """Return a value by its dotted key, interpolations filled in; `None` for null, missing and unresolvable."""
        try:
            value = OmegaConf.select(self.config, key)
        except OmegaConfBaseException:
            return None
        return None if value is None else str(value)

    def has(self, key: str) -> bool:
        """Whether the key is there, be it null."""
        try:
            return OmegaConf.select(self.config, key, default=...) is not ...
        except OmegaConfBaseException:
            return True

    @property
    def trainer(self) -> str | None:
        """The word behind `trainer=`; without Hydra's own record the trainer's class."""
        return self._choices.get("trainer") or self.get("trainer.handler")

    @property
    def folder(self) -> Path | None:
        """The working folder in which the command was typed."""
        place = self._runtime.get("cwd")
        return Path(place) if place else None

    @property
    def command(self) -> str | None:
        """The command, as one would type it in the working folder."""
        job = OmegaConf.select(self.hydra, "hydra.job.name")
        overrides = OmegaConf.select(self.hydra, "hydra.overrides.task")
        if job is None or overrides is None:
            return None
        return shlex.join(["python", f"src/{job}.py", *overrides])

    @property
    def task(self) -> str | None:
        """The run's `task_name`, also where this package's experiments made it of the run's choices."""
        found = _RUN_NAME.fullmatch(self._raw("task_name"))
        if found is None:
            return self.get("task_name")
        parts = [self._filled(part.strip()) for part in found[1].split(",")]
        chosen = [self._choices.get("model", ""), self._choices.get("trainer", "")]
        overrides = OmegaConf.select(self.hydra, "hydra.overrides.task", default=[])
        return chosen_name(*parts, *chosen, overrides=list(overrides))

    def retain_logs(self, benchmark: str) -> str | None:
        """Return where the retain model's evaluation was, as written; `None` for none.

        The experiments of this package look for a file by name (`hosts/resolvers.py`), and what they found is not
        in the record; its name is.
        """
        key = "retain_logs_path" if self.has("retain_logs_path") else f"eval.{benchmark.lower()}.retain_logs_path"
        found = _RETAIN_LOGS.fullmatch(self._raw("retain_logs_path"))
        if found is None:
            return self.get(key)
        model, split = self._choices.get("model"), self._filled(found[2].strip())
        return f"saves/eval/{found[1]}_{model}_{split}/{found[1].upper()}_EVAL.json"

    @property
    def looks_for_retain_logs(self) -> bool:
        """Whether the retain logs were those of the model if there were any, and none otherwise."""
        return _RETAIN_LOGS.fullmatch(self._raw("retain_logs_path")) is not None

    def _raw(self, key: str) -> str:
        node = OmegaConf.to_container(self.config, resolve=False)
        return str(node.get(key)) if isinstance(node, dict) else ""

    def _filled(self, part: str) -> str:
        """Return an argument of a resolver, itself filled in if it is an interpolation."""
        return self.get(part[2:-1]) or part if part.startswith("${") else part

    @cached_property
    def _runtime(self) -> dict[str, Any]:
        container = OmegaConf.to_container(self.hydra, resolve=False)
        hydra = container.get("hydra") if isinstance(container, dict) else None
        return (hydra or {}).get("runtime") or {}

    @property
    def _choices(self) -> dict[str, str]:
        return self._runtime.get("choices") or {}


def _read_yaml(path: Path) -> DictConfig:
    return _parsed(path, path.stat().st_mtime_ns)


# A record is asked for by each folder that may belong to it, and takes a tenth of a second to parse.
@functools.lru_cache(maxsize=4096)
def _parsed(path: Path, modified: int) -> DictConfig:
    try:
        content = OmegaConf.load(path)
    except (OSError, UnicodeDecodeError, yaml.YAMLError, OmegaConfBaseException) as error:
        reason = " ".join(str(error).split())
        raise BrokenFileError(f"cannot read {path}: {reason}. Leave this run out, or delete the file") from None
    if not isinstance(content, DictConfig):
        raise BrokenFileError(f"{path} holds no configuration. Leave this run out, or delete the file")
    return content


def _of_sweep(folder: Path) -> Record | None:
    """Return the record of a multirun's job, which Hydra keeps below `multirun` of the working folder."""
    for path in sorted(folder.parent.parent.parent.glob("multirun/**/.hydra/config.yaml"), reverse=True):
        record = Record.read(path.parent)
        if (record.get("mode"), record.task) == (folder.parent.name, folder.name):
            return record
    return None
