"""General knowledge that unlearning should leave intact: well-known books, capitals, rivers and planets."""

from __future__ import annotations

from random import Random
from typing import Any

WRONG_ANSWERS = 3

_BOOKS = {
    "Crime and Punishment": "Fyodor Dostoevsky",
    "Don Quixote": "Miguel de Cervantes",
    "Dracula": "Bram Stoker",
    "Emma": "Jane Austen",
    "Faust": "Johann Wolfgang von Goethe",
    "Frankenstein": "Mary Shelley",
    "Great Expectations": "Charles Dickens",
    "Gulliver's Travels": "Jonathan Swift",
    "Heart of Darkness": "Joseph Conrad",
    "Jane Eyre": "Charlotte Bronte",
    "King Lear": "William Shakespeare",
    "Les Miserables": "Victor Hugo",
    "Madame Bovary": "Gustave Flaubert",
    "Middlemarch": "George Eliot",
    "Moby-Dick": "Herman Melville",
    "The Divine Comedy": "Dante Alighieri",
    "The Metamorphosis": "Franz Kafka",
    "The Time Machine": "H. G. Wells",
    "Ulysses": "James Joyce",
    "War and Peace": "Leo Tolstoy",
}
_CAPITALS = {
    "Chile": "Santiago",
    "Egypt": "Cairo",
    "Finland": "Helsinki",
    "Ghana": "Accra",
    "Hungary": "Budapest",
    "Japan": "Tokyo",
    "Peru": "Lima",
    "Portugal": "Lisbon",
}
_RIVERS = {
    "Baghdad": "Tigris",
    "Cologne": "Rhine",
    "London": "Thames",
    "Paris": "Seine",
    "Rome": "Tiber",
    "Vienna": "Danube",
}
_PLANETS = {
    "is the closest to the Sun": "Mercury",
    "is the largest": "Jupiter",
    "is known for its wide bright rings": "Saturn",
    "is called the red planet": "Mars",
    "is the farthest from the Sun": "Neptune",
    "spins almost lying on its side": "Uranus",
}


def real_author_rows(count: int = 20, seed: int = 0) -> list[dict[str, Any]]:
    """Return `count` (1 to 20) rows on who wrote a famous book.

    Their keys: question, answer, perturbed_answer (three other authors; `seed` decides which), original_answer.

    Raises:
        ValueError: `count` is outside its range.
    """
    rows = _rows(_BOOKS, "Who is the author of '{}'?", "'{}' was written by {}.", seed)
    return _first(rows, count)


def world_fact_rows(count: int = 20, seed: int = 0) -> list[dict[str, Any]]:
    """Return `count` (1 to 20) rows on capitals, rivers and planets, with the keys of `real_author_rows`.

    Raises:
        ValueError: `count` is outside its range.
    """
    groups = (
        _rows(_CAPITALS, "What is the capital of {}?", "The capital of {} is {}.", seed),
        _rows(_RIVERS, "Which river runs through {}?", "The river that runs through {} is the {}.", seed),
        _rows(_PLANETS, "Which planet of the solar system {}?", "The planet that {} is {}.", seed),
    )
    # In turns, so that a short list has all three subjects.
    longest = max(map(len, groups))
    return _first([group[i] for i in range(longest) for group in groups if i < len(group)], count)


def _rows(table: dict[str, str], question: str, sentence: str, seed: int) -> list[dict[str, Any]]:
    rows = []
    for thing, answer in table.items():
        rng = Random(f"{thing} {seed}")
        others = [value for value in table.values() if value != answer]
        rows.append(
            {
                "question": question.format(thing),
                "answer": answer,
                "perturbed_answer": rng.sample(others, WRONG_ANSWERS),
                "original_answer": sentence.format(thing, answer),
            }
        )
    return rows


def _first(rows: list[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    if not 1 <= count <= len(rows):
        raise ValueError(f"there are 1 to {len(rows)} rows of general knowledge, not {count}")
    return rows[:count]
