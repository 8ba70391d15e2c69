"""The pictures of a report as files, each with its caption or the reason why it is missing."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass

from matplotlib import rc_context
from matplotlib.figure import Figure

from baldro_ext.tools.compare import plots
from baldro_ext.tools.compare.comparison import Comparison


@dataclass(frozen=True)
class Picture:
    """A picture of a report, or the reason why it is missing.

    Attributes:
        name: Of its files, without the ending.
        title: What it shows.
        caption: How to read it.
        files: Its `png` and `pdf`; empty where the data are missing.
        missing: The reason then, else empty.
    """

    name: str
    title: str
    caption: str
    files: dict[str, bytes]
    missing: str


def draw(comparison: Comparison) -> list[Picture]:
    """Return the pictures of a report."""
    share = f"{100 * comparison.worst_share:g}%"
    drawings: list[tuple[Callable[[Comparison], Figure], str, str]] = [
        (plots.fronts, "What is left at equal utility",
         "Dots are evaluations, thin lines the front of each seed over learning rates and epochs, level where its best "
         "one keeps more utility than asked for; bold lines are their mean where every seed has one. Dotted lines are "
         "the levels of the table."),
        (plots.trade_off, f"What the worst {share} of the samples keep, against utility",
         "Best is the lower right corner. Large marks are means over seeds, small ones the seeds; where their clouds "
         "overlap, the order of the methods is not settled. Dotted lines go through the baseline."),
        (plots.distribution, "All samples, before and after",
         f"Each curve gives the share of the samples above a value. The shaded band holds the worst {share}: methods "
         "with the same mean can differ there. Samples of all seeds are pooled."),
        (plots.curves, "Worst samples and mean over the training",
         f"Solid: mean of the worst {share}; dotted: mean of all samples. Bold lines are means over seeds. The "
         "distance between solid and dotted is the imbalance."),
    ]  # fmt: skip
    pictures = []
    for make, title, caption in drawings if comparison.fronts else drawings[1:]:
        files, missing = {}, ""
        try:
            figure = make(comparison)
            # Without the stamps that would make the files differ each time.
            for kind, stamp in (("png", "Software"), ("pdf", "CreationDate")):
                with rc_context(plots.STYLE), io.BytesIO() as output:
                    figure.savefig(output, format=kind, metadata={stamp: None})
                    files[kind] = output.getvalue()
        except plots.MissingDataError as error:
            missing = str(error)
        pictures.append(Picture(make.__name__, title, caption, files, missing))
    return pictures
