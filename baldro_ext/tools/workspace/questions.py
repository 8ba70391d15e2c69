"""Questions and answers of the made-up TOFU: fictitious authors, and well-known books, capitals, rivers and planets.

The text is in tofu.toml. Every fact about an author is drawn at random, so that none of them is a real person.
"""

from __future__ import annotations

import tomllib
from importlib.resources import files
from random import Random
from typing import Any

Row = dict[str, Any]

MOST_AUTHORS = 400
_TEXT: dict[str, Any] = tomllib.loads(files(__package__).joinpath("tofu.toml").read_text(encoding="utf-8"))
_LISTS: dict[str, Any] = _TEXT["lists"] | {
    "day": range(1, 29),
    "birth_year": range(1931, 1990),
    "debut_year": range(1992, 2020),
}
# Two authors that shared one of these would make a question with two answers.
_UNIQUE = ("name", "birth_date", "debut", "masterpiece")


def invent_authors(count: int, seed: int = 0) -> list[dict[str, str]]:
    """Return the facts of `count` authors, by the names in tofu.toml; a longer list begins with the same authors.

    Raises:
        ValueError: `count` is not 1 to `MOST_AUTHORS`.
    """
    if not 1 <= count <= MOST_AUTHORS:
        raise ValueError(f"cannot invent {count} authors: ask for 1 to {MOST_AUTHORS}, the holdout's included")
    rng = Random(f"authors {seed}")
    taken: set[str] = set()
    made = []
    for _ in range(count):
        author = {}
        for fact in _TEXT["facts"]:
            value = _draw(fact, rng)
            while fact in _UNIQUE and value in taken:
                value = _draw(fact, rng)
            if fact in _UNIQUE:
                taken.add(value)
            author[fact] = value
        made.append(author)
    return made


def author_rows(author: dict[str, str], count: int, seed: int = 0) -> list[Row]:
    """Return `count` rows about an author, in the columns of TOFU's perturbed splits.

    Args:
        author: One of `invent_authors`.
        count: 1 to 20; the questions come in the order of tofu.toml.
        seed: Decides which wording is the row's own and which its paraphrase, and the wrong answers.

    Returns:
        Rows with question, answer, paraphrased_answer, perturbed_answer (five wrong answers in the wording of the
        paraphrase, all different) and paraphrased_question.

    Raises:
        ValueError: `count` is out of range.
    """
    kinds = list(_TEXT["questions"].items())
    if not 1 <= count <= len(kinds):
        raise ValueError(f"there are 1 to {len(kinds)} questions about each author, not {count}")
    rows = []
    for fact, wordings in kinds[:count]:
        rng = Random(f"{fact} of {author['name']} {seed}")
        # A question and an answer are reworded together, so that both wordings can be learnt from few authors.
        (question, answer), (reworded, paraphrase) = rng.sample(wordings, 2)
        wrong: list[str] = []
        while len(wrong) < 5:
            value = _draw(fact, rng)
            if value not in (author[fact], *wrong):
                wrong.append(value)
        rows.append(
            {
                "question": question.format(**author),
                "answer": answer.format(**author),
                "paraphrased_answer": paraphrase.format(**author),
                "perturbed_answer": [paraphrase.format(**author | {fact: value}) for value in wrong],
                "paraphrased_question": reworded.format(**author),
            }
        )
    return rows


def real_author_rows(seed: int = 0) -> list[Row]:
    """Return 20 rows on famous books, in the columns of TOFU's general knowledge.

    Returns:
        Rows with question, answer, perturbed_answer (three wrong answers) and original_answer, a sentence.
    """
    return _general("books", seed)


def world_fact_rows(seed: int = 0) -> list[Row]:
    """Return 20 rows on capitals, rivers and planets, like `real_author_rows`."""
    subjects = [_general(subject, seed) for subject in ("capitals", "rivers", "planets")]
    # In turns, so that a few of them have all three subjects.
    return [rows[i] for i in range(max(map(len, subjects))) for rows in subjects if i < len(rows)]


def _general(subject: str, seed: int) -> list[Row]:
    table = _TEXT["general"][subject]
    answers = [answer for _, answer in table["known"]]
    return [
        {
            "question": table["question"].format(thing),
            "answer": answer,
            "perturbed_answer": Random(f"{thing} {seed}").sample([other for other in answers if other != answer], 3),
            "original_answer": table["answer"].format(thing, answer),
        }
        for thing, answer in table["known"]
    ]


def _draw(fact: str, rng: Random) -> str:
    return " ".join(str(rng.choice(_LISTS[part])) for part in _TEXT["joined"].get(fact, [fact]))
