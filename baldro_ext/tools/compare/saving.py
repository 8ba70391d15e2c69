"""Everything that a comparison writes, and what it is for programs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from baldro_ext.tools.compare import output, plots, report, tables
from baldro_ext.tools.compare.comparison import Comparison
from baldro_ext.tools.compare.findings import findings


def save(found: Comparison, folder: Path, command: str = "baldro_ext.tools.compare.save") -> dict[str, Any]:
    """Write tables, pictures and report into a folder; return the content of `comparison.json`.

    Raises:
        ForeignFileError: A file that is not of an earlier comparison is in the way.
        OSError: The folder cannot be written.
    """
    pictures = plots.draw(found)
    images = {picture.name: picture.files() for picture in pictures}
    pngs = {name: files["png"] for name, files in images.items() if files}
    files = {
        "comparison.md": _markdown(found, pictures).encode(),
        "comparison.csv": tables.raw(found).encode(),
        "comparison.tex": tables.latex(found).encode(),
        "report.html": report.render(found, pictures, pngs, command).encode(),
    }
    files |= {f"{name}.{kind}": data for name, kinds in images.items() for kind, data in kinds.items()}
    content = record(found, pictures, command)
    output.write(folder, files, content)
    return content


def record(found: Comparison, pictures: Sequence[plots.Picture], command: str) -> dict[str, Any]:
    """Return the comparison as plain data: JSON types only, `None` for what is not there."""
    return {
        "findings": findings(found),
        "worst_share": found.options.worst_share,
        "methods": [
            {
                "method": one.label,
                "baseline": found.baselines.get(one.label),
                "seeds": [run.seed for run in one.runs],
                "metrics": {column.key: _cell(found.cell(one, column)) for column in found.metrics},
                "runs": [
                    {
                        "seed": run.seed,
                        "training": str(run.place.training) if run.place.training else None,
                        "evaluation": run.source,
                        "values": {column.key: found.value(run, column) for column in found.metrics},
                        "facts": dict(run.facts),
                        "commands": list(run.commands),
                        "training_seconds": run.seconds,
                    }
                    for run in one.runs
                ],
            }
            for one in found.groups
        ],
        "logarithmic": [column.key for column in found.metrics if column.logarithmic],
        "mixed": [str(difference) for difference in found.mixed],
        "notes": tables.caveats(found),
        "not_drawn": {picture.name: picture.reason for picture in pictures if picture.figure is None},
        "command": command,
        "versions": report.versions(),
    }


def _cell(cell: Any) -> dict[str, Any]:
    result = cell.paired
    return {
        "mean": _finite(cell.spread.mean) if cell.spread else None,
        "deviation": cell.spread.deviation if cell.spread else None,
        "n": cell.spread.n if cell.spread else 0,
        "mark": cell.mark,
        "gain": result.gain if result else None,
        "better_seeds": result.better if result else None,
        "common_seeds": list(result.seeds) if result else None,
        "p_paired_t": result.t_p if result else None,
        "p_wilcoxon": result.wilcoxon_p if result else None,
        "note": result.note if result else "",
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _markdown(found: Comparison, pictures: Sequence[plots.Picture]) -> str:
    parts = ["\n".join(f"- {line}" for line in findings(found)), tables.markdown(found).rstrip()]
    for picture in pictures:
        if picture.figure is None:
            parts.append(f"Not drawn: {picture.title}. {picture.reason}.")
        else:
            parts.append(f"![{picture.title}]({picture.name}.png)\n\n{picture.title}. {picture.caption}")
    return "\n\n".join(parts) + "\n"
