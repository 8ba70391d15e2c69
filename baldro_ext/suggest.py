"""Names in error messages: what exists and what was probably meant, and long lists cut short."""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches

from baldro_ext.errors import UsageError


def chosen(name: str, options: Iterable[str], what: str) -> str:
    """Return a name that is one of the options; a UsageError says what else there is and what was probably meant."""
    names = list(options)
    if name not in names:
        raise UsageError(f"{what} {name!r} is unknown: {known(name, names)}")
    return name


def known(name: str, options: Iterable[str]) -> str:
    """Return `did you mean B? There are A, B, C`, with the question only if an option is close to the name."""
    names = sorted(options)
    folded = {option.casefold(): option for option in names}
    close = get_close_matches(name.casefold(), folded, n=1)
    question = f"did you mean {folded[close[0]]}? There" if close else "there"
    return f"{question} are {', '.join(names)}"


def shortened(names: Sequence[str], most: int) -> str:
    """Return `A, B, C and 4 more`: at most `most` of the names."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
