"""The pictures of a report as files, each with its caption or the reason why it is missing."""

from __future__ import annotations

import io
from dataclasses import dataclass, field

from matplotlib import rc_context

from baldro_ext.tools.compare import plots
from baldro_ext.tools.compare.comparison import Comparison

_PICTURES = {
    "fronts": (
        "What is left at equal utility",
        "Dots are evaluations, thin lines the front of each seed over learning rates and epochs, level where its best "
        "one keeps more utility than asked for; bold lines are their mean where every seed has one. Dotted lines are "
        "the levels of the table.",
    ),
    "trade_off": (
        "What the worst {share} of the samples keep, against utility",
        "Best is the lower right corner. Large marks are means over seeds, small ones the seeds; where their clouds "
        "overlap, the order of the methods is not settled. Dotted lines go through the baseline.",
    ),
    "distribution": (
        "All samples, before and after",
        "Each curve gives the share of the samples above a value. The shaded band holds the worst {share}: methods "
        "with the same mean can differ there. Samples of all seeds are pooled.",
    ),
    "curves": (
        "Worst samples and mean over the training",
        "Solid: mean of the worst {share}; dotted: mean of all samples. Bold lines are means over seeds. The distance "
        "between solid and dotted is the imbalance.",
    ),
}


@dataclass
class Picture:
    """A picture of a report, or the reason why it is missing."""

    name: str  # of its files, without the ending
    title: str  # what it shows
    caption: str  # how to read it
    files: dict[str, bytes] = field(default_factory=dict)  # its png and pdf
    missing: str = ""  # why there are none


def draw(comparison: Comparison) -> list[Picture]:
    """Return the pictures of a report; at equal utility, the fronts stand in for the trade-off of each rate."""
    share, pictures = f"{100 * comparison.worst_share:g}%", []
    for name, words in _PICTURES.items():
        if name == ("trade_off" if comparison.fronts else "fronts"):
            continue
        title, caption = (text.format(share=share) for text in words)
        picture = Picture(name, title, caption)
        try:
            figure = getattr(plots, name)(comparison)
            # Without the stamps that would make the files differ each time.
            for kind, stamp in (("png", "Software"), ("pdf", "CreationDate")):
                with rc_context(plots.STYLE), io.BytesIO() as output:
                    figure.savefig(output, format=kind, metadata={stamp: None})
                    picture.files[kind] = output.getvalue()
        except plots.MissingDataError as error:
            picture.missing = str(error)
        pictures.append(picture)
    return pictures
