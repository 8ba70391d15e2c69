"""Check that runs can be compared: same benchmark, splits, models, retain logs, tasks and samples."""

from collections.abc import Container, Hashable, Iterable, Mapping, Sequence

from baldro_ext.errors import RefusedError
from baldro_ext.suggest import shortened
from baldro_ext.tools.compare.methods import RATE_AND_EPOCHS, Method, by_grid
from baldro_ext.tools.compare.recorded import RecordedRun
from baldro_ext.tools.fairness import unfair_accumulation

_TO_KNOW = ("model before unlearning", "evaluated split", "retain logs")


def warnings(methods: Sequence[Method], across_rates: bool, allow_mixed: bool) -> list[str]:
    """Return the differences that make numbers incomparable or unfair, with the runs.

    A fact that is unknown for a run is no difference. With `across_rates` the runs of a grid count as one method, too.
    What makes numbers incomparable is refused unless `allow_mixed`.
    """
    runs = [run for method in methods for run in method.runs]
    samples = [
        (run, {f"samples of {key}": tuple(values.index) for key, values in run.evaluation.samples.items()})
        for run in runs
    ]
    mixed = [*_differences((run, run.facts) for run in runs), *_differences(samples), *_settings(methods)]
    if across_rates:
        mixed += [line for line in _settings(by_grid(methods), but=RATE_AND_EPOCHS) if line not in mixed]
    if mixed and not allow_mixed:
        raise RefusedError(
            "these runs cannot be compared, because they differ in\n"
            + "".join(f"  {difference}\n" for difference in mixed)
            + "Name runs that agree, or compare them nevertheless with --allow-mixed"
        )
    told = [f"MIXED RUNS, compared only because of --allow-mixed: {line}" for line in mixed]
    return told + [f"UNFAIR: {line}" for line in _unfair(runs)]


def _settings(methods: Sequence[Method], but: Container[str] = ()) -> list[str]:
    """Return the settings in which runs of one method differ, but for some."""
    lines = []
    for method in methods:
        known = [run for run in method.runs if run.settings]
        names = {key: f"trainer.{key} within {method.label}" for run in known for key in run.settings if key not in but}
        lines += _differences((run, {names[key]: run.settings.get(key, "not set") for key in names}) for run in known)
    return lines


def versions(runs: Sequence[RecordedRun]) -> list[str]:
    """Return the packages that runs used in several versions: no reason to refuse, but to know."""
    return [f"runs used different versions of {line}" for line in _differences((run, run.versions) for run in runs)]


def unknown(runs: Iterable[RecordedRun]) -> list[str]:
    """Return which facts are unknown for which runs, so that they could not be checked."""
    missing = ((", ".join(name for name in _TO_KNOW if run.facts[name] is None), run) for run in runs)
    return [f"not checked, because unknown for {names}: {facts}" for facts, names in by_reason(missing).items()]


def _unfair(runs: Sequence[RecordedRun]) -> list[str]:
    """Return which runs the accumulation steps scaled, if BalDRO, which they do not scale, is among the runs."""
    if not any(run.settings.get("handler", "").startswith("BalDRO") for run in runs):
        return []
    reasons = []
    for run in runs:
        handler, steps = (run.settings.get(key, "") for key in ("handler", "args.gradient_accumulation_steps"))
        # +accumulation=averaged is recorded so.
        if handler and steps.isdecimal() and len(steps) < 9 and run.settings.get("accumulation") != "averaged":
            reason = unfair_accumulation(handler, int(steps), run.versions.get("transformers"))
            reasons.append((reason or "", run))
    return [f"{reason} ({names})" for reason, names in by_reason(reasons).items()]


def by_reason(runs: Iterable[tuple[str, RecordedRun]]) -> dict[str, str]:
    """Return the names of the runs by each reason that is not empty, long lists cut short."""
    names: dict[str, list[str]] = {}
    for reason, run in runs:
        if reason:
            names.setdefault(reason, []).append(run.name)
    return {reason: shortened(them, 6) for reason, them in names.items()}


def _differences(runs: Iterable[tuple[RecordedRun, Mapping[str, Hashable]]]) -> list[str]:
    """Return each name with its values and the runs that have them, where two values that are not `None` differ."""
    having: dict[str, dict[Hashable, list[str]]] = {}
    for run, values in runs:
        for name, value in values.items():
            if value is not None:
                having.setdefault(name, {}).setdefault(value, []).append(run.name)
    return [
        f"{name}: " + "; ".join(f"{_told(value)} in {shortened(names, 6)}" for value, names in groups.items())
        for name, groups in having.items()
        if len(groups) > 1
    ]


def _told(value: Hashable) -> str:
    return f"{len(value)} ({value[0]} to {value[-1]})" if isinstance(value, tuple) else str(value)
