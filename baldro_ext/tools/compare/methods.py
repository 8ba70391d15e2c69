"""Group runs into methods: runs that differ in nothing but the seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from baldro_ext.tools.compare.errors import MixedRunsError
from baldro_ext.tools.compare.run import RunResult


@dataclass(frozen=True)
class Method:
    """A method, with one run per seed.

    Attributes:
        label: Its name in tables and pictures.
        runs: By seed.
    """

    label: str
    runs: tuple[RunResult, ...]

    @property
    def base(self) -> str | None:
        """The forget loss of a BalDRO trainer; `None` for others."""
        return self.runs[0].base

    @property
    def is_robust(self) -> bool:
        """Whether its trainer is one of BalDRO's."""
        return (self.runs[0].trainer or self.label).startswith("BalDRO")

    @property
    def family(self) -> str:
        """What it has in common with its variants: the forget loss, or the trainer."""
        return self.base or self.runs[0].trainer or self.label

    @property
    def variant(self) -> str:
        """Its name among the methods of its family."""
        if self.is_robust:
            return self.label.replace(f"_{self.family}", "")
        return f"without BalDRO{self.label.removeprefix(self.family)}"


def group(runs: Sequence[RunResult]) -> list[Method]:
    """Return the methods, in the order of the runs.

    A method is named by `study.json`; without it by the trainer, and where a trainer comes with several settings, by
    those that differ. A run about which nothing is recorded is a method of its own, named by its folder.

    Raises:
        MixedRunsError: A method has the same seed twice, which would count as two independent runs.
    """
    methods: dict[str, list[RunResult]] = {}
    for run in runs:
        label = _label(run, runs)
        twin = next((other for other in methods.get(label, ()) if other.seed == run.seed), None)
        if twin is not None:
            seed = "an unknown seed" if run.seed is None else f"seed {run.seed}"
            raise MixedRunsError(
                f"{label} has {seed} twice, in {twin.folders.main} and {run.folders.main}, and the same run counted "
                "twice would look like agreement between seeds: name one of them"
            )
        methods.setdefault(label, []).append(run)
    return [
        Method(label, tuple(sorted(members, key=lambda run: (run.seed is None, run.seed or 0))))
        for label, members in methods.items()
    ]


def in_order(methods: Sequence[Method], first: str | None) -> list[Method]:
    """Sort methods by forget loss, the plain trainer before its variants, and the family of `first` first."""
    families = list(dict.fromkeys(method.family for method in methods))
    head = next((method.family for method in methods if method.label == first), None)
    return sorted(methods, key=lambda it: (it.family != head, families.index(it.family), it.is_robust))


def _label(run: RunResult, runs: Sequence[RunResult]) -> str:
    if run.label is not None or run.trainer is None:
        return run.label or run.folders.main.name
    if any(other.label == run.trainer == other.trainer and other.settings == run.settings for other in runs):
        return run.trainer
    alike = [it.settings for it in runs if it.trainer == run.trainer and it.label in (None, it.trainer)]
    varying = [key for key in run.settings if len({settings.get(key) for settings in alike}) > 1]
    told = [f"{key.removeprefix('args.').removeprefix('method_args.')}={run.settings[key]}" for key in varying]
    return " ".join([run.trainer, *told])
