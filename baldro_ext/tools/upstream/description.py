"""The text of the pull request: ours, in the framework's own form."""

from __future__ import annotations

import re
from importlib import resources

from baldro_ext.tools.upstream.checkout import Checkout

_FORM = ".github/PULL_REQUEST_TEMPLATE.md"
_BOX = re.compile(r"^(\s*[-*] )\[ \]")


def describe(checkout: Checkout) -> str:
    """Fill the form of the checkout: our text below its first heading, and its boxes ticked.

    What the form has below that heading is a hint and goes, up to the next one. Its first box is for corrections and
    stays empty.
    """
    text = (resources.files("baldro_ext.tools.upstream") / "description.md").read_text(encoding="utf-8").rstrip()
    lines = checkout.original(_FORM).splitlines()
    headings = [number for number, line in enumerate(lines) if line.startswith("#")]
    boxes = [number for number, line in enumerate(lines) if _BOX.match(line)]
    for number in boxes[1:]:
        lines[number] = _BOX.sub(r"\1[x]", lines[number])
    start, end = (*headings, len(lines), len(lines))[:2]
    return "\n".join([*lines[: start + 1], "", text, "", *lines[end:]]) + "\n"
