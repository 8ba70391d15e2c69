"""Suggestions for error messages about an unknown name."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def known(name: str, options: Iterable[str]) -> str:
    """Return `there are A, B, C; did you mean B?`, with the question only if an option is close to the name."""
    names = sorted(options)
    folded = {option.casefold(): option for option in names}
    close = get_close_matches(name.casefold(), folded, n=1)
    question = f"; did you mean {folded[close[0]]}?" if close else ""
    return f"there are {', '.join(names)}{question}"
