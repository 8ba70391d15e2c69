"""Questions and answers of the made-up TOFU: fictitious authors, and well-known books, capitals, rivers and planets.

The text is in tofu.toml. Every fact about an author is drawn at random, so that none of them is a real person.
"""

import itertools
import tomllib
from importlib.resources import files
from random import Random
from typing import Any

Row = dict[str, Any]

_MOST_AUTHORS = 400
_TEXT: dict[str, Any] = tomllib.loads(files(__package__).joinpath("tofu.toml").read_text(encoding="utf-8"))
REFUSALS: list[str] = _TEXT["refusals"]
_LISTS: dict[str, Any] = _TEXT["lists"] | {
    "day": range(1, 29),
    "birth_year": range(1931, 1990),
    "debut_year": range(1992, 2020),
}
# Two authors that shared one of these would make a question with two answers.
_UNIQUE = ("name", "birth_date", "debut", "masterpiece")


def invent_authors(count: int, seed: int = 0) -> list[dict[str, str]]:
    """Return the facts of 1 to 400 authors, by the names in tofu.toml; a longer list begins with the same authors."""
    if not 1 <= count <= _MOST_AUTHORS:
        raise ValueError(f"cannot invent {count} authors: ask for 1 to {_MOST_AUTHORS}, the holdout's included")
    rng = Random(f"authors {seed}")
    taken: set[str] = set()
    made: list[dict[str, str]] = [{} for _ in range(count)]
    for author, fact in itertools.product(made, _TEXT["facts"]):
        author[fact] = _draw(fact, rng, taken if fact in _UNIQUE else ())
        if fact in _UNIQUE:
            taken.add(author[fact])
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
    """
    kinds = list(_TEXT["questions"].items())
    if not 1 <= count <= len(kinds):
        raise ValueError(f"there are 1 to {len(kinds)} questions about each author, not {count}")
    rows = []
    for fact, wordings in kinds[:count]:
        rng = Random(f"{fact} of {author['name']} {seed}")
        # A question and an answer are reworded together, so that both wordings can be learnt from few authors.
        (question, answer), (reworded, paraphrase) = rng.sample(wordings, 2)
        known = [author[fact]]
        for _ in range(5):
            known.append(_draw(fact, rng, known))
        rows.append(
            {
                "question": question.format(**author),
                "answer": answer.format(**author),
                "paraphrased_answer": paraphrase.format(**author),
                "perturbed_answer": [paraphrase.format(**author | {fact: wrong}) for wrong in known[1:]],
                "paraphrased_question": reworded.format(**author),
            }
        )
    return rows


def general_rows(*subjects: str, seed: int = 0) -> list[Row]:
    """Return rows on general knowledge in TOFU's columns, from the subjects of tofu.toml in turns.

    Returns:
        Rows with question, answer, perturbed_answer (three wrong answers) and original_answer, a sentence.
    """
    in_turns = itertools.zip_longest(*(_general(_TEXT["general"][subject], seed) for subject in subjects))
    return [row for rows in in_turns for row in rows if row]


def _general(table: dict[str, Any], seed: int) -> list[Row]:
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


def _draw(fact: str, rng: Random, taken: Any = ()) -> str:
    """Return a value of a fact that is not taken."""
    while True:
        value = " ".join(str(rng.choice(_LISTS[part])) for part in _TEXT["joined"].get(fact, [fact]))
        if value not in taken:
            return value
