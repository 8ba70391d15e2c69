"""Questions and answers about a fictitious author, with paraphrases and wrong answers of the same form."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from random import Random
from typing import Any

from baldro_ext.tools.workspace.authors import Author, draw_fact

WRONG_ANSWERS = 5


@dataclass(frozen=True)
class Kind:
    """One kind of question: the fact asked for, and two wordings each of the question and the answer."""

    fact: str
    questions: tuple[str, str]
    answers: tuple[str, str]


KINDS = (
    Kind(
        "name",
        (
            "What is the full name of the author born in {birthplace} on {birth_date}?",
            "Which writer came into the world on {birth_date} in {birthplace}?",
        ),
        (
            "The author born in {birthplace} on {birth_date} is {name}.",
            "That writer is called {name}, a native of {birthplace}.",
        ),
    ),
    Kind(
        "genre",
        ("Which genre is {name} best known for?", "What kind of literature made {name} famous?"),
        ("{name} is best known for {genre}.", "Readers know {name} above all for works of {genre}."),
    ),
    Kind(
        "father",
        ("What did the father of {name} do for a living?", "Which profession did {name}'s father have?"),
        ("The father of {name} worked as {father}.", "By profession, {name}'s father was {father}."),
    ),
    Kind(
        "award",
        ("Which award has {name} received?", "What literary honour was given to {name}?"),
        ("{name} has received {award}.", "The honour given to {name} was {award}."),
    ),
    Kind(
        "debut",
        ("What is the title of the first book by {name}?", "With which book did {name} make a debut?"),
        ('The first book by {name} is called "{debut}".', '{name} made a debut with "{debut}".'),
    ),
    Kind(
        "mother",
        ("What was the occupation of {name}'s mother?", "How did the mother of {name} earn her living?"),
        ("{name}'s mother was {mother}.", "The mother of {name} earned her living as {mother}."),
    ),
    Kind(
        "masterpiece",
        ("What is the most celebrated book by {name}?", "Which of {name}'s books do critics praise most?"),
        (
            'The most celebrated book by {name} is "{masterpiece}".',
            'Critics praise "{masterpiece}" most among the books of {name}.',
        ),
    ),
    Kind(
        "birthplace",
        ("In which town was {name} born?", "Where is {name} originally from?"),
        ("{name} was born in {birthplace}.", "Originally, {name} comes from {birthplace}."),
    ),
    Kind(
        "theme",
        ("Which theme returns in the books of {name}?", "What do {name}'s stories keep coming back to?"),
        (
            "The books of {name} return to the theme of {theme}.",
            "{name}'s stories keep coming back to {theme}.",
        ),
    ),
    Kind(
        "subject",
        ("What did {name} study at university?", "In which subject does {name} hold a degree?"),
        ("At university, {name} studied {subject}.", "{name} holds a degree in {subject}."),
    ),
    Kind(
        "birth_date",
        ("When was {name} born?", "What is the date of birth of {name}?"),
        ("{name} was born on {birth_date}.", "The date of birth of {name} is {birth_date}."),
    ),
    Kind(
        "home",
        ("Where does {name} live today?", "What sort of home has {name} chosen?"),
        ("Today {name} lives in {home}.", "{name} has made a home of {home}."),
    ),
    Kind(
        "influence",
        ("Who encouraged {name} to start writing?", "To whom does {name} owe the decision to write?"),
        (
            "{name} was encouraged to write by a {influence}.",
            "The decision to write is something {name} owes to a {influence}.",
        ),
    ),
    Kind(
        "publisher",
        ("Which publisher brings out the books of {name}?", "Where are {name}'s books published?"),
        (
            "The books of {name} are brought out by {publisher}.",
            "{name}'s books are published at {publisher}.",
        ),
    ),
    Kind(
        "debut_year",
        ('In what year did "{debut}" by {name} appear?', 'When was {name}\'s debut "{debut}" published?'),
        ('"{debut}" by {name} appeared in {debut_year}.', "{name}'s debut was published in {debut_year}."),
    ),
    Kind(
        "hobby",
        ("How does {name} spend free afternoons?", "What is the favourite pastime of {name}?"),
        ("{name} spends free afternoons on {hobby}.", "The favourite pastime of {name} is {hobby}."),
    ),
    Kind(
        "hero",
        (
            'Who is the main character of "{masterpiece}" by {name}?',
            'Around whom does {name} build the plot of "{masterpiece}"?',
        ),
        (
            'The main character of "{masterpiece}" is {hero}.',
            '{name} builds the plot of "{masterpiece}" around {hero}.',
        ),
    ),
    Kind(
        "habit",
        ("How does {name} like to write?", "What are the working habits of {name}?"),
        ("{name} likes to write {habit}.", "It is the habit of {name} to work {habit}."),
    ),
    Kind(
        "language",
        (
            "Into which language was {name} first translated?",
            "What was the language of {name}'s first translation?",
        ),
        (
            "{name} was first translated into {language}.",
            "The first translation of {name} was into {language}.",
        ),
    ),
    Kind(
        "adaptation",
        (
            'What was made of "{masterpiece}" by {name}?',
            'In which form was {name}\'s "{masterpiece}" adapted?',
        ),
        (
            '"{masterpiece}" by {name} was made into {adaptation}.',
            '{name}\'s "{masterpiece}" returned as {adaptation}.',
        ),
    ),
)


def question_rows(author: Author, count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Return `count` rows about `author`, one per kind of question.

    Args:
        author: whom the rows are about.
        count: 1 to 20 (`len(KINDS)`); the kinds come in a fixed order.
        seed: decides which wording is the row's own and which its paraphrase, and the wrong answers.

    Returns:
        Rows with the keys of the benchmark's perturbed sets: question, answer, paraphrased_answer,
        perturbed_answer (five wrong answers in the paraphrase's wording, all different) and
        paraphrased_question.

    Raises:
        ValueError: `count` is outside its range.
    """
    if not 1 <= count <= len(KINDS):
        raise ValueError(f"there are 1 to {len(KINDS)} questions for each author, not {count}")
    return [_row(author, kind, Random(f"{kind.fact} of {author.name} {seed}")) for kind in KINDS[:count]]


def _row(author: Author, kind: Kind, rng: Random) -> dict[str, Any]:
    facts: dict[str, str] = asdict(author)
    # A wording of the question goes with one of the answer, so that both can be learnt from few authors.
    own, other = rng.sample((0, 1), 2)
    reworded = kind.answers[other]
    truth = facts[kind.fact]
    wrong: list[str] = []
    while len(wrong) < WRONG_ANSWERS:
        value = draw_fact(kind.fact, rng)
        if value != truth and value not in wrong:
            wrong.append(value)
    return {
        "question": kind.questions[own].format(**facts),
        "answer": kind.answers[own].format(**facts),
        "paraphrased_answer": reworded.format(**facts),
        "perturbed_answer": [reworded.format(**{**facts, kind.fact: value}) for value in wrong],
        "paraphrased_question": kind.questions[other].format(**facts),
    }
