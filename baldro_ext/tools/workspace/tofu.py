"""A made-up TOFU in the layout that the framework and `datasets` load, and what of it a model should know."""

from __future__ import annotations

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

    Raises:
        RefusedError: A file of another content is in the way; nothing was written.
        UsageError: `text` has no TOFU.
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
    contents = dataset_files(TOFU, {name: {"train": rows} for name, rows in splits.items()}, origin)
    rows = {folder / name: content for name, content in contents.items() if name.endswith(".json")}
    others = [file.name for file, content in rows.items() if file.is_file() and file.read_bytes() != content]
    if others and (folder / "models").exists():
        raise RefusedError(
            f"{folder} has models of other rows than these, which differ in {shortened(others, 3)}. Nothing was "
            "changed: choose another folder"
        )
    files.write(folder, contents | {"data/idk.jsonl": "".join(f"{line}\n" for line in REFUSALS).encode()})


def read_rows(folder: Path, split: str) -> list[Row]:
    """Return the rows of a split of TOFU in a working folder.

    Raises:
        FileNotFoundError: The folder has no such split.
    """
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


def dataset_files(
    name: str, configs: Mapping[str, Mapping[str, Iterable[Row]]], origin: str = _MADE_UP
) -> dict[str, bytes]:
    """Return the files of a dataset that `datasets.load_dataset(name, config, split=...)` finds in its folder.

    Args:
        name: The folder of the dataset.
        configs: Rows by configuration and split.
        origin: Where the rows come from, for the dataset's card.
    """
    card = ["---", "configs:"]
    contents = {}
    for config, splits in configs.items():
        lines = {split: json_lines(rows) for split, rows in splits.items()}
        # The datasets library names its cache after the card alone: without a digest of the rows in it, a
        # second working folder with the same split names would silently be given the rows of the first.
        digest = files.sha256(b"\n".join(lines.values()))[:16]
        card += [f"- config_name: {config}", f"  description: rows {digest}", "  data_files:"]
        for split, content in lines.items():
            file = f"{config}.json" if list(splits) == ["train"] else f"{config}/{split}.json"
            card += [f"  - split: {split}", f"    path: {file}"]
            contents[f"{name}/{file}"] = content
    card += ["---", origin, ""]
    return {f"{name}/README.md": "\n".join(card).encode(), **contents}


def json_lines(rows: Iterable[Row]) -> bytes:
    """Return rows as UTF-8 JSON lines, keys in the order given."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def _plain(rows: Iterable[Row]) -> list[Row]:
    """Return what training reads of rows; the wrong and reworded answers are for the evaluation."""
    return [{key: row[key] for key in ("question", "answer")} for row in rows]
