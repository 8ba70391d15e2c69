"""One HTML file that says it all and needs nothing but a browser."""

from __future__ import annotations

import base64
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata

import jinja2
from markupsafe import Markup, escape

from baldro_ext.tools.compare import tables
from baldro_ext.tools.compare.comparison import Comparison
from baldro_ext.tools.compare.findings import findings
from baldro_ext.tools.compare.grouping import outer_differences
from baldro_ext.tools.compare.numbers import ABSENT
from baldro_ext.tools.compare.plots import Picture

_FURTHER = 4
_PACKAGES = ("baldro-ext", "numpy", "scipy", "matplotlib")


@dataclass(frozen=True)
class Shown:
    """A picture as the template needs it; `image` is a data URI, empty where there is only a reason."""

    title: str
    caption: str
    image: str
    reason: str


def render(found: Comparison, pictures: Sequence[Picture], images: Mapping[str, bytes], command: str) -> str:
    """Return the report.

    Args:
        found: The comparison.
        pictures: As drawn by `plots.draw`.
        images: Their PNG files by name.
        command: By which the comparison was made.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("baldro_ext.tools.compare", "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {"marked": _marked, "breakable": _breakable}
    head, rows = tables.readable(found)
    test_head, test_rows = tables.tests(found)
    return environment.get_template("report.html.j2").render(
        headline=findings(found)[0],
        further=findings(found)[1 : 1 + _FURTHER],
        rest=findings(found)[1 + _FURTHER :],
        mixed=[str(difference) for difference in found.mixed],
        head=head,
        rows=rows,
        caveats=tables.caveats(found)[len(found.mixed) :],
        test_head=test_head,
        test_rows=test_rows,
        pictures=[_shown(picture, images.get(picture.name)) for picture in pictures],
        settings=outer_differences(found.groups),
        facts=_facts(found),
        runs=_runs(found),
        labels=[one.label for one in found.groups],
        versions=versions(),
        command=command,
    )


def versions() -> dict[str, str]:
    """Return the versions of what made the comparison."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "run from source"
    return found


def _breakable(name: str) -> Markup:
    """Let a long name break after its underscores, but keep the arrow with its last word."""
    return Markup(str(escape(name)).replace("_", "_<wbr>").replace(" ↓", "&nbsp;↓").replace(" ↑", "&nbsp;↑"))


def _marked(cell: str) -> Markup:
    """Colour the sign of a verdict; the sign alone says it, too."""
    text, _, sign = cell.rpartition(" ")
    kind = {"▲": "good", "△": "good", "▼": "bad", "▽": "bad"}.get(sign)
    return Markup('{} <span class="{}">{}</span>').format(text, kind, sign) if kind else Markup(escape(cell))


def _shown(picture: Picture, png: bytes | None) -> Shown:
    image = f"data:image/png;base64,{base64.b64encode(png).decode()}" if png else ""
    return Shown(picture.title, picture.caption, image, picture.reason)


def _facts(found: Comparison) -> list[tuple[str, str]]:
    """Return what is known of the runs in common, with every value where they differ."""
    runs = [run for one in found.groups for run in one.runs]
    table = []
    for name in runs[0].facts:
        values = list(dict.fromkeys(value for run in runs if (value := run.facts.get(name)) is not None))
        table.append((name, "; ".join(values) if values else "not known"))
    for name in dict.fromkeys(name for run in runs for name in run.versions):
        many = dict.fromkeys(run.versions[name] for run in runs if name in run.versions)
        table.append((f"{name} of the runs", "; ".join(many)))
    return table


def _runs(found: Comparison) -> list[dict[str, str]]:
    return [
        {
            "method": one.label,
            "seed": ABSENT if run.seed is None else str(run.seed),
            "training": str(run.place.training or ABSENT),
            "evaluation": run.source,
            "time": ABSENT if run.seconds is None else f"{run.seconds:.0f} s",
            "commands": "\n".join(run.commands),
        }
        for one in found.groups
        for run in one.runs
    ]
