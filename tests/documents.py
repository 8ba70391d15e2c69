"""The commands and the Python that the documents show."""

from __future__ import annotations

import re
import shlex
import textwrap
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])

_PROGRAM = r"(?:[A-Z_]+=\S+ )*(?:accelerate|baldro|bash|cd|git|make|pip|pytest|python|ruff|torchrun|\.venv/\S+)(?= )"
_FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Shown:
    """A command as a reader would type it, and the document that shows it."""

    document: str
    text: str

    @property
    def words(self) -> list[str]:
        """Its words, as a shell splits them."""
        return shlex.split(self.text)


def _expanded(text: str) -> str:
    """Return a text whose shell variables and arrays are replaced by what the text sets them to."""
    for name, value in re.findall(r"^ {4}([A-Z]+)=(?!\()(.+)$", text, re.MULTILINE):
        text = text.replace(f"${name}", value.strip("'"))
    for name, value in re.findall(r"^ {4}([A-Z]+)=\((.*?)\)$", text, re.MULTILINE | re.DOTALL):
        text = text.replace(f'"${{{name}[@]}}"', " ".join(value.split()))
    return text


def commands() -> list[Shown]:
    """Return every command in an indented or fenced block, and in `code` of a sentence, without its comment."""
    found = []
    for path in DOCUMENTS:
        text = _expanded(re.sub(r"\\\n\s*", "", path.read_text()))
        for _, language, block in _FENCE.findall(text):
            if language in ("bash", "sh", "shell", "console"):
                found += [Shown(path.name, line) for line in block.splitlines() if re.match(_PROGRAM, line)]
        prose = _FENCE.sub("", text)
        found += [Shown(path.name, line) for line in re.findall(rf"^ {{4,}}({_PROGRAM}.*)$", prose, re.MULTILINE)]
        spans = re.findall(r"(?<!`)`([^`]+)`(?!`)", re.sub(r"^ {4,}.*$", "", prose, flags=re.MULTILINE))
        found += [Shown(path.name, " ".join(span.split())) for span in spans if re.match(_PROGRAM, span)]
    return [Shown(shown.document, re.sub(r"\s+# .*", "", shown.text)) for shown in found]


def python_blocks() -> list[tuple[str, str]]:
    """Return every fenced block of Python with the name of its document."""
    return [
        (path.name, textwrap.dedent(block))
        for path in DOCUMENTS
        for _, language, block in _FENCE.findall(path.read_text())
        if language == "python"
    ]
