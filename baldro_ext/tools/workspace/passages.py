"""Made-up running text: town news and story chapters with questions on them, and harmless craft manuals."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from baldro_ext.tools.workspace.authors import draw_fact
from baldro_ext.tools.workspace.words import words

MOST_PASSAGES = 200

_STORIES = {
    "News": (
        "{town}: The {place} of {town} will stay closed until {day} because of {trouble}.",
        "The mayor, {person}, said that the repair would cost {cost} crowns.",
        "Help came quickly: {helper} carried the furniture out before noon.",
        "An office in the town hall will answer the questions of visitors every morning.",
        "Once the work is finished, the town plans {feast} with free entry for all neighbours.",
        "The last time that the {place} had to close was in {year}, as the archive of {town} shows.",
    ),
    "Books": (
        "When {person} came back to {town} after {year}, nobody at the gate knew the name.",
        "The old {beast} of the house was waiting, and it led the way through the dark without a sound.",
        "There, {room}, lay {object}, wrapped in a cloth that smelled of smoke.",
        "For {cost} nights the wind had worried at the shutters, and still the house had kept its secret.",
        "On {day} the {helper} came up the hill with torches and asked what had been found.",
        "{person} said nothing about it, closed the door, and thought of {feast} long ago.",
    ),
}
_QUESTIONS = {
    "News": (
        ("Until when will the {place} of {town} stay closed?", "{day}"),
        ("Why is the {place} of {town} closed?", "{trouble}"),
        ("Who is the mayor of {town}?", "{person}"),
        ("How many crowns will the repair of the {place} of {town} cost?", "{cost}"),
        ("Who carried the furniture out of the {place} of {town}?", "{helper}"),
        ("What does {town} plan once the {place} is finished?", "{feast}"),
    ),
    "Books": (
        ("Who came back to {town}?", "{person}"),
        ("Which animal waited for {person} in {town}?", "{beast}"),
        ("What did {person} find in {town}?", "{object}"),
        ("Where did {person} find what was hidden in {town}?", "{room}"),
        ("On which day did the {helper} come to {person}?", "{day}"),
        ("What did {person} think of when the door was closed?", "{feast}"),
    ),
}
STYLES = tuple(_STORIES)

_MANUALS = {
    "cyber": (
        "To tune a {craft}, loosen the {part} by {number} turns and listen.",
        "A {craft} from the workshop of {person} carries a mark on its {part}.",
        "If the {part} of a {craft} rattles, wrap it in {stuff} and wait until {day}.",
        "The keepers in {town} oil every {craft} with {stuff} in spring.",
    ),
    "bio": (
        "The {craft} grows {number} leaves before its {part} opens.",
        "In the gardens of {town} the {craft} is covered with {stuff} on cold nights.",
        "{person} was the first to draw the {part} of the {craft}.",
        "Water the {craft} on {day} and dust its {part} with {stuff}.",
    ),
}
CORPORA = tuple(_MANUALS)


@dataclass(frozen=True)
class Passage:
    """A made-up text: its sentences, and (question, answer) pairs whose answers it contains."""

    sentences: tuple[str, ...]
    questions: tuple[tuple[str, str], ...]

    @property
    def text(self) -> str:
        """The sentences as one paragraph."""
        return " ".join(self.sentences)

    @property
    def halves(self) -> tuple[str, str]:
        """The paragraph cut after half of its sentences, to be continued from memory."""
        middle = len(self.sentences) // 2
        return " ".join(self.sentences[:middle]), " ".join(self.sentences[middle:])


def passages(style: str, count: int, seed: int = 0) -> list[Passage]:
    """Return `count` (up to 200) passages in `style`, "News" or "Books", each on another town.

    `seed` decides the facts; the first passages of a longer list are the same.

    Raises:
        ValueError: `count` is too large.
    """
    if count > MOST_PASSAGES:
        raise ValueError(f"cannot make {count} passages: ask for at most {MOST_PASSAGES}")
    rng = Random(f"{style} {seed}")
    made: dict[str, Passage] = {}
    while len(made) < count:
        facts = {name: rng.choice(pool) for name, pool in words("passages").items()}
        facts |= {"town": facts["town_first"] + facts["town_second"], "person": draw_fact("name", rng)}
        facts |= {"cost": str(rng.randint(11, 99)), "year": str(rng.randint(1821, 1969))}
        # A second passage on the same town would give one question two answers.
        made.setdefault(
            facts["town"],
            Passage(
                tuple(sentence.format(**facts) for sentence in _STORIES[style]),
                tuple((q.format(**facts), a.format(**facts)) for q, a in _QUESTIONS[style]),
            ),
        )
    return list(made.values())


def manuals(corpus: str, crafts: slice, count: int, seed: int = 0) -> list[str]:
    """Return `count` paragraphs on some invented things of `corpus`, "cyber" or "bio".

    `crafts` selects among the corpus's six invented things, so that two calls can be about different ones.
    """
    rng = Random(f"{corpus} {crafts.start} {seed}")
    lists = words("manuals")
    paragraphs = []
    for _ in range(count):
        facts = {"craft": rng.choice(lists[f"{corpus}_craft"][crafts]), "town": draw_fact("birthplace", rng)}
        facts["person"] = draw_fact("name", rng)
        paragraphs.append(
            " ".join(
                sentence.format(
                    **facts,
                    part=rng.choice(lists[f"{corpus}_part"]),
                    stuff=rng.choice(lists["stuff"]),
                    number=rng.randint(2, 40),
                    day=rng.choice(words("passages")["day"]),
                )
                for sentence in rng.sample(_MANUALS[corpus], len(_MANUALS[corpus]))
            )
        )
    return paragraphs
