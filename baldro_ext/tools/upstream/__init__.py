"""The pull request that brings BalDRO into open-unlearning, made from this package.

What goes upstream must not be a second implementation. So

- the method's formulas are functions of `baldro_ext.weightings` and `baldro_ext.losses`, which call them too;
`bundle` puts them in place of the import in the trainer's module; - default values, their comments and the trainers'
names come from the package's YAML files (`configurations`); - the trainer itself is new, in `pull-request/`, as a
maintainer of the framework would write it. The package's own
  serves any host, keeps a ledger, resumes and shards, which nobody would merge in one piece. A test trains both from
  one seed and compares the weights;
- files that exist already are edited where their structure says (`edits`): no line of the framework is kept here, and
  none but the new ones changes.

What stays in the package: the worst case over the whole forget set and over ranks, the reference without a second
model, presets of the released code, logs, comparison, reports. docs/upstream.md tells why.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

from baldro_ext.tools.upstream.bundle import bundle
from baldro_ext.tools.upstream.checkout import Checkout
from baldro_ext.tools.upstream.configurations import VARIANTS, configurations
from baldro_ext.tools.upstream.edits import add_row, extend_cell, register, signature_of, with_signature

_TRAINER = "src/trainer/unlearn/baldro.py"
_RESOURCES = "Paper[📄](https://arxiv.org/abs/2601.09172), Code [🐙](https://github.com/nxZhai/BalDRO)"


@dataclass(frozen=True)
class PullRequest:
    """What the pull request changes in a checkout.

    Attributes:
        files: New text by path relative to the root.
        originals: Text before, of those that exist already.
    """

    files: dict[str, str]
    originals: dict[str, str]

    @property
    def diff(self) -> str:
        """The changes as `git apply` reads them."""
        return "".join(self._diff_of(path) for path in sorted(self.files))

    @property
    def size(self) -> tuple[int, int, int]:
        """Number of files, of added and of removed lines."""
        lines = [line for line in self.diff.splitlines() if not line.startswith(("+++", "---"))]
        added, removed = (sum(line.startswith(sign) for line in lines) for sign in "+-")
        return len(self.files), added, removed

    def write(self, folder: Path) -> None:
        """Write the files into a checkout."""
        for path, text in self.files.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(text.encode())

    def _diff_of(self, path: str) -> str:
        before = self.originals.get(path)
        mode = "new file mode 100644\n" if before is None else ""
        head = f"diff --git a/{path} b/{path}\n{mode}"
        names = ("/dev/null" if before is None else f"a/{path}", f"b/{path}")
        lines = ((before or "").splitlines(keepends=True), self.files[path].splitlines(keepends=True))
        body = difflib.unified_diff(*lines, *names)
        return head + "".join(
            line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in body
        )


def pull_request(checkout: Checkout) -> PullRequest:
    """Make the pull request for the commit that a checkout started from; nothing is written.

    Raises:
        StructureError: A file lacks the place where an edit belongs.
    """
    templates = dict(_files(resources.files("baldro_ext.tools.upstream") / "pull-request"))
    host = checkout.original("src/trainer/unlearn/grad_diff.py")
    trainers = templates[_TRAINER]
    # transformers 4.45 hands fewer arguments to compute_loss than later releases.
    signature = signature_of(host, "GradDiff", "compute_loss")
    new = {**templates, _TRAINER: with_signature(bundle(trainers), "BalDRO", "compute_loss", signature)}
    new |= {f"configs/trainer/{name}.yaml": text for name, text in configurations(trainers).items()}

    edited = ("src/trainer/__init__.py", "docs/links.md", "README.md")
    originals = {path: checkout.original(path) for path in edited}
    registration, links, readme = originals.values()
    classes = [f"BalDRO_{variant}" for variant in VARIANTS]
    changed = (
        register(registration, "baldro", classes),
        add_row(links, "Implemented Methods", ("BalDRO", _RESOURCES)),
        extend_cell(readme, "Unlearning Methods", "BalDRO"),
    )
    return PullRequest(new | dict(zip(edited, changed, strict=True)), originals)


def _files(folder: Traversable, prefix: str = "") -> list[tuple[str, str]]:
    """Return path and text of all files below a folder of this package."""
    found = []
    for entry in sorted(folder.iterdir(), key=lambda entry: entry.name):
        if entry.is_dir() and entry.name != "__pycache__":
            found += _files(entry, f"{prefix}{entry.name}/")
        elif entry.is_file():
            found.append((f"{prefix}{entry.name}", entry.read_text(encoding="utf-8")))
    return found
