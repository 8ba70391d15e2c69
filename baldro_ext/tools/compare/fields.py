"""Files of others are data, and may be damaged: whatever is read from them is checked here, where it enters."""

from __future__ import annotations

import json
import math
import os
import reprlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeGuard, TypeVar

import pandas as pd

from baldro_ext.tools.compare.errors import BrokenFileError

_Value = TypeVar("_Value", str, int, float, list[Any], dict[Any, Any])
_PUBLISHED = ["method", "metric", "value", "seed", "source"]
_WORDS = {str: "text", int: "a whole number of 64 bits", float: "a finite number", list: "a list", dict: "a mapping"}


@dataclass(frozen=True)
class Fields:
    """The mapping in a file, whose values are checked as they are read: BrokenFileError tells of another kind."""

    path: Path  # for messages
    content: dict[Any, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not isinstance(self.content, dict):
            raise self._broken("its content", self.content, dict)

    def get(self, key: str, kind: type[_Value]) -> _Value | None:
        """Return a value, or `None` where it is missing or null; text without control characters."""
        value = self.content.get(key)
        if value is None:
            return None
        if kind is float and is_number(value):
            value = float(value)
        number = kind in (int, float)
        if not isinstance(value, kind) or (number and not is_number(value)) or (kind is int and abs(value) >= 2**63):
            raise self._broken(key, value, kind)
        return printable(value) if isinstance(value, str) else value

    def within(self, key: str) -> Fields:
        """Return the mapping below a key; empty where there is none."""
        return Fields(self.path, self.get(key, dict) or {})

    def _broken(self, key: str, value: Any, kind: type) -> BrokenFileError:
        return BrokenFileError(
            f"{self.path}: {key} is {reprlib.repr(value)} where {_WORDS[kind]} belongs: leave this run out"
        )


def read_json(path: Path) -> Fields:
    """Return the object in a JSON file, or an empty one where there is no such name.

    Raises:
        BrokenFileError: The file holds something else.
        OSError: It cannot be read.
    """
    if not exists(path):
        return Fields(path)
    try:
        return Fields(path, json.loads(path.read_bytes()))
    except (ValueError, RecursionError) as error:  # json's own error tells line and column
        raise BrokenFileError(
            f"{path} is not valid JSON ({error}), probably because the job was stopped while writing it: "
            "evaluate again with eval.tofu.overwrite=true or eval.muse.overwrite=true, or leave this run out"
        ) from None


def read_published(file: Path | None) -> pd.DataFrame:
    """Return the numbers of others in a CSV file with columns method, metric, value, and optionally seed and source.

    Raises:
        BrokenFileError: The file is no such table, or a value is no number.
    """
    if file is None:
        return pd.DataFrame(columns=_PUBLISHED)
    try:
        table = pd.read_csv(file, dtype=str, keep_default_na=False, skipinitialspace=True)
    except (OSError, ValueError) as error:  # pandas' own errors are ValueErrors
        raise BrokenFileError(f"cannot read {file}: {error}. It needs columns method, metric and value") from None
    if lacking := [name for name in _PUBLISHED[:3] if name not in table]:
        raise BrokenFileError(f"{file} has no column {' and '.join(lacking)}: name the columns in its first line")
    table = table.reindex(columns=_PUBLISHED, fill_value="").map(printable)
    table["value"] = pd.to_numeric(table["value"], errors="coerce").astype(float)
    bad = table.index[(table[["method", "metric"]] == "").any(axis=1) | ~table["value"].map(is_number)]
    if len(bad):
        raise BrokenFileError(f"{file}, line {bad[0] + 2}: every row needs a method, a metric and a number as value")
    return table


def exists(path: Path) -> bool:
    """Whether there is anything of this name, a folder or a broken link included.

    Raises:
        OSError: The folder may not be searched.
    """
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def is_number(value: Any) -> TypeGuard[float]:
    """Whether a value is a finite number that a float can hold."""
    try:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:  # an integer of hundreds of digits
        return False


def printable(text: str) -> str:
    """Replace control characters, which steer terminals, and lone surrogates, which cannot be written."""
    return "".join(sign if sign.isprintable() else "\N{REPLACEMENT CHARACTER}" for sign in text)
