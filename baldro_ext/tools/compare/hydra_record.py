"""Hydra's record of a run: its configuration and its command line."""

from __future__ import annotations

import functools
import io
import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from baldro_ext.open_unlearning.resolvers import chosen_name
from baldro_ext.tools.compare.errors import BrokenFileError
from baldro_ext.tools.compare.fields import Fields, exists, printable

_RUN_NAME = re.compile(r"\$\{baldro\.run_name:(.+)\}")
_RESOLVER = re.compile(r"\$\{[^${}]*:")
_RETAIN_LOGS = re.compile(r"\$\{baldro\.retain_logs:(\w+),(.+)\}")


@dataclass(frozen=True)
class HydraRecord:
    """What Hydra wrote into `.hydra` for one training or evaluation; empty where nothing was recorded."""

    # Without interpolations that call a resolver: a file of somebody else must not read this machine's environment.
    config: DictConfig = field(default_factory=OmegaConf.create)
    raw: Fields = field(default_factory=lambda: Fields(Path()))  # all of it, interpolations as they are written
    choices: dict[str, str] = field(default_factory=dict)  # configuration by group, such as trainer and model
    overrides: tuple[str, ...] = ()  # as typed behind the command
    script: str | None = None  # `train` or `eval`
    working_folder: Path | None = None  # where the command was typed

    @classmethod
    def of(cls, folder: Path | None) -> HydraRecord:
        """Return the record of an output folder; that of a sweep's job is below `multirun`.

        Raises:
            BrokenFileError: The record cannot be read.
        """
        if folder is None:
            return cls()
        if exists(folder / ".hydra" / "config.yaml"):
            return _read(folder / ".hydra")
        sweeps = folder.parent.parent.parent.glob("multirun/**/.hydra/config.yaml")
        records = (_read(path.parent) for path in sorted(sweeps, reverse=True))
        return next((it for it in records if (it.get("mode"), it._task) == (folder.parent.name, folder.name)), cls())

    @property
    def exists(self) -> bool:
        """Whether anything was recorded."""
        return bool(self.raw.content)

    def get(self, *keys: str) -> str | None:
        """Return the first value that is not null, missing or impossible to resolve; keys are dotted."""
        for key in keys:
            try:
                value = OmegaConf.select(self.config, key)
            except (OmegaConfBaseException, RecursionError):  # the latter: interpolations in a circle
                continue
            if value is not None:
                return printable(str(value))
        return None

    @property
    def model(self) -> str | None:
        """Name or path of the model that was loaded; a path below the working folder is relative to it."""
        name = self.get("model.model_args.pretrained_model_name_or_path")
        if name and self.working_folder and Path(name).is_relative_to(self.working_folder):
            return str(Path(name).relative_to(self.working_folder))
        return name

    @property
    def command(self) -> str | None:
        """The command as typed in the working folder."""
        return shlex.join(["python", f"src/{self.script}.py", *self.overrides]) if self.script else None

    def retain_logs(self, benchmark: str) -> tuple[str | None, bool]:
        """Return the path of the retain model's evaluation, and whether the run went on without it if it was missing.

        With `${baldro.retain_logs:...}` it is the path that the resolver looks at.
        """
        optional = _RETAIN_LOGS.fullmatch(str(self.raw.content.get("retain_logs_path")))
        if optional is None:
            return self.get(f"eval.{benchmark.lower()}.retain_logs_path", "retain_logs_path"), False
        name, model, split = optional[1], self.choices.get("model"), self._resolved(optional[2])
        return f"saves/eval/{name}_{model}_{split}/{name.upper()}_EVAL.json", True

    @property
    def _task(self) -> str | None:
        """The run's `task_name`, also where this package's experiments derive it from the overrides."""
        derived = _RUN_NAME.fullmatch(str(self.raw.content.get("task_name")))
        if derived is None:
            return self.get("task_name")
        parts = [self._resolved(part) for part in derived[1].split(",")]
        parts += [self.choices.get(group, "") for group in ("model", "trainer")]
        return chosen_name(*parts, overrides=self.overrides)

    def _resolved(self, part: str) -> str:
        part = part.strip()
        return self.get(part[2:-1]) or part if part.startswith("${") else part


def _read(folder: Path) -> HydraRecord:
    (config, raw), settings = _load(folder / "config.yaml"), folder / "hydra.yaml"
    hydra = (_load(settings)[1] if exists(settings) else Fields(settings)).within("hydra")
    runtime = hydra.within("runtime")
    choices, cwd = runtime.within("choices"), runtime.get("cwd", str)
    return HydraRecord(
        config=config,
        raw=raw,
        choices={group: choices.get(group, str) or "" for group in choices.content},
        overrides=tuple(printable(str(it)) for it in hydra.within("overrides").get("task", list) or ()),
        script=hydra.within("job").get("name", str),
        working_folder=Path(cwd) if cwd else None,
    )


def _without_resolvers(node: Any) -> Any:
    """Return plain data in which each value that calls a resolver is missing."""
    if isinstance(node, dict):
        return {key: _without_resolvers(value) for key, value in node.items()}
    if isinstance(node, list):
        return [_without_resolvers(value) for value in node]
    return "???" if isinstance(node, str) and _RESOLVER.search(node) else node


def _load(path: Path) -> tuple[DictConfig, Fields]:
    # Parsing takes a tenth of a second, and each folder that may belong to a record asks for it.
    return _parsed(path, path.stat().st_mtime_ns)


@functools.lru_cache(maxsize=4096)
def _parsed(path: Path, modified: int) -> tuple[DictConfig, Fields]:
    """Return a file as a configuration without calls of resolvers, and as plain data."""
    try:
        text = path.read_text(encoding="utf-8")
        # A few lines with aliases can stand for gigabytes.
        if "&" in text and any(isinstance(token, yaml.AliasToken) for token in yaml.scan(text)):
            raise yaml.YAMLError("it has aliases, which Hydra does not write")
        content = OmegaConf.to_container(OmegaConf.load(io.StringIO(text)), resolve=False)
        # An empty file, or a line of text, which OmegaConf takes for a key.
        if not isinstance(content, dict) or all(it is None for it in content.values()):
            raise yaml.YAMLError("it holds no configuration")
        return OmegaConf.create(_without_resolvers(content)), Fields(path, content)
    except (OSError, ValueError, RecursionError, yaml.YAMLError, OmegaConfBaseException) as error:
        reason = " ".join(str(error).split())
        raise BrokenFileError(f"cannot read {path}: {reason}. Leave this run out, or delete the file") from None
