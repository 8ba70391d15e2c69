"""What differs between the framework's benchmarks: names of configurations, splits and result files."""

from dataclasses import dataclass

from baldro_ext.suggest import chosen


@dataclass(frozen=True)
class Benchmark:
    """One benchmark of the framework."""

    name: str  # in its experiments: `tofu` of `unlearn/tofu`
    files: str  # how its result files begin: `TOFU` of `TOFU_SUMMARY.json`
    suite: str  # key of its evaluator below `eval`
    model: str  # the model configuration that its experiments choose
    splits: tuple[str, ...]  # what can be forgotten; the experiments choose the first

    @property
    def by_tasks(self) -> bool:
        """Whether tasks of lm-evaluation-harness are all of its evaluation: no metrics, no retain model."""
        return self.suite == "lm_eval"

    @property
    def results(self) -> tuple[str, ...]:
        """Names of the files that an evaluation is known by: numbers per sample, if it has metrics, and a summary."""
        summary = f"{self.files}_SUMMARY.json"
        return (summary,) if self.by_tasks else (f"{self.files}_EVAL.json", summary)

    def metrics(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """Return the overrides that choose metrics; none where no name is given."""
        group = f"eval/{self.suite}_metrics@eval.{self.suite}.{self.suite}_metrics"
        return (f"{group}=[{','.join(names)}]",) if names else ()

    def split(self, name: str | None, training: bool) -> tuple[str, ...]:
        """Return the overrides that choose a split; none where the experiment's own is kept."""
        if name is None:
            return ()
        chosen(name, self.splits, f"split of {self.name}")
        if self.name != "tofu":
            return (f"data_split={name}",)
        percent = int(name.removeprefix("forget"))
        retain = (f"retain_split=retain{100 - percent}",) if training else ()
        return (f"forget_split={name}", f"holdout_split=holdout{percent:02d}", *retain)


BENCHMARKS = {
    "tofu": Benchmark("tofu", "TOFU", "tofu", "Llama-3.2-1B-Instruct", ("forget10", "forget05", "forget01")),
    "muse": Benchmark("muse", "MUSE", "muse", "Llama-2-7b-hf", ("News", "Books")),
    "wmdp": Benchmark("wmdp", "LMEval", "lm_eval", "zephyr-7b-beta", ("cyber", "bio")),
}


def of(experiment: str) -> Benchmark:
    """Return the benchmark of an experiment, such as `unlearn/tofu` or `unlearn/tofu_idk`.

    The framework's own, such as `unlearn/tofu/default`, need another main configuration, `--config-name=unlearn.yaml`.
    """
    by_experiment = {f"unlearn/{name}": benchmark for name, benchmark in BENCHMARKS.items()}
    return by_experiment[chosen(experiment.partition("_")[0], by_experiment, "experiment")]
