"""The report, one HTML file that needs nothing but a browser, and its pictures."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass, field

import jinja2
import pandas as pd
from markupsafe import Markup
from matplotlib import rc_context

from baldro_ext.tools.compare import plots
from baldro_ext.tools.compare.comparison import Comparison
from baldro_ext.tools.compare.formatting import ABSENT, gains, notes, oriented, results

_PICTURES = {  # the function that draws it, what it shows, how to read it
    plots.fronts: (
        "What is left at equal utility",
        "Dots are evaluations, thin lines the front of each seed over learning rates and epochs, level where its best "
        "one keeps more utility than asked for; bold lines are their mean where every seed has one. Dotted lines are "
        "the levels of the table.",
    ),
    plots.trade_off: (
        "What the worst {share} of the samples keep, against utility",
        "Best is the lower right corner. Large marks are means over seeds, small ones the seeds; where their clouds "
        "overlap, the order of the methods is not settled. Dotted lines go through the baseline.",
    ),
    plots.distribution: (
        "All samples, before and after",
        "Each curve gives the share of the samples above a value. The shaded band holds the worst {share}: methods "
        "with the same mean can differ there. Samples of all seeds are pooled.",
    ),
    plots.curves: (
        "Worst samples and mean over the training",
        "Solid: mean of the worst {share}; dotted: mean of all samples. Bold lines are means over seeds. The distance "
        "between solid and dotted is the imbalance.",
    ),
}

_STAMPS = {"png": "Software", "pdf": "CreationDate"}  # left out, since they would make the files differ each time
FILES = tuple(f"{plot.__name__}.{kind}" for plot in _PICTURES for kind in _STAMPS)
"""The pictures of all kinds of comparison."""


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
    for plot, words in _PICTURES.items():
        if plot is (plots.trade_off if comparison.fronts else plots.fronts):
            continue
        title, caption = (text.format(share=share) for text in words)
        picture = Picture(plot.__name__, title, caption)
        try:
            figure = plot(comparison)
            for kind, stamp in _STAMPS.items():
                with rc_context(plots.STYLE), io.BytesIO() as output:
                    figure.savefig(output, format=kind, metadata={stamp: None})
                    picture.files[kind] = output.getvalue()
        except plots.MissingDataError as error:
            picture.missing = str(error)
        pictures.append(picture)
    return pictures


def render(comparison: Comparison, pictures: Sequence[Picture], command: str) -> str:
    """Return the report as HTML; `command` is the one that made the comparison."""
    loader = jinja2.PackageLoader("baldro_ext.tools.compare", "templates")
    environment = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined)
    environment.trim_blocks = environment.lstrip_blocks = True
    environment.filters |= {"table": _table, "base64": lambda image: base64.b64encode(image).decode()}
    environment.globals |= {"main_table": lambda it: oriented(results(it)), "notes": notes, "gains": gains}
    facts = pd.DataFrame(
        [run.facts | {f"{it} of the runs": version for it, version in run.versions.items()} for run in comparison.runs]
    )
    own = {method.label: method.runs[0].settings for method in comparison.methods}
    settings = pd.DataFrame({label: pd.Series(it, dtype=object) for label, it in own.items() if it}).fillna(ABSENT)
    return environment.get_template("report.html.j2").render(
        comparison=comparison,
        pictures=pictures,
        facts={name: "; ".join(map(str, known.dropna().unique())) for name, known in facts.items() if known.any()},
        settings=settings[settings.nunique(axis=1) > 1].sort_index(),
        command=command,
        absent=ABSENT,
    )


def _table(table: pd.DataFrame) -> Markup:
    """Return a table of strings as HTML, every cell escaped, where long names may break after an underscore."""
    return Markup(table.rename_axis(index=None).to_html(border=0).replace("_", "_<wbr>"))
