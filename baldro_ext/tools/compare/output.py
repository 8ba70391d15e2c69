"""Files of a comparison: written together, replaced when they are its own, and never in place of somebody else's."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from baldro_ext.tools.compare.errors import BrokenFileError, ForeignFileError
from baldro_ext.tools.compare.records import read_json

MANIFEST = "comparison.json"
"""Holds the comparison for programs, and under `files` the digests by which it knows its files again."""


def write(folder: Path, files: Mapping[str, bytes], content: Mapping[str, Any]) -> None:
    """Write files and manifest into a folder; remove what an earlier comparison wrote and this one does not.

    Raises:
        ForeignFileError: A file of one of these names is not of an earlier comparison, or was changed since.
    """
    earlier = _earlier(folder)
    foreign = [name for name in files if (folder / name).exists() and not _own(folder / name, earlier.get(name))]
    if foreign:
        raise ForeignFileError(
            f"{', '.join(str(folder / name) for name in foreign)} would be replaced, but is not as a comparison wrote "
            "it: move it away, or choose another folder with --out"
        )
    folder.mkdir(parents=True, exist_ok=True)
    for name, old in earlier.items():
        if name not in files and _own(folder / name, old):
            (folder / name).unlink(missing_ok=True)
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    # The manifest comes first: a write that breaks off leaves files that the next one knows.
    manifest = json.dumps({**content, "files": digests}, indent=2, ensure_ascii=False, allow_nan=False)
    _replace(folder / MANIFEST, manifest.encode() + b"\n")
    for name, data in files.items():
        _replace(folder / name, data)


def _earlier(folder: Path) -> dict[str, str]:
    path = folder / MANIFEST
    if not path.exists():
        return {}
    try:
        files = read_json(path).get("files")
    except BrokenFileError:
        files = None
    if not isinstance(files, dict):
        raise ForeignFileError(f"{path} is not of a comparison: move it away, or choose another folder with --out")
    return files


def _own(path: Path, digest: str | None) -> bool:
    """Whether a file is as a comparison wrote it; a missing one counts, for a write may have broken off."""
    return digest is not None and (not path.exists() or hashlib.sha256(path.read_bytes()).hexdigest() == digest)


def _replace(path: Path, data: bytes) -> None:
    """Put a file in place at once, so that no reader sees half of it."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
