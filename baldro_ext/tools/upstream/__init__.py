"""The pull request that brings BalDRO into open-unlearning, written for one commit of it.

New files are in `pull-request/`, as they will stand in the framework; three existing files get a few lines. The trainer
there is the framework's own: the package's serves any host, remembers losses, resumes and shards. Tests hold the two
together: their formulas are the same code, their defaults are equal, and both train to the same weights.
"""

from __future__ import annotations

import re
import shlex
import tempfile
from dataclasses import dataclass
from pathlib import Path

from baldro_ext.errors import RefusedError
from baldro_ext.suggest import shortened
from baldro_ext.tools.framework import GENERATIONS, PRIMARY
from baldro_ext.tools.git import git, output

BASE = GENERATIONS[PRIMARY]
NEW_FILES = Path(__file__).parent / "pull-request"
DESCRIPTION = Path(__file__).parent / "description.md"
_INIT, _LINKS, _README = "src/trainer/__init__.py", "docs/links.md", "README.md"
_LINK = "Paper[📄](https://arxiv.org/abs/2601.09172), Code [🐙](https://github.com/nxZhai/BalDRO)"
_EDITS = (
    (_INIT, r"^from trainer\.unlearn\..*\n", "from trainer.unlearn.baldro import BalDRO_DV, BalDRO_G\n"),
    (_INIT, r"^_register_trainer\(.*\n", "_register_trainer(BalDRO_DV)\n_register_trainer(BalDRO_G)\n"),
    (_LINKS, r"^#+ .*Implemented Methods\n+(?:\|.*\n)+", f"| {'BalDRO':20} | {_LINK} |\n"),
    (_README, r"^\| \*\*Unlearning Methods\*\* *\| [^|\n]*[^|\s]", ", BalDRO"),
)
"""For each existing file: a pattern, and what is inserted after its last match."""


@dataclass(frozen=True)
class PullRequest:
    """The changes to one checkout: its root, and the new texts by path relative to it."""

    checkout: Path
    files: dict[str, str]

    @classmethod
    def for_checkout(cls, checkout: Path) -> PullRequest:
        """Prepare the pull request for a checkout, or refuse one that does not start from `BASE`; write nothing."""
        commit = BASE.commit
        if not (checkout / ".git").exists():
            raise RefusedError(f"{checkout} is not the root of a git checkout: name that of a clone of open-unlearning")
        if git(checkout, "merge-base", "--is-ancestor", commit, "HEAD").returncode:
            raise RefusedError(
                f"{checkout} does not start from commit {commit[:7]}, the only one that the pull request is written "
                f"and tested for; nothing was changed\n"
                f"Check it out with: git -C {shlex.quote(str(checkout))} switch --detach {commit}"
            )
        files = {path: output(checkout, "show", f"{commit}:{path}") for path in (_INIT, _LINKS, _README)}
        for path, pattern, addition in _EDITS:
            files[path] = insert_after(files[path], pattern, addition)
        for file in NEW_FILES.rglob("*"):
            if file.is_file() and file.suffix != ".pyc":
                files[file.relative_to(NEW_FILES).as_posix()] = file.read_text(encoding="utf-8")
        return cls(checkout, files)

    def is_applied(self) -> bool:
        """Whether the checkout has exactly these changes; `False` for none, refused with others or only some."""
        changed = set(output(self.checkout, "diff", "--no-renames", "--name-only", BASE.commit).splitlines())
        # With those that git ignores, where ours would go.
        changed.update(output(self.checkout, "ls-files", "--others", "--exclude-standard").splitlines())
        changed.update(output(self.checkout, "ls-files", "--others", "--", *self.files).splitlines())
        if not changed:
            return False
        if wrong := sorted(path for path in changed if not self._has(path)) or sorted(self.files.keys() - changed):
            here = shlex.quote(str(self.checkout))
            raise RefusedError(
                f"{self.checkout} differs from commit {BASE.commit[:7]} in other ways than this pull request: "
                f"{shortened(wrong, 5)}; nothing was changed\n"
                f"Set your changes aside with: git -C {here} stash --include-untracked\n"
                f"Or use a new working tree: git -C {here} worktree add --detach ../baldro-pr {BASE.commit[:7]}"
            )
        return True

    def write(self, folder: Path | None = None) -> None:
        """Write the files into the checkout, or into another folder."""
        for path, text in self.files.items():
            file = (folder or self.checkout) / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(text.encode())

    def diff(self, form: str = "--patch") -> str:
        """Return the changes as `git diff` prints them, for instance as `--shortstat`."""
        with tempfile.TemporaryDirectory() as scratch:
            clone = Path(scratch)
            output(clone, "init", "--quiet", "--template=")
            output(clone, "fetch", "--quiet", "--depth=1", "--", str(self.checkout), BASE.commit)
            output(clone, "checkout", "--quiet", "--detach", BASE.commit)
            self.write(clone)
            output(clone, "add", "--force", "--", *self.files)  # whatever the user's own settings ignore
            return output(clone, "diff", "--cached", form)

    def _has(self, path: str) -> bool:
        file = self.checkout / path
        return path in self.files and file.is_file() and file.read_bytes() == self.files[path].encode()


def insert_after(text: str, pattern: str, addition: str) -> str:
    """Insert text after the last match of a regular expression, in which `^` is the start of any line."""
    matches = list(re.finditer(pattern, text, re.MULTILINE))
    if not matches:
        raise RefusedError(f"there is no place to insert {addition.strip()!r}: nothing matches {pattern}")
    end = matches[-1].end()
    return text[:end] + addition + text[end:]
