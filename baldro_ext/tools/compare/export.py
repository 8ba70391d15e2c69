"""Write a comparison into files: Markdown, LaTeX, CSV, pictures and the report."""

import re
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from baldro_ext.tools import files
from baldro_ext.tools.compare import report
from baldro_ext.tools.compare.comparison import Comparison
from baldro_ext.tools.compare.formatting import gains, notes, number, oriented, results
from baldro_ext.tools.compare.metrics import Metric
from baldro_ext.tools.compare.table import Table

_NOT_OF_ALL = ("fronts.csv", "levels.csv", *report.FILES)  # files that only some comparisons have
_BOLD, _END = "\ue000", "\ue001"  # private signs, which no name from outside keeps
_LATEX_SIGNS = str.maketrans({
    "±": r"$\pm$", "<": "$<$", "↓": r"$\downarrow$", "↑": r"$\uparrow$", "→": r"$\rightarrow$",
    _BOLD: r"\textbf{", _END: "}",
})  # fmt: skip


def save(comparison: Comparison, folder: Path, command: str = "baldro_ext.tools.compare.save") -> None:
    """Write tables, pictures and report into a folder.

    Raises:
        RefusedError: A file that baldro did not make is in the way; nothing was written.
        OSError: The folder cannot be written.
    """
    pictures = report.draw(comparison)
    texts = {
        "comparison.md": markdown(comparison, pictures),
        "comparison.tex": latex(comparison),
        "comparison.csv": _csv(comparison.values),
        "summary.csv": _csv(comparison.summary.reset_index()),
        "report.html": report.render(comparison, pictures, command),
    }
    if comparison.fronts:
        texts["fronts.csv"] = _csv(comparison.fronts.points)
        texts["levels.csv"] = _csv(comparison.fronts.table.summary.reset_index())
    images = {f"{it.name}.{kind}": image for it in pictures for kind, image in it.files.items()}
    contents = {name: text.encode(errors="backslashreplace") for name, text in texts.items()} | images
    files.write(folder, contents, instead_of=_NOT_OF_ALL)


def markdown(comparison: Comparison, pictures: Sequence[report.Picture] = ()) -> str:
    """Return tables, gains, notes and links to the pictures as Markdown."""
    blocks = []
    for table in comparison.tables:
        blocks += [_pipe(it) for it in (oriented(results(table)), gains(table)) if len(it)]
        blocks.append("\n".join(f"- {_plain(line)}" for line in notes(table)))
    blocks += [
        f"{it.title}: {it.missing}." if it.missing else f"![{it.title}]({it.name}.png)\n\n{it.caption}"
        for it in pictures
    ]
    return "\n\n".join(blocks) + "\n"


def latex(comparison: Comparison) -> str:
    """Return the tables for LaTeX with the package booktabs: names in words, best values of own runs in bold."""
    return "\n".join(map(_latex, comparison.tables))


def _latex(table: Table) -> str:
    cells = results(table).replace(r" \(?(better|worse)\)?$", "", regex=True)
    for column, shown in enumerate(table.metrics, start=1):
        for label in _best(table, shown):
            row = cells.index.get_loc(label)
            cells.iloc[row, column] = f"{_BOLD}{cells.iloc[row, column]}{_END}"
    cells.columns = ["seeds", *(it.title(table.worst_share, it.words) for it in table.metrics)]
    cells = oriented(cells.rename(index=lambda label: str(label).replace("BalDRO_", "BalDRO-").replace("_", " ")))
    body = str(cells.to_latex(escape=True, column_format="l" + "r" * len(cells.columns))).translate(_LATEX_SIGNS)
    needs, bold = "needs \\usepackage{booktabs}", "bold: the best of the methods, published numbers not counted"
    return "".join(f"% {line}\n" for line in (needs, bold, *notes(table, marks=False))) + body


def _best(table: Table, shown: Metric) -> list[str]:
    """Return the methods with the best mean, all whose shown digits are the same; none if that is all of them."""
    means = table.summary.loc[shown.key, "mean"].dropna()
    if shown.better == "zero":  # seeds on both sides of 0 do not make up for each other
        own = table.values[table.values["metric"] == shown.key]
        means = own["value"].abs().groupby(own["method"]).mean()
    if means.empty or not shown.better:
        return []
    best = number(max(means, key=lambda mean: shown.gain(mean, 0.0)))
    labels = [label for label, mean in means.items() if number(mean) == best]
    return labels if len(labels) < len(means) else []


def _pipe(table: pd.DataFrame) -> str:
    return str(table.rename(index=_plain, columns=_plain).map(_plain).to_markdown(disable_numparse=True))


def _plain(text: str) -> str:
    """Escape what Markdown would take for a column, HTML, code, a picture or a link."""
    return re.sub(r"([\\|<`\[])", r"\\\1", str(text))


def _csv(table: pd.DataFrame) -> str:
    """Return a table without a text that a spreadsheet would take for a formula."""
    safe = table.select_dtypes(exclude="number").map(
        lambda it: re.sub(r"^(?=[=+\-@])", "'", str(it)), na_action="ignore"
    )
    return str(table.assign(**safe).to_csv(index=False, lineterminator="\n"))
