"""Compare runs: find them, check that they belong together, and put their values side by side."""

import dataclasses
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from baldro_ext.errors import BaldroError, UsageError
from baldro_ext.suggest import chosen, shortened
from baldro_ext.tools.compare import checks
from baldro_ext.tools.compare.discover import find_runs
from baldro_ext.tools.compare.evaluations import Evaluation
from baldro_ext.tools.compare.fronts import Fronts, fronts
from baldro_ext.tools.compare.methods import baselines, by_grid, group, in_order
from baldro_ext.tools.compare.metrics import Metric, default_metrics, metric
from baldro_ext.tools.compare.recorded import RecordedRun, RetainLogs
from baldro_ext.tools.compare.records import read_published
from baldro_ext.tools.compare.table import BEFORE, RETAIN, Table
from baldro_ext.tools.files import sha256

_COLUMNS = {"method": str, "seed": "Int64", "learning_rate": float, "run": str, "epoch": float}


@dataclass(frozen=True, kw_only=True)
class Comparison(Table):
    """Runs side by side: the table of their final values, and what else is known."""

    # The values of all evaluations, a row each: method, seed, run, learning_rate, epoch (none for the final one), and
    # metrics.
    evaluations: pd.DataFrame
    fronts: Fronts | None = None  # the methods at equal utility, if asked for

    @property
    def tables(self) -> tuple[Table, ...]:
        """What there is to show, in order: at equal utility, if asked for, and each learning rate by itself."""
        return (self.fronts.table, self) if self.fronts else (self,)


def compare(
    folders: str | Path | Sequence[str | Path],
    baseline: str = "",
    metrics: Sequence[str] = (),
    worst_share: float = 0.1,
    allow_mixed: bool = False,
    published: Path | None = None,
    levels: Sequence[float] | None = None,
    utility: str = "",
    left: str = "",
) -> Comparison:
    """Read runs and put them side by side.

    Args:
        folders: Of trainings or evaluations, folders that contain many, or patterns; one or several.
        baseline: A method's label, `methods.OWN_BASE`, or empty for NPO or else the first method that is not BalDRO.
        metrics: Keys such as `model_utility` or `forget_Q_A_Prob.worst`; empty for the usual ones.
        worst_share: Share of the samples that counts as worst, in (0, 1].
        allow_mixed: Compare runs that differ in what makes them comparable, and say so in every output.
        published: CSV file with numbers of others to show below: method, metric, value, and optionally seed and source.
        levels: Compare at these levels of the utility, too; empty for a few round ones, `None` for not at all.
        utility: Metric that is held equal then; empty for the benchmark's own.
        left: Metric that is compared then; empty for what the worst samples keep.

    Raises:
        UsageError: No run, or an unknown baseline or metric.
        BaldroError: A file of a run cannot be read.
        RefusedError: The runs differ in what makes them comparable.
    """
    if not 0 < worst_share <= 1:
        raise UsageError(f"--worst-share {worst_share:g} is not a share: use one in (0, 1], such as 0.1")
    try:
        found = [RecordedRun(*run) for run in find_runs([folders] if isinstance(folders, str | Path) else folders)]
    except OSError as error:
        raise BaldroError(
            f"cannot read {error.filename}: {error.strerror}. Leave this run out, or make it a file that you may read"
        ) from None
    found, references = _without_references(found)
    runs = [run for run in found if not run.unfinished]
    unfinished = [f"{names} ({why})" for why, names in checks.by_reason((it.unfinished, it) for it in found).items()]
    if not runs:
        told = "; ".join(unfinished) or "there is only a reference model"
        raise UsageError(f"none of these runs is evaluated: {told}")
    methods = group(runs)
    warnings = checks.warnings(methods, across_rates=levels is not None, allow_mixed=allow_mixed)
    pairs, alone = baselines(methods, baseline)
    methods = in_order(methods, next(iter(pairs.values()), None))
    evaluations = pd.DataFrame(
        {"method": method.label, "seed": run.seed, "learning_rate": run.learning_rate, "run": str(run.folder),
         "epoch": epoch, **evaluation.values(worst_share)}
        for method in methods
        for run in method.runs
        for epoch, evaluation in [*run.checkpoints.items(), (None, run.evaluation)]
    ).astype(_COLUMNS)  # fmt: skip
    final = evaluations[evaluations["epoch"].isna()].drop(columns=["epoch", "learning_rate"])
    values = final.melt(["method", "seed", "run"], var_name="metric").dropna(subset="value")
    if values.empty:
        raise UsageError("none of the evaluations has a value: evaluate again with src/eval.py")
    offered = set(values["metric"])
    shown = [metric(chosen(key, offered, "--metric")) for key in metrics or default_metrics(offered) or sorted(offered)]
    notes = [f"left out: {'; '.join(unfinished)}"] if unfinished else []
    if levels is None and len(by_grid(methods)) < len(methods):
        notes.append("One method with several learning rates: compare at equal utility by --levels auto.")
    notes += [*alone, *_missing([run.name for method in methods for run in method.runs], final, shown)]
    comparison = Comparison(
        methods=tuple(methods),
        metrics=tuple(shown),
        values=values,
        evaluations=evaluations,
        baselines=pairs,
        worst_share=worst_share,
        references=references,
        warnings=tuple(warnings),
        published=read_published(published),
        notes=(*notes, *checks.unknown(runs), *checks.versions(runs)),
    )
    if levels is None:
        return comparison
    return dataclasses.replace(comparison, fronts=fronts(comparison, evaluations, baseline, levels, utility, left))


def _without_references(runs: Sequence[RecordedRun]) -> tuple[list[RecordedRun], dict[str, Evaluation]]:
    """Return the runs without the model before unlearning and the retain model, and the evaluations of those two."""
    starts = {run.facts["model before unlearning"] for run in runs} - {None}
    retain_logs = {it.digest for run in runs if isinstance(it := run.facts["retain logs"], RetainLogs)}
    references: dict[str, Evaluation] = {}
    rest = []
    for run in runs:
        file = run.evaluation.folder / f"{run.evaluation.benchmark}_EVAL.json"
        if run.training or run.trainer:  # the latter where the training was deleted
            rest.append(run)
        elif run.model in starts:
            references[BEFORE] = run.evaluation
        elif file.is_file() and sha256(file.read_bytes()) in retain_logs:
            references[RETAIN] = run.evaluation
        else:
            rest.append(run)
    return rest, {name: references[name] for name in (BEFORE, RETAIN) if name in references}


def _missing(names: Sequence[str], final: pd.DataFrame, shown: Sequence[Metric]) -> list[str]:
    """Return which runs lack shown metrics, and which have no seed; `final` has a row per name."""
    lacking = {f"no {it.key}, because not evaluated or null, for": final[it.key].isna() for it in shown}
    lacking["in no test, because no seed is recorded:"] = final["seed"].isna()
    lists = {told: list(itertools.compress(names, lacks)) for told, lacks in lacking.items()}
    return [f"{told} {shortened(those, 6)}" for told, those in lists.items() if those]
