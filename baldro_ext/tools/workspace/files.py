"""Writing many files at once, without ever losing somebody's results silently."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

Row = Mapping[str, Any]


def json_lines(rows: Iterable[Row]) -> bytes:
    """Return `rows` as UTF-8 JSON lines, keys in the order given."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def dataset_files(name: str, configs: Mapping[str, Mapping[str, Iterable[Row]]]) -> dict[str, bytes]:
    """Return the files of a dataset that `datasets.load_dataset(name, config, split=...)` finds in its folder."""
    card = ["---", "configs:"]
    files = {}
    for config, splits in configs.items():
        contents = {split: json_lines(rows) for split, rows in splits.items()}
        # The datasets library names its cache after the card alone: without a digest of the rows in it, a
        # second working folder with the same split names would silently be given the rows of the first.
        digest = hashlib.sha256(b"\n".join(contents.values())).hexdigest()[:16]
        card += [f"- config_name: {config}", f"  description: made-up rows {digest}", "  data_files:"]
        for split, content in contents.items():
            file = f"{config}.json" if list(splits) == ["train"] else f"{config}/{split}.json"
            card += [f"  - split: {split}", f"    path: {file}"]
            files[f"{name}/{file}"] = content
    card += ["---", "Made-up data in the layout of the benchmark of this name; no text is the benchmark's.", ""]
    return {f"{name}/README.md": "\n".join(card).encode(), **files}


def write_files(directory: Path, files: Mapping[str, bytes], overwrite: bool = False) -> None:
    """Write every file, or none where one exists with another content.

    Args:
        directory: root of the working folder; made if missing.
        files: content by path relative to `directory`. What is already there byte by byte is left alone.
        overwrite: replace existing files that differ.

    Raises:
        FileExistsError: a file exists and differs, and `overwrite` is false; nothing has been written.
    """
    changed = {name: content for name, content in files.items() if not _holds(directory / name, content)}
    if not overwrite:
        refuse_to_replace(directory, [name for name in changed if os.path.lexists(directory / name)])
    for name, content in changed.items():
        target = directory / name
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f".{target.name}.partial")
        partial.write_bytes(content)
        partial.replace(target)


def refuse_to_replace(directory: Path, names: list[str]) -> None:
    """Raise FileExistsError if `names`, the differing files under `directory`, is not empty."""
    if names:
        shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
        raise FileExistsError(
            f"{directory} already holds files with another content: {shown}. Nothing was written: "
            "choose another directory, or pass overwrite=True to replace them"
        )


def _holds(path: Path, content: bytes) -> bool:
    return path.is_file() and path.read_bytes() == content
