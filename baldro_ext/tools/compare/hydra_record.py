"""Hydra's record of a run: its configuration and its command line."""

from __future__ import annotations

import functools
import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from baldro_ext.tools.compare.errors import BrokenFileError
from baldro_ext.tools.compare.reading import mapping, printable, read, sequence

_REFERENCE = re.compile(r"\$\{([\w.]+)\}")
_DEEPEST = 4  # references that lead to references
_RETAIN_LOGS = re.compile(r"\$\{baldro\.retain_logs:(\w+),\$\{(\w+)\}\}")


@dataclass(frozen=True)
class HydraRecord:
    """What Hydra wrote into `.hydra` for one training or evaluation; empty where nothing was recorded."""

    config: dict[Any, Any]  # as it is written, with Hydra's own below `hydra`

    def get(self, *keys: str) -> str | None:
        """Return the first value that is known and not null; keys are dotted.

        References to other keys are followed, but no resolver is called: a file of somebody else must not read this
        machine's environment.
        """
        return next((value for key in keys if (value := self._value(key, _DEEPEST)) is not None), None)

    def _value(self, key: str, depth: int) -> str | None:
        value = functools.reduce(lambda node, part: mapping(node).get(part), key.split("."), self.config)
        if isinstance(value, str) and depth:
            value = _REFERENCE.sub(lambda it: self._value(it[1], depth - 1) or it[0], value)
        return None if value is None or "${" in str(value) else printable(value)

    @property
    def working_folder(self) -> Path | None:
        """Where the command was typed."""
        folder = self.get("hydra.runtime.cwd")
        return Path(folder) if folder else None

    @property
    def model(self) -> str | None:
        """Name or path of the model that was loaded; a path below the working folder is relative to it."""
        name, folder = self.get("model.model_args.pretrained_model_name_or_path"), self.working_folder
        if name and folder and Path(name).is_relative_to(folder):
            return str(Path(name).relative_to(folder))
        return name

    @property
    def overrides(self) -> list[str]:
        """What was typed behind the command."""
        hydra = mapping(self.config.get("hydra"))
        return [printable(it) for it in sequence(mapping(hydra.get("overrides")).get("task"))]

    @property
    def command(self) -> str | None:
        """The command as typed in the working folder."""
        script = self.get("hydra.job.name")
        return shlex.join(["python", f"src/{script}.py", *self.overrides]) if script else None

    def retain_logs(self, benchmark: str) -> str | None:
        """Return the path of the retain model's evaluation, also where `${baldro.retain_logs:...}` looked for it."""
        resolver = _RETAIN_LOGS.fullmatch(str(self.config.get("retain_logs_path")))
        if resolver is None:
            return self.get(f"eval.{benchmark.lower()}.retain_logs_path", "retain_logs_path")
        name, split = resolver[1], self.get(resolver[2])
        return f"saves/eval/{name}_{self.get('hydra.runtime.choices.model')}_{split}/{name.upper()}_EVAL.json"


@functools.cache  # parsing takes a tenth of a second; `find_runs` forgets what was read before
def read_record(folder: Path | None) -> HydraRecord:
    """Return the record of an output folder.

    Raises:
        BrokenFileError: The record holds something else.
        OSError: It cannot be read.
    """
    config = _load(folder / ".hydra" / "config.yaml") if folder else {}
    if folder and config:
        config["hydra"] = _load(folder / ".hydra" / "hydra.yaml").get("hydra")
    return HydraRecord(config)


def _load(path: Path) -> dict[Any, Any]:
    """Return the mapping in a YAML file; empty where nothing has this name."""
    content = read(path)
    if content is None:
        return {}
    try:
        # A few lines with aliases can stand for gigabytes.
        if b"&" in content and any(isinstance(token, yaml.AliasToken) for token in yaml.scan(content)):
            raise ValueError("it has aliases, which Hydra does not write")
        if not (data := mapping(yaml.safe_load(content))):
            raise ValueError("it holds no configuration")
        return data
    except (ValueError, TypeError, RecursionError, yaml.YAMLError) as error:  # TypeError: a key that is a mapping
        reason = " ".join(str(error).split())
        raise BrokenFileError(f"cannot read {path}: {reason}. Leave this run out, or delete the file") from None
