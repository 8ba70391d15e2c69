"""Write a comparison into files: Markdown, LaTeX, CSV, JSON, pictures and the report."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from baldro_ext.tools import files
from baldro_ext.tools.compare import plots, report
from baldro_ext.tools.compare.comparison import Comparison
from baldro_ext.tools.compare.formatting import notes, oriented, results, tests

_LATEX_SIGNS = str.maketrans({
    "±": r"$\pm$", "<": "$<$", "↓": r"$\downarrow$", "↑": r"$\uparrow$", "→": r"$\rightarrow$",
    "▲": r"$\blacktriangle$", "▼": r"$\blacktriangledown$", "△": r"$\vartriangle$", "▽": r"$\triangledown$",
})  # fmt: skip


def save(comparison: Comparison, folder: Path, command: str = "baldro_ext.tools.compare.save") -> dict[str, Any]:
    """Write tables, pictures and report into a folder; return the content of `comparison.json`.

    Raises:
        NotOursError: A file that baldro did not make is in the way; nothing was written.
        OSError: The folder cannot be written.
    """
    pictures, content = plots.draw(comparison), record(comparison, command)
    images = {f"{it.name}.{kind}": image for it in pictures for kind, image in it.files.items()}
    texts = {
        "comparison.md": markdown(comparison, pictures),
        "comparison.tex": latex(comparison),
        "comparison.csv": comparison.table.to_csv(index=False, lineterminator="\n"),
        "comparison.json": json.dumps(content, indent=2, ensure_ascii=False) + "\n",
        "report.html": report.render(comparison, pictures, command),
    }
    files.write(folder, {name: text.encode() for name, text in texts.items()} | images)
    return content


def markdown(comparison: Comparison, pictures: Sequence[plots.Picture] = ()) -> str:
    """Return table, tests, notes and links to the pictures as Markdown."""
    parts = [_pipe(oriented(results(comparison)))]
    if len(paired := tests(comparison)):
        parts.append(_pipe(paired))
    parts.append("\n".join(f"- {line}" for line in notes(comparison)))
    parts += [
        f"{it.title}: {it.missing}." if it.missing else f"![{it.title}]({it.name}.png)\n\n{it.caption}"
        for it in pictures
    ]
    return "\n\n".join(parts) + "\n"


def latex(comparison: Comparison) -> str:
    """Return the main table for LaTeX with the packages booktabs and amssymb."""
    table = oriented(results(comparison))
    body = str(table.to_latex(escape=True, column_format="l" + "r" * len(table.columns))).translate(_LATEX_SIGNS)
    comments = "".join(f"% {line}\n" for line in ("needs \\usepackage{booktabs,amssymb}", *notes(comparison)))
    return comments + body


def record(comparison: Comparison, command: str) -> dict[str, Any]:
    """Return the comparison as plain data: JSON types only, `None` for what is missing or not finite."""
    return {
        "command": command,
        "worst_share": comparison.worst_share,
        "summary": _records(comparison.summary.reset_index()),
        "values": _records(comparison.table),
        "runs": [
            {
                "method": method.label,
                "seed": run.seed,
                "run": str(run.folders.main),
                "evaluation": str(run.evaluation.folder),
                "facts": dict(run.facts),
                "settings": dict(run.settings),
                "commands": list(run.commands),
                "training_seconds": run.seconds,
                "versions": dict(run.versions),
            }
            for method in comparison.methods
            for run in method.runs
        ],
        "mixed": list(comparison.mixed),
        "notes": notes(comparison),
    }


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    rows = table.astype(object).to_dict("records")
    return [
        {key: None if pd.isna(it) or it in (math.inf, -math.inf) else it for key, it in row.items()} for row in rows
    ]


def _pipe(table: pd.DataFrame) -> str:
    def escaped(cell: str) -> str:
        return str(cell).replace("|", "\\|")

    return str(table.rename(index=escaped, columns=escaped).map(escaped).to_markdown(disable_numparse=True))
