"""A checkout of the framework that a pull request may be made in: of a known commit, with no changes but ours."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from baldro_ext.tools.framework import GENERATIONS, Generation
from baldro_ext.tools.git import git, must
from baldro_ext.tools.upstream.errors import RefusedError


@dataclass(frozen=True)
class Checkout:
    """A working tree and the generation it started from.

    Attributes:
        folder: Its root.
        base: The generation whose commit is HEAD, or else the last one that is an ancestor of HEAD.
        changes: Paths, relative to the root, that differ from the base's commit; ignored files do not count.
    """

    folder: Path
    base: Generation
    changes: frozenset[str]

    @classmethod
    def at(cls, folder: Path, known: Mapping[str, Generation] = GENERATIONS) -> Checkout:
        """Look at a folder without changing it.

        Raises:
            RefusedError: It is not the root of a checkout, or of no known commit.
            GitError: git is not installed or fails.
        """
        if not (folder / ".git").exists():
            raise RefusedError(
                f"{folder} is not the root of a git checkout: name that of a clone of open-unlearning at one of "
                f"{_commits(known)}"
            )
        head = git(folder, "rev-parse", "--verify", "HEAD").stdout.strip()
        base = next((gen for gen in reversed(list(known.values())) if _descends(folder, gen)), None)
        if base is None:
            raise RefusedError(
                f"{folder} is left as it is, for its commit {head[:7] or '(none)'} is not known here. The pull request "
                f"is tested at {_commits(known)}: check one of them out, and rebase the result"
            )
        return cls(folder, base, frozenset(_changes(folder, base)))

    def original(self, path: str) -> str:
        """Return the text of a file in the base's commit."""
        shown = git(self.folder, "show", f"{self.base.commit}:{path}")
        must(shown)
        return shown.stdout

    def holds(self, files: Mapping[str, str]) -> bool:
        """Say whether the checkout has exactly these changes; it has none if False.

        Raises:
            RefusedError: It has others, or only some of them.
        """
        if not self.changes:
            return False
        strange = sorted(path for path in self.changes if not self._has(path, files.get(path)))
        strange += sorted(files.keys() - self.changes)
        if strange:
            shown = ", ".join(strange[:5]) + (f" and {len(strange) - 5} more" if len(strange) > 5 else "")
            here = shlex.quote(str(self.folder))
            raise RefusedError(
                f"{self.folder} is left as it is, for it differs from {self.base.name} ({self.base.commit[:7]}) and "
                f"not by this pull request: {shown}\n"
                f"Keep your changes aside with: git -C {here} stash --include-untracked\n"
                f"Or work in a fresh tree: git -C {here} worktree add --detach ../baldro-pr {self.base.commit[:7]}"
            )
        return True

    def _has(self, path: str, text: str | None) -> bool:
        file = self.folder / path
        return text is not None and file.is_file() and file.read_bytes() == text.encode()


def _descends(folder: Path, gen: Generation) -> bool:
    return git(folder, "merge-base", "--is-ancestor", gen.commit, "HEAD").returncode == 0


def _changes(folder: Path, base: Generation) -> list[str]:
    changed = git(folder, "diff", "--no-ext-diff", "--no-renames", "--name-only", base.commit)
    new = git(folder, "ls-files", "--others", "--exclude-standard")
    must(changed)
    must(new)
    return changed.stdout.splitlines() + new.stdout.splitlines()


def _commits(known: Mapping[str, Generation]) -> str:
    return ", ".join(f"{gen.commit[:7]} ({gen.name})" for gen in known.values())
