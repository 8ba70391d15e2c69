"""A comparison as the commands that carry it out. Nothing here runs, reads or writes anything."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from baldro_ext.errors import UsageError
from baldro_ext.tools.commands import Command, Script
from baldro_ext.tools.fairness import unfair_accumulation
from baldro_ext.tools.run import benchmarks
from baldro_ext.tools.run.benchmarks import Benchmark
from baldro_ext.tools.run.method import Method

BEFORE = "before"
_SHARED_KEYS = ("model", "forget_split", "holdout_split", "data_split")
# What of a training is about the machine, and so holds for the relearning as well.
_MACHINE_KEYS = ("bf16", "bf16_full_eval", "fp16", "optim", "gradient_checkpointing", "report_to")
_MODEL = "model.model_args.pretrained_model_name_or_path"
# What names a run's results or its model: an override of it would record them under another name than they have, or
# evaluate another model.
_RESERVED_KEYS = {
    "trainer": "a method per trainer",
    "experiment": "--experiment",
    "task_name": "a label, as in 'mine=NPO:...'",
    "trainer.args.seed": "--seeds",
    _MODEL: "--model",
    **dict.fromkeys(("retain_logs_path", "eval.tofu.retain_logs_path", "eval.muse.retain_logs_path"), "--retain-logs"),
    "hardware": "--hardware",
    "trainer.args.output_dir": "--folder",
    "paths.output_dir": "--folder",
    "hydra.run.dir": "--folder",
}


@dataclass(frozen=True)
class Run:
    """One model of a comparison."""

    task: str  # names its folders
    model: str  # folder or name of the model that is evaluated
    training: Command | None  # how it is made, or None for a model that is there
    evaluations: tuple[Command, ...]  # each by itself, after the training
    method: Method | None = None  # None for a model that is there, like the seed
    seed: int | None = None
    relearning: Run | None = None  # what is made from this model, if it is attacked
    unlearned: str | None = None  # folder of the unlearning, also of what is made from its model

    @property
    def commands(self) -> tuple[Command, ...]:
        """All of its commands, in order."""
        return (*((self.training,) if self.training else ()), *self.evaluations)


@dataclass(frozen=True)
class Study:
    """What is compared, and how: the options of `baldro run`, which documents them, by their names there.

    `common` is --set, `evaluation` is --eval-set; `None` and empty leave the choice to the experiment. `transformers`
    is the version with which the framework's own trainers are made to average over gradient accumulation steps as
    BalDRO's do; `None` leaves them as they are.
    """

    methods: tuple[Method, ...]
    seeds: tuple[int, ...] = (0,)
    experiment: str = "unlearn/tofu"
    model: str | None = None
    tokenizer: str | None = None
    model_config: str | None = None
    split: str | None = None
    retain_model: str | None = None
    retain_logs: str | None = None
    hardware: str | None = None
    common: tuple[str, ...] = ()
    evaluation: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ()
    every_epoch: tuple[str, ...] = ()
    lm_eval: tuple[str, ...] = ()
    relearn: float | None = None
    transformers: str | None = None

    def __post_init__(self) -> None:
        labels = self.labels
        if shared := {label for label in labels if labels.count(label) > 1 or label == BEFORE}:
            raise UsageError(
                f"two models would share the name {', '.join(sorted(shared))}: give one of them a label, as in "
                "'mine=NPO:trainer.method_args.beta=0.5'"
            )
        if not labels or not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise UsageError("a study needs at least one method and one seed, and no seed twice")
        if out := [seed for seed in self.seeds if not 0 <= seed < 2**32]:
            raise UsageError(f"seed {out[0]} is out of range: use seeds from 0 to {2**32 - 1}")
        self._refuse_own_overrides()
        if self.retain_model and self.retain_logs:
            raise UsageError("retain_model is evaluated first, which makes its retain_logs: name only one of them")
        if self.benchmark.by_tasks and (self.metrics or self.every_epoch):
            raise UsageError(f"{self.experiment} is evaluated by tasks and not by metrics: choose them by lm_eval")
        if self.relearn is not None and self.benchmark.name != "tofu":
            raise UsageError(f"relearn is for TOFU, not for {self.experiment}: leave it out")
        if self.relearn is not None and not 0 < self.relearn < 1:
            raise UsageError(f"relearn={self.relearn} is no learning rate: use a number such as 1e-5")
        adapted = [method.label for method in self.methods if self.relearn and self._leaves_adapters(method)]
        if adapted:
            raise UsageError(
                f"relearn needs whole models, but +peft leaves adapters of {', '.join(adapted)}: add peft.merge=true, "
                "or leave relearn out"
            )

    def _refuse_own_overrides(self) -> None:
        of_methods = [override for method in self.methods for override in method.overrides]
        for override in (*self.common, *self.evaluation, *of_methods):
            key, _, value = override.lstrip("+~").partition("=")
            whole = value.startswith("{")  # sets all that is below its key
            taken = [it for it in _RESERVED_KEYS if it == key or (whole and it.startswith(f"{key}."))]
            if taken:
                instead = _RESERVED_KEYS[taken[0]] + ("" if taken == [key] else ", and set its other keys one by one")
                raise UsageError(f"{override!r} is refused, because baldro run sets {taken[0]} itself: use {instead}")

    def _leaves_adapters(self, method: Method) -> bool:
        overrides = (*self.common, *method.overrides)
        merges = _chosen(overrides, "peft.merge")
        merged = bool(merges) and merges[-1].partition("=")[2].lower() == "true"
        return bool(_chosen(overrides, "peft")) and not merged

    @property
    def labels(self) -> tuple[str, ...]:
        """What is compared: the methods, and each after its relearning, if they are attacked."""
        attacked = tuple(_relearned(method) for method in self.methods if self.relearn)
        return tuple(method.label for method in (*self.methods, *attacked))

    @property
    def benchmark(self) -> Benchmark:
        """The benchmark of the experiment."""
        return benchmarks.of(self.experiment)

    @property
    def chosen_split(self) -> str:
        """What is forgotten."""
        return self.split or self.benchmark.splits[0]

    @property
    def retain(self) -> Run | None:
        """The evaluation that the others compare with, if it is to be made from a model."""
        if not self.retain_model or self.benchmark.by_tasks:
            return None
        task = f"{PurePosixPath(self.retain_model).name}_{self.chosen_split}"
        return Run(task, self.retain_model, None, (self._evaluate(task, self.retain_model, None),))

    @property
    def retain_file(self) -> str | None:
        """File with the retain model's evaluation, or `None` where there is none to compare with."""
        if self.benchmark.by_tasks:
            return None
        return self.retain.evaluations[0].results[0] if self.retain else self.retain_logs

    @property
    def runs(self) -> tuple[Run, ...]:
        """The model before unlearning, if it is named, and all methods with the first seed, the second, ..."""
        before = [Run(BEFORE, self.model, None, self._evaluations(BEFORE, self.model))] if self.model else []
        return (*before, *(self._run(method, seed) for seed in self.seeds for method in self.methods))

    def _run(self, method: Method, seed: int) -> Run:
        task = f"{method.label}_seed{seed}"
        folder = f"saves/unlearn/{task}"
        overrides = (
            f"trainer.args.seed={seed}",
            *self._model(self.model),
            *self.benchmark.split(self.split, training=True),
            *self._schedule(),
            *self.common,
            *method.overrides,
            *self.accumulation(method),
        )
        choices = (f"trainer={method.trainer}", f"experiment={self.experiment}")
        training = self._command("train", f"unlearn {task}", task, choices, overrides, f"{folder}/training_args.bin")
        relearning = self._relearning(method, seed, folder) if self.relearn else None
        return Run(task, folder, training, self._evaluations(task, folder), method, seed, relearning, folder)

    def _relearning(self, method: Method, seed: int, model: str) -> Run:
        """Return the finetuning of an unlearned model on a part of the forget set; its rate is the same for all."""
        relearned = _relearned(method)
        task = f"{relearned.label}_seed{seed}"
        folder = f"saves/relearn/{task}"
        overrides = (
            *self._model(model),
            f"trainer.args.learning_rate={self.relearn:g}",
            *self.benchmark.split(self.split, training=False),
            *_chosen(self.common, *_SHARED_KEYS, *(f"trainer.args.{name}" for name in _MACHINE_KEYS)),
        )
        choices, made = ("experiment=relearn/tofu",), f"{folder}/training_args.bin"
        training = self._command("train", f"relearn {method.label}_seed{seed}", task, choices, overrides, made)
        evaluations = (self._evaluate(task, folder, self.retain_file),)
        return Run(task, folder, training, evaluations, relearned, seed, unlearned=model)

    def accumulation(self, method: Method) -> tuple[str, ...]:
        """Return the override that makes a method average over accumulation steps; none if it does so by itself."""
        overrides = (*self.common, *method.overrides)
        if not self.transformers or _chosen(overrides, "accumulation"):
            return ()
        given = _chosen(overrides, "trainer.args.gradient_accumulation_steps")
        value = given[-1].partition("=")[2] if given else ""
        steps = int(value) if value.isdigit() else 2  # each experiment of the framework has several
        needed = unfair_accumulation(method.trainer, steps, self.transformers)
        return ("+accumulation=averaged",) if needed else ()

    def _schedule(self) -> tuple[str, ...]:
        if not self.every_epoch:
            return ("trainer.args.eval_on_start=false", "trainer.args.eval_strategy=no", "trainer.args.do_eval=false")
        suite = f"eval.{self.benchmark.suite}"
        # The configuration forget_Truth_Ratio is of the metric forget_truth_ratio.
        here = tuple(f"{suite}.metrics.{name}".lower() for name in self.every_epoch)
        settings = _chosen(self.evaluation, f"{suite}.metrics")
        others = {it for it in settings if not _chosen((it.lower(),), *here)}  # only the final evaluation has them
        return (
            "trainer.args.eval_strategy=epoch",
            *self.benchmark.metrics(self.every_epoch),
            *_given("retain_logs_path", self.retain_file),
            *(override for override in _chosen(self.evaluation, suite) if override not in others),
        )

    def _evaluations(self, task: str, model: str) -> tuple[Command, ...]:
        first = self._evaluate(task, model, self.retain_file)
        if not self.lm_eval or self.benchmark.by_tasks:
            return (first,)
        overrides = (
            *self._model(model),
            "eval.lm_eval.overwrite=true",
            *self._tasks,
            "hydra.output_subdir=.hydra_lm_eval",  # beside the benchmark's own, which has the same folder
            *_chosen(self.common, "model"),
            *_chosen(self.evaluation, "model", "eval.lm_eval", "hydra", "seed"),
        )
        choices = ("eval=lm_eval", f"model={self.model_config or self.benchmark.model}")
        result = f"saves/eval/{task}/LMEval_SUMMARY.json"
        return (first, self._command("eval", f"lm-eval {task}", task, choices, overrides, result))

    def _evaluate(self, task: str, model: str, retain: str | None) -> Command:
        of_tasks = () if self.benchmark.by_tasks else _chosen(self.evaluation, "eval.lm_eval")
        overrides = (
            *self._model(model),
            *self.benchmark.split(self.split, training=False),
            *_given("retain_logs_path", retain),
            f"eval.{self.benchmark.suite}.overwrite=true",
            *self.benchmark.metrics(self.metrics),
            *(self._tasks if self.benchmark.by_tasks else ()),
            *(("+eval/relearned=tofu",) if self.relearn else ()),
            *_chosen(self.common, *_SHARED_KEYS),
            *(override for override in self.evaluation if override not in of_tasks),
        )
        choices = (f"experiment=eval/{self.benchmark.name}/default",)
        results = (f"saves/eval/{task}/{name}" for name in self.benchmark.results)
        return self._command("eval", f"evaluate {task}", task, choices, overrides, *results)

    def _command(
        self, script: Script, name: str, task: str, choices: tuple[str, ...], overrides: tuple[str, ...], *results: str
    ) -> Command:
        hardware = self.hardware and f"{self.hardware}{'_eval' if script == 'eval' else ''}"
        head = (*choices, *_given("+hardware", hardware), f"task_name={task}")
        return Command(name, script, (*head, *overrides), results)

    @property
    def _tasks(self) -> tuple[str, ...]:
        return (f"eval.lm_eval.tasks=[{','.join(self.lm_eval)}]",) if self.lm_eval else ()

    def _model(self, name: str | None) -> tuple[str, ...]:
        return (
            *_given("model", self.model_config),
            *_given(_MODEL, name),
            *_given("model.tokenizer_args.pretrained_model_name_or_path", self.tokenizer),
        )


def _relearned(method: Method) -> Method:
    return replace(method, label=f"{method.label}_relearned")


def _given(key: str, value: str | None) -> tuple[str, ...]:
    """Return the override of a key; none where there is no value."""
    return (f"{key}={value}",) if value else ()


def _chosen(overrides: tuple[str, ...], *keys: str) -> tuple[str, ...]:
    """Return the overrides of these keys and of what is below them: of `eval`, `++eval.tofu.batch_size=8`."""
    below = re.compile(rf"[+~]*({'|'.join(map(re.escape, keys))})(?![\w])")
    return tuple(override for override in overrides if below.match(override))
