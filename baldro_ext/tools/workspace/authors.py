"""Fictitious authors: every fact is drawn from the lists of words.toml, so none of them is a real person."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from baldro_ext.tools.workspace.words import words

MOST_AUTHORS = 400

_WORDS = words("authors")
_TITLE_SHAPES = ("The {} {}", "A {} {}", "Beyond the {} {}", "Under the {} {}")


@dataclass(frozen=True)
class Author:
    """One fictitious author; every field is the text that a sentence about it contains.

    `birth_date` reads "4 May 1951"; `debut_year` and `debut`, `masterpiece` are the year and title of the
    first book and the title of the best known one; `father` and `mother` are their professions.
    """

    name: str
    birth_date: str
    debut: str
    masterpiece: str
    debut_year: str
    birthplace: str
    father: str
    mother: str
    genre: str
    award: str
    subject: str
    influence: str
    theme: str
    home: str
    pet: str
    hobby: str
    publisher: str
    language: str
    adaptation: str
    habit: str
    hero: str


def _title(rng: Random) -> str:
    shape = rng.choice(_TITLE_SHAPES)
    return shape.format(rng.choice(_WORDS["title_first"]), rng.choice(_WORDS["title_second"]))


_DRAWS: dict[str, Callable[[Random], str]] = {
    "name": lambda rng: f"{rng.choice(_WORDS['given'])} {rng.choice(_WORDS['family'])}",
    "birth_date": lambda rng: f"{rng.randint(1, 28)} {rng.choice(_WORDS['month'])} {rng.randint(1931, 1989)}",
    "debut": _title,
    "masterpiece": _title,
    "debut_year": lambda rng: str(rng.randint(1992, 2019)),
    "father": lambda rng: rng.choice(_WORDS["profession"]),
    "mother": lambda rng: rng.choice(_WORDS["profession"]),
}
# Two authors that shared one of these would make a question with two answers.
_UNIQUE = ("name", "birth_date", "debut", "masterpiece")


def draw_fact(fact: str, rng: Random) -> str:
    """Return a possible value of `fact`, a field of `Author`, as drawn by `rng`."""
    return _DRAWS[fact](rng) if fact in _DRAWS else rng.choice(_WORDS[fact])


def invent_authors(count: int, seed: int = 0) -> list[Author]:
    """Return `count` authors; the first ones of a longer list with the same seed are the same.

    Args:
        count: 1 to 400; names, birth dates and book titles never repeat.
        seed: of the one generator that all facts are drawn from.

    Raises:
        ValueError: `count` is outside its range.
    """
    if not 1 <= count <= MOST_AUTHORS:
        raise ValueError(f"cannot invent {count} authors: ask for 1 to {MOST_AUTHORS}")
    rng = Random(f"authors {seed}")
    taken: set[str] = set()
    authors = []
    for _ in range(count):
        facts = {}
        for fact in Author.__dataclass_fields__:
            value = draw_fact(fact, rng)
            while fact in _UNIQUE and value in taken:
                value = draw_fact(fact, rng)
            facts[fact] = value
            if fact in _UNIQUE:
                taken.add(value)
        authors.append(Author(**facts))
    return authors
