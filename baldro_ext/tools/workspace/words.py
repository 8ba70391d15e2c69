"""The lists of `words.toml`, which made-up texts are drawn from."""

from __future__ import annotations

import tomllib
from functools import cache
from importlib.resources import files


@cache
def words(section: str) -> dict[str, list[str]]:
    """Return the lists of one section of words.toml ("authors", "passages" or "manuals") by name."""
    text = files("baldro_ext.tools.workspace").joinpath("words.toml").read_text(encoding="utf-8")
    lists: dict[str, str] = tomllib.loads(text)[section]
    return {name: [" ".join(entry.split()) for entry in joined.split("|")] for name, joined in lists.items()}
