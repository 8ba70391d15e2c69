"""How every picture looks: small, colour-blind safe, legible in a column of a page and on a phone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from baldro_ext.tools.compare.comparison import Comparison
from baldro_ext.tools.compare.grouping import Group, family

# Okabe and Ito's colours, without the yellow that vanishes on white; https://jfly.uni-koeln.de/color/
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
LINES = ("-", "--", "-.")
"""Of methods; dotted are the models that were not unlearnt."""
GREY = "#767676"
WIDTH = 4.6
"""Inches. On a screen of 390 px the picture is shown at 78 px per inch, so that 9.5 points are still 10 px."""
DPI = 200
_STYLE: dict[Any, Any] = {
    "font.size": 9.5,
    "font.family": "DejaVu Sans",
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E6E6E6",
    "grid.linewidth": 0.7,
    "axes.edgecolor": "#8C8C8C",
    "xtick.color": "#333333",
    "ytick.color": "#333333",
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "pdf.fonttype": 42,
}


@dataclass(frozen=True)
class Look:
    """Colour, marker and line of a method, the same in every picture."""

    colour: str
    marker: str
    line: str

    @classmethod
    def number(cls, colour: int, kind: int) -> Look:
        """Return a look by the places of its colour, and of its marker and line."""
        return cls(COLOURS[colour % len(COLOURS)], MARKERS[kind % len(MARKERS)], LINES[kind % len(LINES)])


def looks(found: Comparison) -> dict[str, Look]:
    """Return a look per method; where methods outnumber colours, a colour per forget loss and a marker per variant."""
    if len(found.groups) <= len(COLOURS):
        return {one.label: Look.number(i, i) for i, one in enumerate(found.groups)}
    families = list(dict.fromkeys(family(one) for one in found.groups))
    seen = dict.fromkeys(families, 0)
    given = {}
    for one in found.groups:
        mine = family(one)
        given[one.label] = Look.number(families.index(mine), seen[mine])
        seen[mine] += 1
    return given


@dataclass(frozen=True)
class Panel:
    """Methods that are drawn together.

    Attributes:
        title: Their forget loss where it has a panel of its own, else empty.
        methods: Each with its name there and its look.
    """

    title: str
    methods: list[tuple[Group, str, Look]]


def arranged(found: Comparison, groups: Sequence[Group]) -> list[Panel]:
    """Return one panel with all these methods, or one per forget loss where methods outnumber colours."""
    families = list(dict.fromkeys(family(one) for one in groups))
    if len(groups) <= len(COLOURS) or len(families) == 1:
        style = looks(found)
        return [Panel("", [(one, one.label, style[one.label]) for one in groups])]
    labels = {
        one.label: one.label.replace(f"_{family(one)}", "") if one.is_robust else "without BalDRO" for one in groups
    }
    # A variant looks the same in every panel, for they share a legend.
    variants = list(dict.fromkeys(labels.values()))
    given = {name: Look.number(i, i) for i, name in enumerate(variants)}
    return [
        Panel(name, [(one, labels[one.label], given[labels[one.label]]) for one in groups if family(one) == name])
        for name in families
    ]


def styled() -> Any:
    """Return a context in which figures are made in this style."""
    return rc_context(_STYLE)


def single(quantity: str, height: float = 3.6) -> tuple[Figure, Axes]:
    """Return a figure with one panel; the vertical axis is named above it, where its name is read without a turn."""
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    axes = figure.subplots()
    axes.set_title(quantity, fontweight="normal")
    return figure, axes


def panels(
    titles: Sequence[str],
    quantity: str,
    across: str,
    height: float = 2.2,
    same_rows: bool = True,
    same_columns: bool = True,
) -> tuple[Figure, list[Axes]]:
    """Return a figure with a panel per title, two in a row; one alone has the whole width.

    Args:
        titles: Of the panels.
        quantity: Name of the vertical axis, written above all.
        across: Name of the horizontal axis, written once below all.
        height: Of one panel, inches.
        same_rows: Whether the vertical axis is common.
        same_columns: Whether the horizontal axis is common.
    """
    columns = min(2, len(titles))
    rows = math.ceil(len(titles) / columns)
    figure = Figure(figsize=(WIDTH, height * rows + 0.7), layout="constrained")
    grid = figure.subplots(rows, columns, sharex=same_columns, sharey=same_rows, squeeze=False).flatten()
    room = 60 // columns
    size = 9.5 if max(map(len, titles)) <= room - 10 else 7.2
    for axes, title in zip(grid, titles, strict=False):
        axes.set_title(shortened(title, room - 2), fontsize=size)
    for axes in grid[len(titles) :]:
        axes.remove()
    for axes in grid[max(0, len(titles) - columns) : len(titles)]:
        axes.tick_params(labelbottom=True)
    # Once, from the left, for it may be wider than a panel; a supxlabel would lie on the legend.
    grid[(rows - 1) * columns].set_xlabel(across, loc="left")
    # Left, above the first panel; a suptitle is centred by default.
    figure.suptitle(quantity, x=0.01, ha="left", fontsize=9.5)
    return figure, list(grid[: len(titles)])


def legend_below(figure: Figure, *grid: Axes) -> None:
    """Put one legend of these panels under all, where it covers no data; names are as large as their length allows."""
    entries: dict[str, Any] = {}
    for axes in grid:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    handles, labels = list(entries.values()), list(entries)
    if handles:
        longest = max(map(len, labels))
        columns = min(2 if longest <= 32 else 1, len(handles))
        labels = [shortened(label, 64 // columns) for label in labels]
        figure.legend(handles, labels, loc="outside lower center", ncols=columns, fontsize=9 if longest <= 23 else 7.2)


def shortened(text: str, longest: int) -> str:
    """Return a name that fits its place; what tells variants apart tends to be at its end."""
    return text if len(text) <= longest else f"{text[: longest // 3]}…{text[len(text) - longest + longest // 3 + 1 :]}"


def name_panels(shown: Sequence[tuple[str, int | None]], quantity: str) -> tuple[list[str], str]:
    """Return panel titles and the quantity's name, with the seed of each method shown, or of all where it is one."""
    seeds = {seed for _, seed in shown}
    if seeds == {None}:
        return [label for label, _ in shown], quantity
    if len(seeds) == 1:
        return [label for label, _ in shown], f"{quantity}, seed {seeds.pop()}"
    return [f"{label}, seed {seed}" for label, seed in shown], quantity
