"""One colour per method in every picture, told apart by colour-blind people too."""

import itertools
import re
from collections.abc import Iterable

METHODS = {
    "NPO": "#D55E00",
    "BalDRO_G": "#0072B2",
    "BalDRO_DV_radius": "#009E73",
    "BalDRO_DV": "#CC79A7",
    "BalDRO_Chi2": "#783018",
    "SimNPO": "#E69F00",
    "SatImp": "#56B4E9",
    "GradDiff": "#000000",
}
"""Okabe and Ito's colours (https://jfly.uni-koeln.de/color/) with a brown for the yellow, which is hard to
see on white."""
GREY = "#767676"
"""For what is no method: the model before unlearning, and lines to guide the eye."""


def colours(methods: Iterable[str]) -> dict[str, str]:
    """Return the colour of each method: its own, or one that the others leave free.

    A method with settings behind its name, or a BalDRO trainer of another forget loss, has the colour of the longest
    known name that its name begins with, if no other method of the picture has it. From the ninth method on, colours
    come again.

    Args:
        methods: Names as in tables, such as `BalDRO_DV dv_beta=5`.
    """
    names = list(dict.fromkeys(methods))
    chosen = {name: METHODS[name] for name in names if name in METHODS}
    for name in names:
        # BalDRO_DV_radius is the variant of BalDRO_DV_GradDiff_radius.
        variant = re.sub(r"^(BalDRO_[^_ ]+)_[A-Z][^_ ]*", r"\1", name)
        known = max((it for it in METHODS if f"{variant} ".startswith((f"{it} ", f"{it}_"))), key=len, default="")
        if name not in chosen and known and METHODS[known] not in chosen.values():
            chosen[name] = METHODS[known]
    free = [colour for colour in METHODS.values() if colour not in chosen.values()]
    free.sort(key=lambda colour: colour == METHODS["NPO"])  # the usual baseline, which readers look for
    rest = itertools.chain(free, itertools.cycle(METHODS.values()))
    return {name: chosen.get(name) or next(rest) for name in names}
