"""Files of others are data, and may be damaged: what is read from them is checked here, where it enters."""

import functools
import json
import math
import re
import reprlib
from pathlib import Path
from typing import Any, TypeGuard

import pandas as pd
import yaml

from baldro_ext.errors import BaldroError

_REFERENCE = re.compile(r"\$\{([\w.]+)\}")
_DEEPEST = 4  # references that lead to references
_PUBLISHED = ["method", "metric", "value", "seed", "source"]


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file, or an empty one where nothing has this name."""
    text = _read(path)
    try:
        content = {} if text is None else json.loads(text)
        if not isinstance(content, dict):
            raise ValueError(f"{reprlib.repr(content)} where a mapping belongs")
    except (ValueError, RecursionError) as error:  # json's own error tells line and column
        again = "evaluate again with eval.tofu.overwrite=true or eval.muse.overwrite=true, or "
        raise BaldroError(
            f"{path} is not valid JSON ({error}), probably because the job was stopped while writing it: "
            f"{again if path.stem.endswith(('_EVAL', '_SUMMARY')) else ''}leave this run out"
        ) from None
    return content


@functools.cache  # parsing takes a tenth of a second; `find_runs` forgets what was read before
def read_config(folder: Path | None) -> dict[Any, Any]:
    """Return what Hydra recorded in an output folder: configuration, and its own below `hydra`; empty for nothing."""
    config = _read_yaml(folder / ".hydra" / "config.yaml") if folder else {}
    return {**config, **_read_yaml(folder / ".hydra" / "hydra.yaml")} if folder and config else config


def lookup(config: dict[Any, Any], *keys: str, depth: int = _DEEPEST) -> str | None:
    """Return the first of these dotted keys that has a value, as text.

    References to other keys are followed, but no resolver is called: a file of somebody else must not read this
    machine's environment.
    """
    for key in keys:
        value: Any = config
        for part in key.split("."):
            value = mapping(value).get(part)
        if isinstance(value, str) and depth:
            value = _REFERENCE.sub(lambda it: lookup(config, it[1], depth=depth - 1) or it[0], value)
        if value is not None and "${" not in str(value):
            return printable(value)
    return None


def read_published(file: Path | None = None) -> pd.DataFrame:
    """Return the numbers of others in a CSV file with columns method, metric, value, and optionally seed and source."""
    if file is None:
        return pd.DataFrame(columns=_PUBLISHED)
    try:
        table = pd.read_csv(file, dtype=str, keep_default_na=False, skipinitialspace=True)
    except (OSError, ValueError) as error:  # pandas' own errors are ValueErrors
        raise BaldroError(f"cannot read {file}: {error}. It needs columns method, metric and value") from None
    if lacking := [name for name in _PUBLISHED[:3] if name not in table]:
        raise BaldroError(f"{file} has no column {' and '.join(lacking)}: name the columns in its first line")
    table = table.reindex(columns=_PUBLISHED, fill_value="").map(printable)
    table["value"] = pd.to_numeric(table["value"], errors="coerce").astype(float)
    bad = table.index[(table[["method", "metric"]] == "").any(axis=1) | ~table["value"].map(is_number)]
    if len(bad):
        raise BaldroError(f"{file}, line {bad[0] + 2}: every row needs a method, a metric and a number as value")
    return table


def _read(path: Path) -> bytes | None:
    """Return the content of a file, or `None` where nothing has this name."""
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        if path.is_symlink():
            raise
        return None


def _read_yaml(path: Path) -> dict[Any, Any]:
    content = _read(path)
    try:
        # A few lines with aliases can stand for gigabytes.
        if content and b"&" in content and any(isinstance(it, yaml.AliasToken) for it in yaml.scan(content)):
            raise ValueError("it has aliases, which Hydra does not write")
        data = {} if content is None else yaml.safe_load(content)
        if content is not None and not mapping(data):
            raise ValueError("it holds no configuration")
        return mapping(data)
    except (ValueError, TypeError, RecursionError, yaml.YAMLError) as error:  # TypeError: a key that is a mapping
        reason = " ".join(str(error).split())
        raise BaldroError(f"cannot read {path}: {reason}. Leave this run out, or delete the file") from None


def is_number(value: Any) -> TypeGuard[float]:
    """Whether a value is a finite number that a float can hold."""
    try:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:  # an integer of hundreds of digits
        return False


def mapping(value: Any) -> dict[Any, Any]:
    """Return a mapping as it is, and for anything else an empty one."""
    return value if isinstance(value, dict) else {}


def sequence(value: Any) -> list[Any]:
    """Return a list as it is, and for anything else an empty one."""
    return value if isinstance(value, list) else []


def printable(value: Any) -> str:
    """Return a value as text without control characters, which steer terminals, and lone surrogates."""
    return "".join(sign if sign.isprintable() else "\N{REPLACEMENT CHARACTER}" for sign in str(value))
