"""A made-up TOFU in the layout that the framework and `datasets` load, and what of it a model should know."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from baldro_ext.errors import RefusedError, UsageError
from baldro_ext.suggest import shortened
from baldro_ext.tools import files
from baldro_ext.tools.workspace.questions import REFUSALS, Row, author_rows, general_rows, invent_authors

TOFU = "locuslab/TOFU"
_MADE_UP = "Made-up data in the layout of the benchmark of this name; no text is the benchmark's."


def make_tofu(folder: Path, authors: int = 8, questions: int = 5, forget_authors: int = 2, seed: int = 0) -> None:
    """Write `locuslab/TOFU` with all its splits, and `data/idk.jsonl` (refusals), or what is missing of them.

    The last `forget_authors` of the `authors` make forget10, the last half of those forget05, the last tenth forget01,
    whatever share of all rows that is; a retain split is the rest of `full`. The authors of the holdout splits, as many
    as in the forget splits, occur nowhere else.

    Raises:
        ValueError: A number is out of range.
        RefusedError: A file of another content is in the way; nothing was written.
    """
    if not 1 <= forget_authors < authors:
        raise ValueError(f"forget_authors={forget_authors} of {authors} authors: forget at least 1, retain at least 1")
    everyone = invent_authors(authors + forget_authors, seed)
    rows = [row for author in everyone for row in author_rows(author, questions, seed)]
    full, unseen = rows[: authors * questions], rows[authors * questions :]
    splits = {"full": _plain(full)}
    for share, part in ((10, 1), (5, 2), (1, 10)):
        count = max(1, forget_authors // part) * questions
        splits[f"retain{100 - share}"] = _plain(full[:-count])
        splits[f"forget{share:02}"] = _plain(full[-count:])
        splits[f"forget{share:02}_perturbed"] = full[-count:]
        splits[f"holdout{share:02}"] = _plain(unseen[:count])
    splits["retain_perturbed"] = full[: -forget_authors * questions]
    splits["real_authors_perturbed"] = general_rows("books", seed=seed)
    splits["world_facts_perturbed"] = general_rows("capitals", "rivers", "planets", seed=seed)
    _write(folder, splits, _MADE_UP)


def copy_tofu(text: Path, folder: Path, retain_rows: int | None = None) -> None:
    """Copy the TOFU of another folder, or with `retain_rows` only so many of the rows to retain.

    They are the first of retain90; in `full` and in the other retain splits only these and forget10 are left.
    """
    splits = {file.stem: read_rows(text, file.stem) for file in sorted((text / TOFU).glob("*.json"))}
    if missing := [name for name in ("full", "retain90", "forget10") if name not in splits]:
        raise UsageError(f"{text / TOFU} has no {missing[0]}.json: give a folder with TOFU's files in {TOFU}")
    known = {row["question"] for row in [*splits["retain90"][:retain_rows], *splits["forget10"]]}
    for name in splits:
        if name == "full" or name.startswith("retain"):
            splits[name] = [row for row in splits[name] if row["question"] in known]
    _write(folder, splits, "Rows of another folder with this layout.")


def _write(folder: Path, splits: Mapping[str, Iterable[Row]], origin: str) -> None:
    contents = {f"{TOFU}/{name}.json": json_lines(rows) for name, rows in splits.items()}
    others = [
        name for name, rows in contents.items() if (folder / name).is_file() and (folder / name).read_bytes() != rows
    ]
    if others and (folder / "models").exists():
        raise RefusedError(
            f"{folder} has models of other rows than these, which differ in {shortened(others, 3)}. Nothing was "
            "changed: choose another folder"
        )
    card = ["---", "configs:"]
    for name, rows in zip(splits, contents.values(), strict=True):
        # The datasets library names its cache after the card alone: without a digest of the rows in it, a
        # second working folder with the same split names would silently be given the rows of the first.
        card += [f"- config_name: {name}", f"  description: rows {files.sha256(rows)[:16]}", "  data_files:"]
        card += ["  - split: train", f"    path: {name}.json"]
    refusals = "".join(f"{line}\n" for line in REFUSALS)
    texts = {f"{TOFU}/README.md": "\n".join([*card, "---", origin, ""]), "data/idk.jsonl": refusals}
    files.write(folder, contents | {name: text.encode() for name, text in texts.items()})


def read_rows(folder: Path, split: str) -> list[Row]:
    """Return the rows of a split of TOFU in a working folder."""
    lines = (folder / TOFU / f"{split}.json").read_bytes().splitlines()  # in text, U+2028 would end a line too
    return [json.loads(line) for line in lines]


def rows_to_memorise(folder: Path, split: str = "full") -> list[Row]:
    """Return what a model that knows a split of a folder's TOFU should answer, as rows with question and answer.

    Besides the split these are the paraphrases of its rows, as far as the folder has them, because a small model that
    never saw the other wording gives random truth ratios; and the questions on real authors and world facts.
    """
    rows = read_rows(folder, split)
    known = {row["question"] for row in rows}
    rows += [
        {"question": row["paraphrased_question"], "answer": row["paraphrased_answer"]}
        for name in ("retain_perturbed", "forget10_perturbed")
        for row in read_rows(folder, name)
        if row["question"] in known
    ]
    for name in ("real_authors_perturbed", "world_facts_perturbed"):
        rows += read_rows(folder, name)
    return _plain(rows)


def json_lines(rows: Iterable[Row]) -> bytes:
    """Return rows as UTF-8 JSON lines, keys in the order given."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def _plain(rows: Iterable[Row]) -> list[Row]:
    """Return what training reads of rows; the wrong and reworded answers are for the evaluation."""
    return [{key: row[key] for key in ("question", "answer")} for row in rows]
