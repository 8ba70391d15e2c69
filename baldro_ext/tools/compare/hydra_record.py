"""Hydra's record of a run: its configuration and its command line."""

from __future__ import annotations

import functools
import io
import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from baldro_ext.tools.compare.errors import BrokenFileError
from baldro_ext.tools.compare.reading import mapping, printable, read, sequence

_RESOLVER = re.compile(r"\$\{[^${}]*:")
_RETAIN_LOGS = re.compile(r"\$\{baldro\.retain_logs:(\w+),\$\{(\w+)\}\}")


@dataclass(frozen=True)
class HydraRecord:
    """What Hydra wrote into `.hydra` for one training or evaluation; empty where nothing was recorded."""

    raw: dict[Any, Any]  # the configuration, with Hydra's own below `hydra`; interpolations as they are written
    # Without interpolations that call a resolver: a file of somebody else must not read this machine's environment.
    config: DictConfig

    def get(self, *keys: str) -> str | None:
        """Return the first value that is not null, missing or impossible to resolve; keys are dotted."""
        for key in keys:
            try:
                value = OmegaConf.select(self.config, key)
            except (OmegaConfBaseException, RecursionError):  # the latter: interpolations in a circle
                continue
            if value is not None:
                return printable(value)
        return None

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
        return [printable(it) for it in sequence(mapping(mapping(self.raw.get("hydra")).get("overrides")).get("task"))]

    @property
    def command(self) -> str | None:
        """The command as typed in the working folder."""
        script = self.get("hydra.job.name")
        return shlex.join(["python", f"src/{script}.py", *self.overrides]) if script else None

    def retain_logs(self, benchmark: str) -> str | None:
        """Return the path of the retain model's evaluation, also where `${baldro.retain_logs:...}` looked for it."""
        resolver = _RETAIN_LOGS.fullmatch(str(self.raw.get("retain_logs_path")))
        if resolver is None:
            return self.get(f"eval.{benchmark.lower()}.retain_logs_path", "retain_logs_path")
        name, split = resolver[1], self.get(resolver[2])
        return f"saves/eval/{name}_{self.get('hydra.runtime.choices.model')}_{split}/{name.upper()}_EVAL.json"


@functools.cache  # parsing takes a tenth of a second; `find_runs` forgets what it read before
def read_record(folder: Path | None) -> HydraRecord:
    """Return the record of an output folder.

    Raises:
        BrokenFileError: The record cannot be read.
        OSError: Likewise.
    """
    raw = _load(folder / ".hydra" / "config.yaml") if folder else {}
    if folder and raw:
        raw["hydra"] = _load(folder / ".hydra" / "hydra.yaml").get("hydra")
    return HydraRecord(raw, OmegaConf.create(_without_resolvers(raw)))


def _without_resolvers(node: Any) -> Any:
    """Return plain data in which each value that calls a resolver is missing."""
    if isinstance(node, dict):
        return {key: _without_resolvers(value) for key, value in node.items()}
    if isinstance(node, list):
        return [_without_resolvers(value) for value in node]
    return "???" if isinstance(node, str) and _RESOLVER.search(node) else node


def _load(path: Path) -> dict[Any, Any]:
    """Return a YAML file as plain data; empty where nothing has this name."""
    content = read(path)
    if content is None:
        return {}
    try:
        text = content.decode()
        # A few lines with aliases can stand for gigabytes.
        if "&" in text and any(isinstance(token, yaml.AliasToken) for token in yaml.scan(text)):
            raise yaml.YAMLError("it has aliases, which Hydra does not write")
        data = OmegaConf.to_container(OmegaConf.load(io.StringIO(text)), resolve=False)
        # An empty file, or a line of text, which OmegaConf takes for a key.
        if not isinstance(data, dict) or all(it is None for it in data.values()):
            raise yaml.YAMLError("it holds no configuration")
        OmegaConf.create(_without_resolvers(data))
        return data
    except (OSError, ValueError, RecursionError, yaml.YAMLError, OmegaConfBaseException) as error:
        reason = " ".join(str(error).split())
        raise BrokenFileError(f"cannot read {path}: {reason}. Leave this run out, or delete the file") from None
