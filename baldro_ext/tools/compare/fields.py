"""Files of others are data, and may be damaged: whatever is read from them is checked here, where it enters."""

from __future__ import annotations

import json
import math
import os
import reprlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeGuard, TypeVar

from baldro_ext.tools.compare.errors import BrokenFileError

_Value = TypeVar("_Value", str, int, float, list[Any], dict[Any, Any])
_WORDS = {str: "text", int: "a whole number of 64 bits", float: "a finite number", list: "a list", dict: "a mapping"}


@dataclass(frozen=True)
class Fields:
    """A mapping from a file, whose values are checked as they are read.

    Attributes:
        path: The file, for messages.
        content: As it was parsed.

    Raises:
        BrokenFileError: The content is no mapping.
    """

    path: Path
    content: dict[Any, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not isinstance(self.content, dict):
            raise BrokenFileError(
                f"{self.path} has {reprlib.repr(self.content)} where a mapping belongs: leave this run out"
            )

    def get(self, key: str, kind: type[_Value]) -> _Value | None:
        """Return a value, or `None` where it is missing or null; text without control characters.

        Raises:
            BrokenFileError: It is of another kind.
        """
        value = self.content.get(key)
        if value is None:
            return None
        if kind is float and is_number(value):
            value = float(value)
        number = kind in (int, float)
        if not isinstance(value, kind) or (number and not is_number(value)) or (kind is int and abs(value) >= 2**63):
            raise BrokenFileError(
                f"{self.path}: {key} is {reprlib.repr(value)} instead of {_WORDS[kind]}: leave this run out"
            )
        return printable(value) if isinstance(value, str) else value

    def within(self, key: str) -> Fields:
        """Return the mapping below a key; empty where there is none."""
        return Fields(self.path, self.get(key, dict) or {})


def read_json(path: Path) -> Fields:
    """Return the object in a JSON file.

    Raises:
        BrokenFileError: The file holds something else.
        OSError: It cannot be read.
    """
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        reason = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
        where = f" in line {error.lineno}, column {error.colno}" if isinstance(error, json.JSONDecodeError) else ""
        raise BrokenFileError(
            f"{path} is not valid JSON ({reason}{where}), probably because the job was stopped while writing it: "
            "evaluate again with eval.tofu.overwrite=true or eval.muse.overwrite=true, or leave this run out"
        ) from None
    return Fields(path, content)


def read_json_if_there(path: Path) -> Fields:
    """Return the object in a JSON file, as `read_json`; empty where there is no such name."""
    return read_json(path) if exists(path) else Fields(path)


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
