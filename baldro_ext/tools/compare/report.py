"""The report: one HTML file that needs nothing but a browser."""

from __future__ import annotations

import base64
import platform
from collections.abc import Sequence
from importlib import metadata

import jinja2
import pandas as pd
from markupsafe import Markup

from baldro_ext.tools.compare.comparison import Comparison
from baldro_ext.tools.compare.formatting import ABSENT, gains, notes, oriented, results
from baldro_ext.tools.compare.methods import Method
from baldro_ext.tools.compare.pictures import Picture


def render(comparison: Comparison, pictures: Sequence[Picture], command: str) -> str:
    """Return the report as HTML; `command` is the one that made the comparison."""
    loader = jinja2.PackageLoader("baldro_ext.tools.compare", "templates")
    environment = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined)
    environment.filters |= {"table": _table, "base64": lambda image: base64.b64encode(image).decode()}
    return environment.get_template("report.html.j2").render(
        comparison=comparison,
        results=oriented(results(comparison)),
        gains=gains(comparison),
        levels=oriented(results(comparison.fronts.comparison)) if comparison.fronts else None,
        level_notes=notes(comparison.fronts.comparison) if comparison.fronts else (),
        notes=notes(comparison)[len(comparison.mixed) + len(comparison.unfair) :],
        pictures=pictures,
        facts=_facts(comparison),
        settings=_settings(comparison.methods),
        command=command,
        absent=ABSENT,
    )


def _table(table: pd.DataFrame) -> Markup:
    """Return a table of strings as HTML, every cell escaped, where long names may break after an underscore."""
    return Markup(table.rename_axis(index=None).to_html(border=0).replace("_", "_<wbr>"))


def _facts(comparison: Comparison) -> dict[str, str]:
    """Return the known facts and versions of the runs, all values where they differ, and the versions used here."""
    values: dict[str, dict[str, None]] = {}
    for run in comparison.runs:
        versions = {f"{name} of the runs": version for name, version in run.versions.items()}
        for name, value in {**run.facts, **versions}.items():
            if value is not None:
                values.setdefault(name, {})[value] = None
    here = {"python": platform.python_version()} | {name: metadata.version(name) for name in ("pandas", "matplotlib")}
    return {name: "; ".join(it) for name, it in values.items()} | here


def _settings(methods: Sequence[Method]) -> pd.DataFrame:
    """Return the settings in which methods differ, a column per method."""
    table = pd.DataFrame(
        {it.label: pd.Series(it.runs[0].settings, dtype=object) for it in methods if it.runs[0].settings}
    )
    table = table.fillna(ABSENT)
    return table[table.nunique(axis=1) > 1].sort_index()
