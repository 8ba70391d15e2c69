"""A comparison as the commands that carry it out. Nothing here runs, reads or writes anything.

Every folder is relative to the working folder and named by the task, which is a method's label and its seed:

    saves/unlearn/BalDRO_DV_seed1/                            the model
    saves/unlearn/BalDRO_DV_seed1/checkpoint-*/evals/         with `every_epoch`: evaluations during training
    saves/eval/BalDRO_DV_seed1/TOFU_SUMMARY.json              its evaluation; beside it TOFU_EVAL.json
    saves/eval/BalDRO_DV_seed1/LMEval_SUMMARY.json            with `lm_eval`: further tasks
    saves/eval/BalDRO_DV_seed1/study.json                     what was run, `baldro_ext.tools.run.record`
    saves/eval/before/                                        the model before unlearning
    logs/unlearn_BalDRO_DV_seed1.log                          the output of each command, and its command line
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath

from baldro_ext.tools.commands import Command
from baldro_ext.tools.run import benchmarks
from baldro_ext.tools.run.benchmarks import Benchmark
from baldro_ext.tools.run.methods import Method, StudyError

BEFORE = "before"
_SHARED = ("model", "forget_split", "holdout_split", "data_split")


@dataclass(frozen=True)
class Run:
    """One model of a comparison.

    Attributes:
        task: Names its folders.
        model: Folder or name of the model that is evaluated.
        training: How it is made; `None` for a model that is there.
        evaluations: Each by itself, after the training.
        method: `None` for a model that is there.
        seed: Likewise.
    """

    task: str
    model: str
    training: Command | None
    evaluations: tuple[Command, ...]
    method: Method | None = None
    seed: int | None = None

    @property
    def commands(self) -> tuple[Command, ...]:
        """All of its commands, in order."""
        return (*((self.training,) if self.training else ()), *self.evaluations)


@dataclass(frozen=True)
class Study:
    """What is compared, and how.

    Attributes:
        methods: Each is trained with every seed.
        seeds: Of the trainings.
        experiment: Of the trainings: `unlearn/tofu`, `unlearn/muse` or `unlearn/wmdp`.
        model: Folder or name of the model before unlearning; `None` leaves the experiment's.
        tokenizer: Folder or name of the tokenizer; `None` leaves the model configuration's.
        model_config: The framework's model configuration; `None` leaves the experiment's.
        split: What is forgotten: `forget05` (TOFU), `Books` (MUSE), `bio` (WMDP); `None` leaves the experiment's.
        retain_model: Folder or name of the model that never saw the forget set; evaluated first.
        retain_logs: File with its evaluation; by default in `saves/eval`, named by the retain model and the split.
        hardware: `cpu` appends `+hardware=cpu` to trainings and `+hardware=cpu_eval` to evaluations.
        common: Hydra overrides of all trainings; what chooses the model or the split goes to the evaluations too.
        evaluation: Hydra overrides of all evaluations; what begins with `eval.` goes to those during training too.
        metrics: Of the final evaluation, by the names of their configurations; empty leaves the benchmark's.
        every_epoch: Metrics computed before training and after each epoch; empty computes none.
        lm_eval: Tasks of lm-evaluation-harness, which the final models are given too.
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

    def __post_init__(self) -> None:
        labels = [method.label for method in self.methods]
        if twice := {label for label in labels if labels.count(label) > 1 or label == BEFORE}:
            raise StudyError(
                f"two models would share the name {', '.join(sorted(twice))}: give one of them a label, as in "
                "'mine=NPO:trainer.method_args.beta=0.5'"
            )
        if not labels or not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise StudyError("a study needs at least one method and one seed, and no seed twice")
        if self.benchmark.metrics is None and (self.metrics or self.every_epoch):
            raise StudyError(f"{self.experiment} is evaluated by tasks and not by metrics: choose them by lm_eval")

    @property
    def benchmark(self) -> Benchmark:
        """The benchmark of the experiment."""
        return benchmarks.of(self.experiment)

    @property
    def retain_file(self) -> str | None:
        """File with the retain model's evaluation, or `None` where there is none to compare with."""
        if self.retain_logs or not self.retain_model or not self.benchmark.needs_retain:
            return self.retain_logs if self.benchmark.needs_retain else None
        name = PurePosixPath(self.retain_model).name
        return f"saves/eval/{name}_{self.split or self.benchmark.split}/{self.benchmark.samples}"

    def retain(self) -> Run | None:
        """Return the evaluation that the others compare with, if it is to be made from a model."""
        file = self.retain_file
        if not self.retain_model or not file:
            return None
        path = PurePosixPath(file)
        if path.parts[:2] != ("saves", "eval") or len(path.parts) != 4 or path.name != self.benchmark.samples:
            raise StudyError(
                f"the framework cannot write {file}: use saves/eval/NAME/{self.benchmark.samples} for it, or leave out "
                "the retain model if that file is there"
            )
        task = path.parts[2]
        return Run(task, self.retain_model, None, (self._evaluate(task, self.retain_model, None, file),))

    def runs(self) -> tuple[Run, ...]:
        """Return the model before unlearning, if it is named, and all methods with the first seed, the second, ..."""
        before = [Run(BEFORE, self.model, None, self._evaluations(BEFORE, self.model))] if self.model else []
        return (*before, *(self._run(method, seed) for seed in self.seeds for method in self.methods))

    def _run(self, method: Method, seed: int) -> Run:
        task = f"{method.label}_seed{seed}"
        folder = f"saves/unlearn/{task}"
        return Run(task, folder, self._train(task, method, seed), self._evaluations(task, folder), method, seed)

    def _train(self, task: str, method: Method, seed: int) -> Command:
        split = self.benchmark.train_split(self.split) if self.split else ()
        overrides = (
            f"trainer={method.trainer}",
            f"experiment={self.experiment}",
            *((f"+hardware={self.hardware}",) if self.hardware else ()),
            f"task_name={task}",
            f"trainer.args.seed={seed}",
            *self._model(self.model),
            *split,
            *self._schedule(),
            *self.common,
            *method.overrides,
        )
        # The last file that the framework's train.py writes.
        return Command(f"unlearn {task}", "train", overrides, f"saves/unlearn/{task}/training_args.bin")

    def _schedule(self) -> tuple[str, ...]:
        if not self.every_epoch:
            return ("trainer.args.eval_on_start=false", "trainer.args.eval_strategy=no", "trainer.args.do_eval=false")
        retain = (f"retain_logs_path={self.retain_file}",) if self.retain_file else ()
        metrics = (f"{self.benchmark.metrics}=[{','.join(self.every_epoch)}]",)
        own = tuple(o for o in self.evaluation if o.startswith(f"eval.{self.benchmark.suite}."))
        return ("trainer.args.eval_strategy=epoch", *metrics, *retain, *own)

    def _evaluations(self, task: str, model: str) -> tuple[Command, ...]:
        first = self._evaluate(task, model, self.retain_file, f"saves/eval/{task}/{self.benchmark.summary}")
        if not self.lm_eval or self.benchmark.suite == "lm_eval":
            return (first,)
        return (first, self._ask(task, model))

    def _evaluate(self, task: str, model: str, retain: str | None, result: str) -> Command:
        suite = self.benchmark.suite
        tasks = (f"eval.lm_eval.tasks=[{','.join(self.lm_eval)}]",) if suite == "lm_eval" and self.lm_eval else ()
        overrides = (
            f"experiment={self.benchmark.evaluation}",
            *self._any_evaluation(task, model),
            *(self.benchmark.eval_split(self.split) if self.split else ()),
            *((f"retain_logs_path={retain}",) if retain else ()),
            f"eval.{suite}.overwrite=true",
            *((f"{self.benchmark.metrics}=[{','.join(self.metrics)}]",) if self.metrics else ()),
            *tasks,
            *self._shared(),
            *(o for o in self.evaluation if suite == "lm_eval" or not _root(o).startswith("eval.lm_eval")),
        )
        return Command(f"evaluate {task}", "eval", overrides, result)

    def _ask(self, task: str, model: str) -> Command:
        overrides = (
            "eval=lm_eval",
            f"model={self.model_config or self.benchmark.model}",
            *self._any_evaluation(task, model),
            "eval.lm_eval.overwrite=true",
            f"eval.lm_eval.tasks=[{','.join(self.lm_eval)}]",
            "hydra.output_subdir=.hydra_lm_eval",  # beside the benchmark's own, which has the same folder
            *(o for o in self._shared() if _root(o).startswith("model.")),
            *(o for o in self.evaluation if _root(o).startswith(("model.", "eval.lm_eval", "hydra", "seed"))),
        )
        return Command(f"lm-eval {task}", "eval", overrides, f"saves/eval/{task}/LMEval_SUMMARY.json")

    def _any_evaluation(self, task: str, model: str) -> tuple[str, ...]:
        hardware = (f"+hardware={self.hardware}_eval",) if self.hardware else ()
        return (*hardware, f"task_name={task}", *self._model(model))

    def _model(self, name: str | None) -> tuple[str, ...]:
        chosen = (f"model={self.model_config}",) if self.model_config else ()
        weights = (f"model.model_args.pretrained_model_name_or_path={name}",) if name else ()
        tokenizer = (f"model.tokenizer_args.pretrained_model_name_or_path={self.tokenizer}",) if self.tokenizer else ()
        return (*chosen, *weights, *tokenizer)

    def _shared(self) -> tuple[str, ...]:
        return tuple(override for override in self.common if _root(override).split(".")[0] in _SHARED)


def _root(override: str) -> str:
    """Return the key of an override: `eval.tofu.batch_size` of `++eval.tofu.batch_size=8`."""
    return override.lstrip("+~").split("=", 1)[0].replace("/", ".")
