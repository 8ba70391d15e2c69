"""Check that runs can be compared: same benchmark, splits, models, retain logs, tasks and samples."""

from __future__ import annotations

from collections.abc import Callable, Container, Hashable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from baldro_ext.suggest import shortened
from baldro_ext.tools.compare.methods import Method
from baldro_ext.tools.compare.run import RunResult
from baldro_ext.tools.fairness import unfair_accumulation

if TYPE_CHECKING:
    from baldro_ext.tools.compare.comparison import Comparison

_TO_KNOW = ("model before unlearning", "evaluated split", "retain logs")


def differences(methods: Sequence[Method]) -> list[str]:
    """Return the differences that make numbers incomparable, each as `fact: value in runs; value in runs`.

    A fact that is unknown for a run is no difference.
    """
    runs = [run for method in methods for run in method.runs]
    lines = [_difference(name, runs, lambda run, name=name: run.facts[name]) for name in runs[0].facts] if runs else []
    for key in dict.fromkeys(key for run in runs for key in run.evaluation.samples):
        having = [run for run in runs if key in run.evaluation.samples]
        sets = {id(run): tuple(run.evaluation.samples[key].index) for run in having}
        lines.append(_difference(f"samples of {key}", having, lambda run, sets=sets: sets[id(run)], _ends))
    return [line for line in lines if line] + settings(methods)


def settings(methods: Sequence[Method], but: Container[str] = ()) -> list[str]:
    """Return the settings in which runs of one method differ, but for some, as `differences`."""
    lines = []
    for method in methods:
        known = [run for run in method.runs if run.settings]
        for key in dict.fromkeys(key for run in known for key in run.settings if key not in but):
            name = f"trainer.{key} within {method.label}"
            lines.append(_difference(name, known, lambda run, key=key: run.settings.get(key, "not set")))
    return [line for line in lines if line]


def missing(comparison: Comparison) -> list[str]:
    """Return which runs lack shown metrics, and why, and which have no seed."""
    lines: list[str] = []
    for run in comparison.runs:
        values = set(comparison.table.loc[comparison.table["run"] == str(run.folders.main), "metric"])
        if absent := [it.key for it in comparison.metrics if it.key not in values]:
            reasons = [f"{key} ({run.evaluation.absent.get(key, 'not evaluated')})" for key in absent]
            lines.append(f"{run.name} lacks {', '.join(reasons)}")
    if seedless := [run.name for run in comparison.runs if run.seed is None]:
        lines.append(f"in no test, because no seed is recorded: {shortened(seedless, 6)}")
    return lines


def unknown(runs: Iterable[RunResult]) -> list[str]:
    """Return which facts are unknown for which runs, so that they could not be checked."""
    lines: dict[str, list[str]] = {}
    for run in runs:
        if missing := ", ".join(name for name in _TO_KNOW if run.facts[name] is None):
            lines.setdefault(missing, []).append(run.name)
    return [f"not checked, because unknown for {shortened(names, 6)}: {missing}" for missing, names in lines.items()]


def versions(runs: Sequence[RunResult]) -> list[str]:
    """Return the packages that runs used in several versions: no reason to refuse, but to know."""
    names = dict.fromkeys(name for run in runs for name in run.versions)
    lines = [_difference(name, runs, lambda run, name=name: run.versions.get(name)) for name in names]
    return [f"runs used different versions of {line}" for line in lines if line]


def unfair(runs: Sequence[RunResult]) -> list[str]:
    """Return which runs the accumulation steps scaled, if BalDRO, which they do not scale, is among the runs."""
    groups: dict[str, list[str]] = {}
    if not any((run.handler or "").startswith("BalDRO") for run in runs):
        return []
    for run in runs:
        written = run.settings.get("args.gradient_accumulation_steps", "")
        steps = int(written) if written.isdecimal() and len(written) < 9 else 1
        if run.settings.get("accumulation") == "averaged":  # as +accumulation=averaged records
            continue
        if run.handler and (reason := unfair_accumulation(run.handler, steps, run.versions.get("transformers"))):
            groups.setdefault(reason, []).append(run.name)
    return [f"{reason} ({shortened(names, 6)})" for reason, names in groups.items()]


def _difference(
    name: str, runs: Iterable[RunResult], value_of: Callable[..., Hashable], show: Callable[[Any], str] = str
) -> str:
    """Return the values with the runs that have them; empty if no two known values differ."""
    groups: dict[Any, list[str]] = {}
    for run in runs:
        if (value := value_of(run)) is not None:
            groups.setdefault(value, []).append(run.name)
    if len(groups) < 2:
        return ""
    return f"{name}: " + "; ".join(f"{show(value)} in {shortened(names, 6)}" for value, names in groups.items())


def _ends(indices: tuple[str, ...]) -> str:
    return f"{len(indices)} ({indices[0]} to {indices[-1]})"
