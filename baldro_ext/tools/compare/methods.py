"""Group runs into methods: runs that differ in nothing but the seed."""

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from baldro_ext.errors import RefusedError, UsageError
from baldro_ext.suggest import known
from baldro_ext.tools.compare.recorded import RecordedRun
from baldro_ext.tools.compare.records import printable

RATE_AND_EPOCHS = ("args.learning_rate", "args.num_train_epochs")
"""Settings in which the runs of one grid differ, besides the seed."""
OWN_BASE = "base"
"""As a baseline: compare each BalDRO method with the plain trainer of its forget loss."""
_RATE_OR_EPOCHS = re.compile(r"[ _](?:lr|learning_rate[=-]|num_train_epochs[=-])[\d.e-]+")


@dataclass(frozen=True, eq=False)
class Method:
    """A method, with one run per seed."""

    label: str  # in tables and pictures
    runs: tuple[RecordedRun, ...]  # by seed

    @property
    def trainer(self) -> str:
        """The name given as `trainer=`, or else the label."""
        return self.runs[0].trainer or self.label

    @property
    def base(self) -> str:
        """The forget loss of a BalDRO trainer, or else the trainer."""
        return self.runs[0].settings.get("method_args.base") or self.trainer

    @property
    def grid(self) -> str:
        """Its label without learning rate and number of epochs, which methods of one grid have in common."""
        return _RATE_OR_EPOCHS.sub("", self.label)

    @property
    def is_robust(self) -> bool:
        """Whether its trainer is one of BalDRO's."""
        return self.trainer.startswith("BalDRO")

    @property
    def is_relearned(self) -> bool:
        """Whether its models were finetuned on forgotten answers after unlearning."""
        return self.runs[0].is_relearned


def group(runs: Sequence[RecordedRun]) -> list[Method]:
    """Return the methods, in the order of the runs.

    A method is named by `study.json`; without it by the trainer, and by the settings that differ both from the
    trainer's default and between the runs. A run about which nothing is recorded is a method of its own, named by its
    folder.
    """
    methods: dict[str, dict[int | None, RecordedRun]] = {}
    for run, label in zip(runs, _labels(runs), strict=True):
        twin = methods.setdefault(label, {}).setdefault(run.seed, run)
        if twin is not run:
            seed = "an unknown seed" if run.seed is None else f"seed {run.seed}"
            raise RefusedError(
                f"{label} has {seed} twice, in {twin.folder} and {run.folder}, and the same run counted "
                "twice would look like agreement between seeds: name one of them"
            )
    return [
        Method(label, tuple(sorted(by_seed.values(), key=lambda run: (run.seed is None, run.seed or 0))))
        for label, by_seed in methods.items()
    ]


def _labels(runs: Sequence[RecordedRun]) -> list[str]:
    """Return the label of each run."""
    recorded = [run for run in runs if run.settings]
    keys = sorted({key for run in recorded for key in run.settings})
    varying = [key for key in keys if len({run.settings.get(key) for run in recorded}) > 1]
    # What nobody has set is a trainer's default; two such values come from other parts of the configuration.
    defaults: dict[tuple[str | None, str], set[str | None]] = defaultdict(set)
    for run in recorded:
        for key in set(varying) - run.overridden:
            defaults[run.trainer, key].add(run.settings.get(key))
    labels = []
    for run in runs:
        attacked = "_relearned" if run.is_relearned and run.label is None else ""
        named = any(it.label == run.trainer == it.trainer and it.settings == run.settings for it in runs)
        if run.label is not None or run.trainer is None or named:
            words = [run.label or run.trainer or printable(run.folder.name)]
        else:
            own = {key: run.settings.get(key) for key in varying if run.settings}
            told = {key: value for key, value in own.items() if defaults[run.trainer, key] != {value}}
            words = [run.trainer]
            words += [f"{key.rpartition('.')[2]}={'unset' if it is None else it}" for key, it in told.items()]
        labels.append(" ".join(words) + attacked)
    return labels


def by_grid(methods: Sequence[Method]) -> list[Method]:
    """Return one method per grid, with the runs of all its learning rates and numbers of epochs."""
    grids: dict[str, tuple[RecordedRun, ...]] = {}
    for method in methods:
        grids[method.grid] = (*grids.get(method.grid, ()), *method.runs)
    return [Method(grid, runs) for grid, runs in grids.items()]


def in_order(methods: Sequence[Method], first: str | None) -> list[Method]:
    """Sort methods by forget loss, the plain trainer before its variants, and the loss of `first` first."""
    losses = {method.label: method.base for method in methods}
    order = [losses.get(first or ""), *losses.values()]
    return sorted(methods, key=lambda it: (order.index(losses[it.label]), it.is_robust))


def baselines(methods: Sequence[Method], wanted: str) -> tuple[dict[str, str], list[str]]:
    """Return the label of each method's baseline, and remarks about methods that have none.

    `wanted` is a label, a grid, a trainer or `OWN_BASE`; empty for NPO, or else the first that is not BalDRO's.
    """
    labels = [method.label for method in methods]
    # Relearned models are compared with relearned ones, and others with others.
    alike = [[it for it in methods if it.is_relearned is relearned] for relearned in (False, True)]
    if wanted == OWN_BASE and OWN_BASE not in labels:
        offered = {
            it: [other for other in _named(them, it.base) if other is not it]
            for them in alike
            for it in them
            if it.is_robust
        }
    else:
        plain = [method.grid for method in methods if not method.is_robust]
        names = [wanted] if wanted else ["NPO", *plain[:1]]
        meant = [next((found for name in names if (found := _named(them, name))), []) for them in alike]
        if wanted and not any(meant):
            options = {name for it in methods for name in (it.label, it.grid)}
            raise UsageError(f"--baseline {wanted!r} is unknown: {known(wanted, options)}")
        if not any(meant):
            return {}, ["no baseline: name a method with --baseline"] if len(methods) > 1 else []
        offered = {it: found for them, found in zip(alike, meant, strict=True) for it in them if it not in found}
    pairs, alone = {}, []
    for method, others in offered.items():
        # Of several learning rates, its own.
        same = [it for it in others if len(others) == 1 or it.runs[0].learning_rate == method.runs[0].learning_rate]
        if len(same) == 1:
            pairs[method.label] = same[0].label
        else:
            alone.append(method.label)
    remark = f"no baseline for {', '.join(alone)}: no run of its base, or none with its learning rate"
    return pairs, [remark] if alone else []


def _named(methods: Sequence[Method], name: str) -> list[Method]:
    """Return the method with this label, or those of the grid with this name, or of the only one with this trainer."""
    by_key = ([it for it in methods if getattr(it, key) == name] for key in ("label", "grid", "trainer"))
    found: list[Method] = next(filter(None, by_key), [])
    return found if len({it.grid for it in found}) == 1 else []
