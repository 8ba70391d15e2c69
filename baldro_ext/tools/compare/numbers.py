"""How numbers are written: three significant digits, and as many decimals for a spread as for its mean."""

from __future__ import annotations

import math

from baldro_ext.tools.compare.metrics import SMALLEST_LOG10
from baldro_ext.tools.compare.statistics import Spread

ABSENT = "-"


def number(value: float | None, digits: int = 3) -> str:
    """Return a number with so many significant digits; `-` for none."""
    if value is None:
        return ABSENT
    if value == -math.inf:  # log10 of a p-value that is written as 0
        return f"< {SMALLEST_LOG10:.0f}"
    if value == 0:
        return "0"
    if not 1e-4 <= abs(value) < 1e6:
        return f"{value:.{digits - 1}e}"
    return f"{value:.{_decimals(value, digits)}f}"


def mean_and_spread(found: Spread | None, expected: int) -> str:
    """Return `0.112 ± 0.008`; where runs lack the value, with the number of those that have it: `(2 of 3)`."""
    if found is None:
        return ABSENT
    text = number(found.mean)
    if found.deviation is not None:
        text += f" ± {_deviation(found.mean, found.deviation)}"
    return text if found.n == expected else f"{text} ({found.n} of {expected})"


def _deviation(mean: float, deviation: float) -> str:
    """Return a deviation with the decimals of its mean, or with as many as it needs to be more than 0."""
    if deviation == 0:
        return "0"
    if not 1e-4 <= abs(mean) < 1e6 or deviation < 1e-6:
        return f"{deviation:.1e}"
    return f"{deviation:.{max(_decimals(mean, 3), _decimals(deviation, 1))}f}"


def p_value(value: float | None) -> str:
    """Return a p-value with two significant digits; `-` for none."""
    return ABSENT if value is None else f"{value:.2g}"


def _decimals(value: float, digits: int) -> int:
    return max(0, digits - 1 - math.floor(math.log10(abs(float(f"{value:.{digits - 1}e}")))))
