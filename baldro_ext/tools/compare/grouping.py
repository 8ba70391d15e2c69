"""Which runs are the same method with other seeds, and what a method is called."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from baldro_ext.tools.compare.collect import Run
from baldro_ext.tools.compare.comparability import Difference
from baldro_ext.tools.compare.errors import MixedRunsError

_Settings = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Group:
    """A method, with one run per seed.

    Attributes:
        label: What tables and pictures call it.
        runs: By seed.
    """

    label: str
    runs: tuple[Run, ...]

    @property
    def base(self) -> str | None:
        """The forget loss inside a BalDRO trainer; `None` for others."""
        return self.runs[0].base

    @property
    def is_robust(self) -> bool:
        """Whether its trainer is one of BalDRO's."""
        return (self.runs[0].trainer or self.label).startswith("BalDRO")

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds that are known."""
        return tuple(run.seed for run in self.runs if run.seed is not None)


def group(runs: Sequence[Run]) -> list[Group]:
    """Return the methods in the order of the runs.

    A run's label is the one in `study.json`; else its trainer, with those settings by which runs of the same trainer
    differ; else, where nothing is noted, its folder's name, and it stands alone.

    Raises:
        MixedRunsError: A method has the same seed twice, which would pass for two independent runs.
    """
    groups: dict[str, list[Run]] = {}
    for run, label in zip(runs, _labels(runs), strict=True):
        groups.setdefault(label, []).append(run)
    for label, members in groups.items():
        seen: dict[int | None, Run] = {}
        for run in members:
            if run.seed in seen:
                seed = "an unknown seed" if run.seed is None else f"seed {run.seed}"
                raise MixedRunsError(
                    f"{label} has {seed} twice, in {seen[run.seed].place} and {run.place}: the same run counted twice "
                    "would look like agreement between seeds. Name one of them"
                )
            seen[run.seed] = run
    return [Group(label, tuple(sorted(runs, key=_by_seed))) for label, runs in groups.items()]


def family(one: Group) -> str:
    """Return what a method shares with its variants: the forget loss, or the method's own name."""
    return one.base or one.runs[0].trainer or one.label


def in_order(groups: Sequence[Group], first: str | None = None) -> list[Group]:
    """Return the methods by forget loss, and the plain one before its variants; the family of `first` comes first."""
    families = list(dict.fromkeys(family(one) for one in groups))
    head = next((family(one) for one in groups if one.label == first), None)
    return sorted(groups, key=lambda one: (family(one) != head, families.index(family(one)), one.is_robust))


def inner_differences(groups: Sequence[Group]) -> list[Difference]:
    """Return the settings in which runs of one method differ; its seeds would then not be repetitions."""
    found = []
    for one in groups:
        for key in dict.fromkeys(key for run in one.runs for key in run.settings):
            values: dict[str, list[str]] = {}
            for run in one.runs:
                if run.settings:
                    values.setdefault(run.settings.get(key, "not set"), []).append(run.name)
            if len(values) > 1:
                shown = tuple((value, tuple(names)) for value, names in values.items())
                found.append(Difference(f"trainer.{key} within {one.label}", shown))
    return found


def outer_differences(groups: Sequence[Group]) -> list[tuple[str, dict[str, str]]]:
    """Return the settings in which methods differ, each with its value by label; `-` where it is not set."""
    known = [one for one in groups if one.runs[0].settings]
    keys = sorted({key for one in known for key in one.runs[0].settings})
    table = [(key, {one.label: one.runs[0].settings.get(key, "-") for one in known}) for key in keys]
    return [(key, values) for key, values in table if len(set(values.values())) > 1]


def _by_seed(run: Run) -> tuple[bool, int]:
    return run.seed is None, run.seed or 0


def _labels(runs: Sequence[Run]) -> list[str]:
    variants: dict[str, list[_Settings]] = {}
    named = {(run.trainer, _frozen(run)) for run in runs if run.label is not None and run.label == run.trainer}
    for run in runs:
        if run.trainer is not None and run.label in (None, run.trainer):
            of_trainer = variants.setdefault(run.trainer, [])
            if (settings := _frozen(run)) not in of_trainer:
                of_trainer.append(settings)
    found = []
    for run in runs:
        if run.label is not None or run.trainer is None:
            found.append(run.label or run.place.name)
        elif (run.trainer, _frozen(run)) in named:
            found.append(run.trainer)
        else:
            found.append(_label(run, variants[run.trainer]))
    return found


def _label(run: Run, variants: Sequence[_Settings]) -> str:
    varying = [key for key in run.settings if len({dict(variant).get(key) for variant in variants}) > 1]
    told = [f"{key.removeprefix('args.').removeprefix('method_args.')}={run.settings[key]}" for key in varying]
    return " ".join([run.trainer or "", *told])


def _frozen(run: Run) -> _Settings:
    return tuple(sorted(run.settings.items()))
