"""The commands and the Python that the documents show."""

import re
import textwrap
from pathlib import Path

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])

_PROGRAM = r"(?:[A-Z_]+=\S+ )*(?:accelerate|baldro|bash|cd|git|make|pip|pytest|python|ruff|torchrun|\.venv/\S+)(?= )"
_FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)


def _expanded(text: str) -> str:
    """Return a text whose shell variables and arrays are replaced by what the text sets them to."""
    for name, value in re.findall(r"^ {4}([A-Z]+)=(?!\()(.+)$", text, re.MULTILINE):
        text = text.replace(f"${name}", value.strip("'"))
    for name, value in re.findall(r"^ {4}([A-Z]+)=\((.*?)\)$", text, re.MULTILINE | re.DOTALL):
        text = text.replace(f'"${{{name}[@]}}"', " ".join(value.split()))
    return text


def commands() -> dict[str, str]:
    """Return every command in an indented or fenced block, and in `code` of a sentence, and a document that shows it."""
    shown = {}
    for path in DOCUMENTS:
        text = _expanded(re.sub(r"\\\n\s*", "", path.read_text()))
        prose = _FENCE.sub("", text)
        shell = [block for _, language, block in _FENCE.findall(text) if language in ("bash", "sh", "shell", "console")]
        lines = [line for block in shell for line in block.splitlines()]
        lines += re.findall(r"^ {4,}(.*)$", prose, re.MULTILINE)
        lines += re.findall(r"(?<!`)`([^`]+)`(?!`)", re.sub(r"^ {4,}.*$", "", prose, flags=re.MULTILINE))
        for line in lines:
            if re.match(_PROGRAM, line):
                shown[re.sub(r"\s+", " ", re.sub(r"\s+# .*", "", line))] = path.name
    return shown


def python_blocks() -> list[tuple[str, str]]:
    """Return every fenced block of Python with the name of its document."""
    return [
        (path.name, textwrap.dedent(block))
        for path in DOCUMENTS
        for _, language, block in _FENCE.findall(path.read_text())
        if language == "python"
    ]


def files_of(document: str) -> dict[str, str]:
    """Return the files that a document shows: fenced blocks whose first line is a comment with nothing but a path."""
    blocks = (block for _, _, block in _FENCE.findall((ROOT / document).read_text()))
    return {named[1]: block for block in blocks if (named := re.match(r"# (\S+\.\w+)\n", block))}
