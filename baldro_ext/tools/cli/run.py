"""`baldro run`: a whole comparison in one command."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from baldro_ext.errors import UsageError
from baldro_ext.tools.cli.shared import names, numbers, program

if TYPE_CHECKING:
    from baldro_ext.tools.commands import Runner
    from baldro_ext.tools.run import Study


def run(
    methods: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="METHOD", help="TRAINER, or '[LABEL=]TRAINER:OVERRIDE ...'; default: NPO BalDRO_G BalDRO_DV."
        ),
    ] = None,
    seeds: Annotated[str, typer.Option(metavar="N,N", help="Seeds; each method is trained with each.")] = "0",
    learning_rates: Annotated[
        str, typer.Option(metavar="X,X", help="Learning rates; each method is trained with each.")
    ] = "",
    experiment: Annotated[str, typer.Option(help="unlearn/tofu, unlearn/muse or unlearn/wmdp.")] = "unlearn/tofu",
    model: Annotated[str | None, typer.Option(help="The model to unlearn, a folder or a name; evaluated too.")] = None,
    model_config: Annotated[str | None, typer.Option(help="The framework's model=NAME.")] = None,
    split: Annotated[str | None, typer.Option(help="As forget05 (TOFU), Books (MUSE), bio (WMDP).")] = None,
    retain_model: Annotated[str | None, typer.Option(help="It never saw the forget set; evaluated first.")] = None,
    retain_logs: Annotated[str | None, typer.Option(help="Instead: the TOFU_EVAL.json of such a model.")] = None,
    folder: Annotated[Path, typer.Option(help="Where the commands run: data, saves and logs.")] = Path(),
    jobs: Annotated[int, typer.Option(min=1, help="How many commands run at a time, also on one GPU.")] = 1,
    devices: Annotated[str, typer.Option(metavar="N,N", help="GPUs, one per command; sets --jobs.")] = "",
    hardware: Annotated[str | None, typer.Option(help="cpu: run without a GPU, one thread per command.")] = None,
    common: Annotated[
        list[str] | None, typer.Option("--set", metavar="OVERRIDE", help="Hydra override of all trainings.")
    ] = None,
    evaluation: Annotated[
        list[str] | None, typer.Option("--eval-set", metavar="OVERRIDE", help="Hydra override of all evaluations.")
    ] = None,
    metrics: Annotated[str, typer.Option(metavar="A,B", help="Of the final evaluation; default: all.")] = "",
    every_epoch: Annotated[str, typer.Option(metavar="A,B", help="Metrics before training and after each epoch.")] = "",
    lm_eval: Annotated[str, typer.Option(metavar="A,B", help="Tasks of lm-evaluation-harness, such as mmlu.")] = "",
    relearn: Annotated[
        float | None, typer.Option(metavar="RATE", help="Finetune each on 20% of the forget set, and evaluate again.")
    ] = None,
    framework_accumulation: Annotated[
        bool, typer.Option("--framework-accumulation", help="Let its own trainers' gradient grow with the steps.")
    ] = False,
    checkout: Annotated[Path | None, typer.Option(help="Of open-unlearning; default: the pinned one.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace results that other commands made.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only print the commands that would run.")] = False,
) -> None:
    """Unlearn by several methods and seeds, and evaluate each.

    Every command is the framework's own train.py or eval.py. Finished commands are not run again, so the same call
    goes on where it was interrupted. A failed command is reported with its log, and the others go on. The results are
    in saves/eval/LABEL_seedN. What --set overrides of the model and the split reaches the evaluations too.

    \b
    Examples:
      baldro run NPO BalDRO_G BalDRO_DV --seeds 0,1,2 --dry-run
      baldro run NPO 'radius1=BalDRO_DV_radius:trainer.method_args.dv_radius=1' \\
        --model models/target --retain-model models/retain90 --hardware cpu --jobs 2
      baldro run NPO BalDRO_DV_radius --learning-rates 1e-4,2e-4,4e-4 --seeds 0,1,2 --jobs 4
      baldro run SimNPO BalDRO_G_SimNPO --experiment unlearn/muse --split Books --lm-eval mmlu
    """
    from baldro_ext.tools.commands import Runner
    from baldro_ext.tools.framework import check_packages, installed
    from baldro_ext.tools.run import Method, Study
    from baldro_ext.tools.run.execute import lines

    given = [Method.parse(text) for text in methods or ("NPO", "BalDRO_G", "BalDRO_DV")]
    rates, overrides = names(learning_rates), tuple(common or ())
    study = Study(
        methods=tuple(method for one in given for method in one.at_rates(rates, overrides)),
        seeds=numbers(seeds, "--seeds"),
        experiment=experiment,
        model=model,
        tokenizer=model if model and (folder / model / "tokenizer_config.json").exists() else None,
        model_config=model_config,
        split=split,
        retain_model=retain_model,
        retain_logs=retain_logs,
        hardware=hardware,
        common=overrides,
        evaluation=tuple(evaluation or ()),
        metrics=names(metrics),
        every_epoch=names(every_epoch),
        lm_eval=names(lm_eval),
        relearn=relearn,
        transformers=installed("transformers") if not framework_accumulation else None,
    )
    threads = {"OMP_NUM_THREADS": "1"} if hardware == "cpu" or jobs > 1 else {}
    environments = [threads | {"CUDA_VISIBLE_DEVICES": device} for device in names(devices)] or [threads] * jobs
    runner = Runner(folder.absolute(), _checkout(checkout), environments)
    commands = lines(study, runner)
    if averaged := [method.label for method in study.methods if study.accumulation(method)]:
        typer.echo(
            f"# {', '.join(averaged)}: averaged over gradient accumulation steps as BalDRO is, which the framework "
            f"does not do with transformers {study.transformers} (--framework-accumulation leaves it so)"
        )
    if dry_run:
        typer.echo("\n".join([f"cd {shlex.quote(str(runner.folder))}", *commands]))
    else:
        check_packages()
        carry_out(study, runner, overwrite)
        typer.echo(f"\nAll done. Compare with:\n  {_comparing(study, runner)}")


def carry_out(study: Study, runner: Runner, overwrite: bool = False) -> None:
    """Carry a study out as `execute` does; end the command with 1, and the reasons, where something failed."""
    from baldro_ext.tools.run.execute import execute

    failures = execute(study, runner, typer.echo, overwrite)
    if failures:
        typer.echo("\n\n".join([f"\n{len(failures)} failed; the same command tries them again:", *failures]), err=True)
        raise typer.Exit(1)
    if not study.benchmark.by_tasks and not study.retain_file:
        typer.echo("No retain model was named, so forget quality and privleak have nothing to compare with.", err=True)


def _comparing(study: Study, runner: Runner) -> str:
    """Return the command that compares the results of a study, at equal utility if they are of a grid."""
    from baldro_ext.tools.compare.metrics import OF_TASKS, PER_SAMPLE, UTILITIES

    results = [*(["before"] if study.model else []), *(f"{label}_seed*" for label in study.labels)]
    folder = shlex.quote(str(Path(os.path.relpath(runner.folder), "saves", "eval")))
    paths = " ".join(f"{folder}/{name}" for name in results)
    rates = {(it.trainer, rate) for it in study.methods for rate in it.overrides if "learning_rate=" in rate}
    grid = len(rates) > len({trainer for trainer, _ in rates})
    evaluated = {*study.metrics, *(f"{task}/acc" for task in study.lm_eval)}
    everything = not (study.lm_eval if study.benchmark.by_tasks else study.metrics)
    usual = everything or (evaluated & {*UTILITIES} and evaluated & {*PER_SAMPLE, *OF_TASKS})
    return f"{program()} compare {paths}{' --levels auto' if grid and usual else ''}"


def _checkout(given: Path | None) -> Path:
    """Return the given checkout, or the pinned one that is made for the installed transformers."""
    from baldro_ext.tools import framework

    if given is None:
        return framework.checkout(framework.made_for())
    if not (given / "src" / "train.py").is_file():
        raise UsageError(f"{given} is not a checkout of open-unlearning: it has no src/train.py")
    return given.absolute()
