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
from baldro_ext.tools.compare.pictures import Picture


def render(comparison: Comparison, pictures: Sequence[Picture], command: str) -> str:
    """Return the report as HTML; `command` is the one that made the comparison."""
    loader = jinja2.PackageLoader("baldro_ext.tools.compare", "templates")
    environment = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined)
    environment.trim_blocks = environment.lstrip_blocks = True
    environment.filters |= {"table": _table, "base64": lambda image: base64.b64encode(image).decode()}
    environment.globals |= {"main_table": lambda it: oriented(results(it)), "notes": notes, "gains": gains}
    return environment.get_template("report.html.j2").render(
        comparison=comparison,
        pictures=pictures,
        facts=_facts(comparison),
        settings=_settings(comparison),
        command=command,
        absent=ABSENT,
    )


def _table(table: pd.DataFrame) -> Markup:
    """Return a table of strings as HTML, every cell escaped, where long names may break after an underscore."""
    return Markup(table.rename_axis(index=None).to_html(border=0).replace("_", "_<wbr>"))


def _facts(comparison: Comparison) -> dict[str, str]:
    """Return the known facts and versions of the runs, all values where they differ, and the versions used here."""
    table = pd.DataFrame(
        [run.facts | {f"{it} of the runs": version for it, version in run.versions.items()} for run in comparison.runs]
    )
    here = {"python": platform.python_version()} | {name: metadata.version(name) for name in ("pandas", "matplotlib")}
    return {str(name): "; ".join(known.dropna().unique()) for name, known in table.items() if known.any()} | here


def _settings(comparison: Comparison) -> pd.DataFrame:
    """Return the settings in which methods differ, a column per method."""
    settings = {method.label: method.runs[0].settings for method in comparison.methods}
    table = pd.DataFrame({label: pd.Series(it, dtype=object) for label, it in settings.items() if it}).fillna(ABSENT)
    return table[table.nunique(axis=1) > 1].sort_index()
