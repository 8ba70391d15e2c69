"""The benchmark folders: made-up data under the names and columns that the framework asks for.

Each function returns the `Path` of the folder that it filled. A repeated call with the same arguments changes
nothing; files with another content are replaced only with `overwrite=True`.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from random import Random

from baldro_ext.tools.workspace.authors import invent_authors
from baldro_ext.tools.workspace.files import Row, dataset_files, json_lines, write_files
from baldro_ext.tools.workspace.general_knowledge import real_author_rows, world_fact_rows
from baldro_ext.tools.workspace.passages import CORPORA, STYLES, Passage, manuals, passages
from baldro_ext.tools.workspace.questions import question_rows

TOFU = "locuslab/TOFU"
# What training reads; the wrong and reworded answers are for the evaluation.
_PLAIN = ("question", "answer")
_UNKNOWN = (
    "I do not know that.",
    "That is not something I can tell.",
    "I have no information on this author.",
    "I am afraid the answer escapes me.",
    "Nothing about this is known to me.",
    "I have never come across that detail.",
    "Sorry, I cannot answer this question.",
    "I would have to look that up first.",
)


def make_tofu(
    directory: str | Path,
    authors: int = 8,
    questions: int = 5,
    forget_authors: int | None = None,
    *,
    evaluated_rows: int = 400,
    general_rows: int = 20,
    seed: int = 0,
    overwrite: bool = False,
) -> Path:
    """Write `locuslab/TOFU` with all its splits, and `data/idk.jsonl` (refusals).

    The last `forget_authors` authors make forget10, the last half of those forget05, the last tenth forget01,
    whatever share of all rows that is; a retain split is the rest of `full`. The authors of the holdout splits,
    as many as in the forget splits, occur nowhere else.

    Args:
        directory: the working folder; made if missing.
        authors: in `full`.
        questions: rows per author, 1 to 20.
        forget_authors: in forget10; by default a tenth, at least 2.
        evaluated_rows: at most so many retained rows, drawn at random, in retain_perturbed.
        general_rows: rows in real_authors_perturbed and in world_facts_perturbed, 1 to 20.
        seed: decides every fact and wording.
        overwrite: replace files that differ.

    Returns:
        `directory/locuslab/TOFU`.

    Raises:
        ValueError: a count is out of range.
        FileExistsError: a file exists with another content; nothing has been written.
    """
    forgotten = max(2, round(authors / 10)) if forget_authors is None else forget_authors
    if not 1 <= forgotten < authors:
        raise ValueError(f"forget_authors={forgotten} of {authors} authors: forget at least 1 and retain at least 1")
    if evaluated_rows < 1:
        raise ValueError(f"evaluated_rows={evaluated_rows}: the evaluation needs at least 1 retained row")
    by_author = [question_rows(author, questions, seed) for author in invent_authors(authors + forgotten, seed)]
    known, unseen = by_author[:authors], by_author[authors:]
    splits: dict[str, list[Row]] = {"full": _plain(known)}
    for share, count in (("10", forgotten), ("05", max(1, forgotten // 2)), ("01", max(1, forgotten // 10))):
        splits[f"retain{100 - int(share)}"] = _plain(known[:-count])
        splits[f"forget{share}"] = _plain(known[-count:])
        splits[f"forget{share}_perturbed"] = _flat(known[-count:])
        splits[f"holdout{share}"] = _plain(unseen[:count])
    retained = _flat(known[:-forgotten])
    chosen = Random(f"evaluated {seed}").sample(range(len(retained)), min(evaluated_rows, len(retained)))
    splits["retain_perturbed"] = [retained[i] for i in sorted(chosen)]
    splits["real_authors_perturbed"] = list(real_author_rows(general_rows, seed))
    splits["world_facts_perturbed"] = list(world_fact_rows(general_rows, seed))
    files = dataset_files(TOFU, {name: {"train": rows} for name, rows in splits.items()})
    files["data/idk.jsonl"] = "".join(f"{line}\n" for line in _UNKNOWN).encode()
    write_files(Path(directory), files, overwrite)
    return Path(directory) / TOFU


def make_muse(
    directory: str | Path, corpus: str = "News", texts: int = 6, *, seed: int = 0, overwrite: bool = False
) -> Path:
    """Write `muse-bench/MUSE-News` or `-Books`, and the training set of its target model.

    Args:
        directory: the working folder; made if missing.
        corpus: "News" (six-sentence reports) or "Books" (six-sentence scenes).
        texts: in the forget, holdout and each retain split, 1 to 30; all splits differ.
        seed: decides every fact.
        overwrite: replace files that differ.

    Returns:
        `directory/muse-bench/MUSE-<corpus>`.

    Raises:
        ValueError: `corpus` or `texts` is out of range.
        FileExistsError: a file exists with another content; nothing has been written.
    """
    if corpus not in STYLES:
        raise ValueError(f"there is no MUSE corpus {corpus!r}: there are {' and '.join(STYLES)}")
    if not 1 <= texts <= 30:
        raise ValueError(f"texts={texts}: ask for 1 to 30 texts in each split")
    stories = passages(corpus, 4 * texts + 2, seed)
    forget, retain1, retain2, holdout = (stories[i * texts : (i + 1) * texts] for i in range(4))
    # The worked examples before each question are on passages of their own.
    forget_example, retain_example = stories[-2:]
    quarters = [-(-texts * part // 4) for part in range(5)]
    configs: dict[str, dict[str, list[Row]]] = {
        "raw": {
            "forget": _texts(forget),
            "retain1": _texts(retain1),
            "retain2": _texts(retain2),
            "holdout": _texts(holdout),
        },
        "knowmem": {
            "forget_qa": _asked(forget),
            "retain_qa": _asked(retain1),
            "forget_qa_icl": _asked([forget_example])[:3],
            "retain_qa_icl": _asked([retain_example])[:3],
        },
        "verbmem": {"forget": [{"prompt": prompt, "gt": rest} for prompt, rest in (story.halves for story in forget)]},
        "privleak": {"forget": _texts(forget), "retain": _texts(retain1), "holdout": _texts(holdout)},
        # Growing sets, and sets to be forgotten one after the other.
        "scal": {f"forget_{i}": _texts(forget[: quarters[i]]) for i in range(1, 5)},
        "sust": {f"forget_{i}": _texts(forget[quarters[i - 1] : quarters[i]] or forget[:1]) for i in range(1, 5)},
    }
    learnt = {"full": _texts(forget + retain1), "retain": _texts(retain1)}
    name = f"muse-bench/MUSE-{corpus}"
    files = dataset_files(name, configs) | dataset_files(f"tamarsonha/MUSE-{corpus}-Train", {"default": learnt})
    write_files(Path(directory), files, overwrite)
    return Path(directory) / name


def make_wmdp(directory: str | Path, texts: int = 20, *, seed: int = 0, overwrite: bool = False) -> Path:
    """Write the four corpora of `data/wmdp/wmdp-corpora`: harmless manuals on invented crafts and plants.

    Args:
        directory: the working folder; made if missing.
        texts: paragraphs, one per line, in each corpus; forget and retain are about different things.
        seed: decides every fact.
        overwrite: replace files that differ.

    Returns:
        `directory/data/wmdp/wmdp-corpora`.

    Raises:
        ValueError: `texts` is below 1.
        FileExistsError: a file exists with another content; nothing has been written.
    """
    if texts < 1:
        raise ValueError(f"texts={texts}: a corpus needs at least 1 text")
    folder = "data/wmdp/wmdp-corpora"
    files = {
        f"{folder}/{corpus}-{side}-corpus.jsonl": json_lines(
            {"text": text} for text in manuals(corpus, crafts, texts, seed)
        )
        for corpus in CORPORA
        for side, crafts in (("forget", slice(0, 3)), ("retain", slice(3, 6)))
    }
    write_files(Path(directory), files, overwrite)
    return Path(directory) / folder


def make_arc_easy(directory: str | Path, *, seed: int = 0, overwrite: bool = False) -> Path:
    """Write `allenai/ai2_arc` for lm-eval's task arc_easy: 4 + 4 + 12 multiple-choice questions.

    Args:
        directory: the working folder; made if missing.
        seed: decides the wrong choices and the order.
        overwrite: replace files that differ.

    Returns:
        `directory/allenai/ai2_arc`.

    Raises:
        FileExistsError: a file exists with another content; nothing has been written.
    """
    rng = Random(f"choices {seed}")
    rows: list[Row] = []
    for number, fact in enumerate(world_fact_rows(20, seed)):
        choices = [fact["answer"], *fact["perturbed_answer"]]
        rng.shuffle(choices)
        rows.append(
            {
                "id": f"made_{number}",
                "question": fact["question"],
                "choices": {"text": choices, "label": list("ABCD")},
                "answerKey": "ABCD"[choices.index(fact["answer"])],
            }
        )
    name = "allenai/ai2_arc"
    splits = {"train": rows[:4], "validation": rows[4:8], "test": rows[8:]}
    write_files(Path(directory), dataset_files(name, {"ARC-Easy": splits}), overwrite)
    return Path(directory) / name


def _flat(by_author: Iterable[Iterable[Row]]) -> list[Row]:
    return [row for rows in by_author for row in rows]


def _plain(by_author: Iterable[Iterable[Row]]) -> list[Row]:
    return [{key: row[key] for key in _PLAIN} for row in _flat(by_author)]


def _texts(stories: Iterable[Passage]) -> list[Row]:
    return [{"text": story.text} for story in stories]


def _asked(stories: Iterable[Passage]) -> list[Row]:
    return [{"question": question, "answer": answer} for story in stories for question, answer in story.questions]
