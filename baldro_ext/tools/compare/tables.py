"""A comparison as text: for the terminal, Markdown, LaTeX, and every single value as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from tabulate import tabulate

from baldro_ext.tools.compare.comparison import Comparison
from baldro_ext.tools.compare.evaluations import Evaluation
from baldro_ext.tools.compare.metrics import Metric
from baldro_ext.tools.compare.numbers import ABSENT, mean_and_spread, number, p_value
from baldro_ext.tools.compare.statistics import WILCOXON_FROM, Paired, spread

BEFORE = "before unlearning"
RETAIN = "never saw it"
LEGEND = (
    "▲ better, ▼ worse than the baseline in every one of at least two seeds; △ ▽ on average, or with one seed. "
    "Marks and tests are of the seeds that both have."
)
Rows = list[list[str]]


def results(found: Comparison) -> tuple[list[str], Rows]:
    """Return head and rows of the main table: mean and spread over seeds, with marks."""
    head = ["method", "seeds", *(column.title(found.options.worst_share) for column in found.metrics)]
    rows = []
    for one in found.groups:
        cells = [found.cell(one, column) for column in found.metrics]
        entries = [" ".join(filter(None, (mean_and_spread(c.spread, c.expected), c.mark))) for c in cells]
        rows.append([one.label, str(len(one.runs)), *entries])
    for name, evaluation in ((BEFORE, found.before), (RETAIN, found.retain)):
        if evaluation is not None:
            rows.append([name, ABSENT, *(_reference(found, evaluation, column) for column in found.metrics)])
    return head, rows


def readable(found: Comparison) -> tuple[list[str], Rows]:
    """Return the main table in the direction that is easier to read: a line per metric where methods are few."""
    head, rows = results(found)
    if len(rows) > len(found.metrics):
        return head, rows
    turned = [list(line) for line in zip(head, *rows, strict=True)]
    return ["", *turned[0][1:]], turned[1:]


def tests(found: Comparison) -> tuple[list[str], Rows]:
    """Return head and rows of the paired tests: each method and metric with a baseline."""
    head = ["method", "against", "metric", "gain", "better in", "p (paired t)", "p (Wilcoxon)", "note"]
    rows = []
    for column in found.metrics:
        for one in found.groups:
            result = found.cell(one, column).paired
            if result is None:
                continue
            better = f"{result.better} of {len(result.seeds)}" if result.seeds else ABSENT
            values = (p_value(result.t_p), p_value(result.wilcoxon_p))
            title = column.title(found.options.worst_share)
            rows.append(
                [one.label, found.baselines[one.label], title, number(result.gain), better, *values, result.note]
            )
    if not any(row[-1] for row in rows):
        return head[:-1], [row[:-1] for row in rows]
    return head, rows


def caveats(found: Comparison) -> list[str]:
    """Return what must stand below the tables, most important first."""
    lines = [f"MIXED RUNS, compared only because of --allow-mixed. They differ in {it}" for it in found.mixed]
    if any(len(one.runs) > 1 for one in found.groups):
        lines.append("± is the sample standard deviation over seeds.")
    else:
        lines.append("One seed per method: nothing here says how far another seed would be from it.")
    if found.baselines:
        against = sorted(set(found.baselines.values()))
        lines.append(f"Baseline: {', or '.join(against)}. {LEGEND}")
        pairs = [len(p.seeds) for p in _paired(found) if p.t_p is not None]
        if pairs and min(pairs) <= 3:
            lines.append(
                f"{min(pairs)} seeds agree by chance alone in {200 / 2 ** min(pairs):.0f} of 100 cases and cannot show "
                "that differences are normal, as the t-test supposes: its p-values describe, they prove nothing. "
                f"Wilcoxon's test needs {WILCOXON_FROM} seeds."
            )
        if len(pairs) > 1:
            lines.append(f"{len(pairs)} tests, not corrected for their number.")
    if any(column.logarithmic for column in found.metrics):
        lines.append("log10: averaged and compared as logarithm, because the values span many orders of magnitude.")
    return [*lines, *found.notes]


def terminal(found: Comparison, width: int = 120) -> str:
    """Return the comparison as it is printed, in tables one below the other where one is wider than the terminal."""
    head, rows = readable(found)
    first, *columns = ([_broken(title), *cells] for title, *cells in zip(head, *rows, strict=True))
    blocks = [[first]]
    for column in columns:
        if len(blocks[-1]) > 1 and _width([*blocks[-1], column]) > width:
            blocks.append([first])
        blocks[-1].append(column)
    return "\n\n".join([*map(_plain, blocks), "\n".join(caveats(found))])


def markdown(found: Comparison) -> str:
    """Return results, tests and caveats as Markdown."""
    parts = [_pipe(*readable(found))]
    head, rows = tests(found)
    if rows:
        parts.append(_pipe(head, rows))
    parts.append("\n".join(f"- {line}" for line in caveats(found)))
    return "\n\n".join(parts) + "\n"


def latex(found: Comparison) -> str:
    """Return the main table for LaTeX, with rules of booktabs and signs of amssymb."""
    head, rows = readable(found)
    table = tabulate(
        [[_tex(cell) for cell in row] for row in rows],
        [_tex(cell) for cell in head],
        tablefmt="latex_raw",
        disable_numparse=True,
    )
    rules = iter(("\\toprule", "\\midrule", "\\bottomrule"))
    lines = [next(rules) if line == "\\hline" else line for line in table.splitlines()]
    notes = [f"% {line}" for line in caveats(found)]
    return "\n".join(["% needs \\usepackage{booktabs,amssymb}", *notes, *lines]) + "\n"


def raw(found: Comparison) -> str:
    """Return every value of every run as CSV, in full precision; an empty field where a run has no value."""
    keys = list(dict.fromkeys(key for one in found.groups for run in one.runs for key in run.evaluation.keys))
    output = io.StringIO()
    writer = csv.writer(output, lineterminator="\n")
    writer.writerow(["method", "seed", "training", "evaluation", *keys])
    for one in found.groups:
        for run in one.runs:
            values = [run.evaluation.value(key, found.options.worst_share) for key in keys]
            writer.writerow(
                [one.label, run.seed, run.place.training, run.source, *("" if v is None else repr(v) for v in values)]
            )
    return output.getvalue()


def _reference(found: Comparison, evaluation: Evaluation, column: Metric) -> str:
    value = evaluation.value(column.key, found.options.worst_share)
    return mean_and_spread(None if value is None else spread([column.scaled(value)]), 1)


def _paired(found: Comparison) -> list[Paired]:
    cells = (found.cell(one, column).paired for one in found.groups for column in found.metrics)
    return [result for result in cells if result is not None]


def _plain(columns: list[list[str]]) -> str:
    head, *rows = zip(*columns, strict=True)
    return tabulate(rows, head, tablefmt="plain", disable_numparse=True)


def _width(columns: list[list[str]]) -> int:
    return max(map(len, _plain(columns).splitlines()))


def _broken(title: str) -> str:
    """Break a head before the statistic, so that columns are as wide as their numbers."""
    return title.replace(" worst", "\nworst").replace(" variation", "\nvariation")


def _pipe(head: Sequence[str], rows: Rows) -> str:
    escaped = [[cell.replace("|", "\\|") for cell in row] for row in (head, *rows)]
    return tabulate(escaped[1:], escaped[0], tablefmt="pipe", disable_numparse=True)


_TEX = {
    "\\": r"\textbackslash{}",
    **{sign: f"\\{sign}" for sign in "_%&#{}"},
    "$": r"\$",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": "$<$",
    ">": "$>$",
    "±": r"$\pm$",
    "↓": r"$\downarrow$",
    "↑": r"$\uparrow$",
    "→0": r"$\rightarrow 0$",
    "▲": r"$\blacktriangle$",
    "▼": r"$\blacktriangledown$",
    "△": r"$\vartriangle$",
    "▽": r"$\triangledown$",
}


def _tex(text: str) -> str:
    text = text.replace("→0", "→")
    signs = _TEX | {"→": _TEX["→0"]}
    return "".join(signs.get(sign, sign) for sign in text)
