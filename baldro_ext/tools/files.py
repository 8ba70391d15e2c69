"""Two rules that every tool keeps: never replace what baldro did not make, and never make again what is made."""

import contextlib
import errno
import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from baldro_ext.errors import RefusedError
from baldro_ext.suggest import shortened

MANIFEST = ".baldro.json"
"""Beside the files of a tool: the SHA-256 of each as it was written, by its path relative to the folder."""


_REMEDIES = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), "free some space, or use another folder"),
    errno.EFBIG: "raise the limit on the size of files (ulimit -f), or use another file system",
    **dict.fromkeys((errno.EACCES, errno.EPERM), "change its permissions, or use another folder"),
    errno.EROFS: "use a folder that can be written",
    **dict.fromkeys(
        (errno.EEXIST, errno.ENOTDIR), "a file is where a folder should be: move it away, or use another folder"
    ),
    errno.EISDIR: "a folder is where a file should be: move it away, or use another folder",
    errno.ENAMETOOLONG: "use shorter names",
    errno.EMFILE: "raise the limit on open files (ulimit -n)",
}


def explained(error: OSError, place: Path | str | None = None) -> str:
    """Return what a file system refused, where, and what to do about it.

    `place` is where it was raised, for errors that name no file, as those of a full disk do.
    """
    where = error.filename or place
    remedy = _REMEDIES.get(error.errno or 0)
    return (f"{where}: " if where else "") + (error.strerror or str(error)) + (f"; {remedy}" if remedy else "")


def write(folder: Path, files: Mapping[str, bytes], instead_of: Iterable[str] = ()) -> None:
    """Write all files into a folder, or none of them where one would replace somebody else's.

    A file may be replaced if it has this content already, or still has the content that a tool gave it: one that was
    edited since is the user's.

    Args:
        folder: Made if missing.
        files: Contents by path relative to the folder.
        instead_of: Files of an earlier call, to be removed where it wrote them, nobody has edited them, and they are
            not among the new ones.

    Raises:
        RefusedError: A file of another content is in the way; nothing was written.
        OSError: The folder cannot be written.
    """
    digests = {name: sha256(content) for name, content in files.items()}
    changed = {name: content for name, content in files.items() if _digest(folder / name) != digests[name]}
    check(folder, changed)
    for name, content in changed.items():
        replace(folder / name, content)
    written = _manifest(folder)
    old = {name for name in instead_of if name not in files and written.get(name, "") == _digest(folder / name)}
    for name in old:
        (folder / name).unlink()
    noted = {name: digest for name, digest in (written | digests).items() if name not in old}
    if noted != written:
        replace(folder / MANIFEST, json.dumps(noted, indent=1).encode() + b"\n")


def check(folder: Path, names: Iterable[str]) -> None:
    """Refuse a folder in which `write` could not replace these files, before the long work that makes them."""
    written = _manifest(folder)
    there = [name for name in names if os.path.lexists(folder / name)]
    in_the_way = [name for name in there if _digest(folder / name) != written.get(name, "")]
    if in_the_way:
        raise RefusedError(
            f"{folder} has files that baldro did not make, or that were edited since: {shortened(in_the_way, 3)}. "
            "Nothing was changed: move them away, or choose another folder"
        )


def is_made(file: Path, recipe: Mapping[str, Any]) -> bool:
    """Whether `mark_made` noted in a file that this very recipe was carried out to the end."""
    return bool(recipe_of(file) == json.loads(json.dumps(recipe)))


def mark_made(file: Path, recipe: Mapping[str, Any]) -> None:
    """Note in a JSON file that a recipe, all that a result depends on, was carried out to the end."""
    replace(file, json.dumps({"recipe": recipe}, indent=1).encode() + b"\n")


def recipe_of(file: Path) -> Any:
    """Return the recipe that a file of `mark_made` notes; `None` where there is none."""
    try:
        return json.loads(file.read_bytes())["recipe"]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _manifest(folder: Path) -> dict[str, str]:
    try:
        return dict(json.loads((folder / MANIFEST).read_bytes()))
    except (OSError, ValueError, TypeError):
        return {}


def _digest(file: Path) -> str | None:
    """Return the SHA-256 of a file, or None where there is a folder, a link or nothing."""
    return sha256(file.read_bytes()) if file.is_file() and not file.is_symlink() else None


def sha256(content: bytes) -> str:
    """Return the SHA-256 of a content, 64 hex digits."""
    return hashlib.sha256(content).hexdigest()


def replace(file: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(f".{file.name}.partial")
    try:
        partial.write_bytes(content)
        partial.replace(file)
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise OSError(error.errno, error.strerror, str(file)) from None
