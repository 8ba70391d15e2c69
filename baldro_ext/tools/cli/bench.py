"""`baldro bench`: what a training step costs, side by side."""

from __future__ import annotations

import enum
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from baldro_ext import suggest
from baldro_ext.errors import BaldroError
from baldro_ext.tools import framework
from baldro_ext.tools.cli.reporting import reported

if TYPE_CHECKING:
    from baldro_ext.tools.bench.run import Plan
    from baldro_ext.tools.bench.workload import Shape


class ShapeName(enum.StrEnum):
    """Keys of `baldro_ext.tools.bench.workload.SHAPES`, which is not imported here: it needs torch."""

    small = "small"
    medium = "medium"
    llama_1b = "llama-3.2-1b"
    llama_8b = "llama-3.1-8b"


class Precision(enum.StrEnum):
    """Of the weights; in bfloat16 training runs under autocast, as the framework's configurations have it."""

    float32 = "float32"
    bfloat16 = "bfloat16"


class ResultExistsError(BaldroError):
    """A result of another run lies where this one's would go."""

    exit_code = 4


def bench(
    shape: Annotated[ShapeName, typer.Option(help="Shape of the Llama, its weights random.")] = ShapeName.small,
    hidden: Annotated[
        int | None, typer.Option(min=64, help="Another width; feed-forward layers are 8/3 as wide.")
    ] = None,
    layers: Annotated[int | None, typer.Option(min=1, help="Another number of layers.")] = None,
    vocabulary: Annotated[int | None, typer.Option(min=2, help="Another number of tokens.")] = None,
    batch: Annotated[int, typer.Option(min=2, help="Forget samples per step; as many retain samples.")] = 8,
    length: Annotated[int, typer.Option(min=2, help="Tokens per sample.")] = 96,
    prompt: Annotated[int, typer.Option(min=1, help="How many of them are prompt.")] = 40,
    bases: Annotated[str, typer.Option(help="Built-in trainers to compare with.")] = "NPO,SimNPO,SatImp",
    rounds: Annotated[int, typer.Option(min=1, help="How often each contender is timed.")] = 5,
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:N; default: a GPU if there is one.")] = "",
    dtype: Annotated[Precision | None, typer.Option(help="Of the weights; default: bfloat16 on a GPU.")] = None,
    checkpointing: Annotated[bool, typer.Option("--checkpointing", help="Recompute activations.")] = False,
    peak_tflops: Annotated[float | None, typer.Option(help="Of the GPU, if its name does not tell.")] = None,
    growth: Annotated[bool, typer.Option("--growth", help="Time against batch, length, vocabulary.")] = False,
    out: Annotated[Path, typer.Option(help="Folder for JSON and picture.")] = Path("bench"),
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a result that is there.")] = False,
) -> None:
    """Measure what a training step costs, side by side.

    Our trainers, the framework's and the released formulas train on the same made-up samples with one
    model, taking turns; a step is forward and backward, without the optimizer. The floor is one forward
    and backward pass over forget and retain samples with the logits that answers need. Writes bench.json
    and bench.png (growth.json and growth.png).

    \b
    Examples:
      baldro bench
      baldro bench --shape medium --bases NPO
      baldro bench --shape llama-3.2-1b --batch 8 --length 512 --prompt 128
      baldro bench --growth

    \b
    Exit codes: 1 the framework or a package is missing, 2 wrong usage,
    4 refused, --out has a result already.
    """
    name = "growth" if growth else "bench"
    if prompt >= length:
        raise typer.BadParameter(
            f"{prompt} of {length} tokens leave no answer: use less than --length", param_hint="--prompt"
        )
    with reported():
        _refuse_to_replace([out / f"{name}.json", out / f"{name}.png"], overwrite)
        from baldro_ext.tools.bench import pictures, result, run
        from baldro_ext.tools.bench.workload import Load

        size, load = _sized(shape, hidden, layers, vocabulary), Load(batch, length, prompt)
        chosen = _bases(bases)
        plan = _plan(device, dtype, rounds, checkpointing, peak_tflops)
        out.mkdir(parents=True, exist_ok=True)
        if growth:
            grown = run.growth(plan, size, load)
            record = {
                "environment": result.environment(),
                "shape": asdict(size),
                "load": asdict(load),
                "seconds": grown,
            }
            result.write(record, out / "growth.json")
            pictures.draw_growth(grown, out / "growth.png")
        else:
            measured = run.benchmark(plan, size, load, chosen)
            result.write(measured.record(), out / "bench.json")
            pictures.draw_steps(measured, out / "bench.png")
            typer.echo(f"\n{measured.table()}\n\n{measured.footnote()}")
    typer.echo(f"Numbers and environment: {out / name}.json. Picture: {out / name}.png.")


def _plan(device: str, dtype: Precision | None, rounds: int, checkpointing: bool, peak_tflops: float | None) -> Plan:
    import torch
    import transformers

    from baldro_ext.tools.bench.run import Plan

    try:
        place = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    except RuntimeError:
        raise typer.BadParameter(f"{device!r} is no device: use cpu, cuda or cuda:0", param_hint="--device") from None
    if place.type == "cuda" and not torch.cuda.is_available():
        raise typer.BadParameter("there is no GPU that torch can use: use cpu", param_hint="--device")
    precision = (
        torch.bfloat16 if dtype == Precision.bfloat16 or (dtype is None and place.type == "cuda") else torch.float32
    )
    checkout = framework.checkout(framework.made_for(transformers.__version__))
    return Plan(checkout, place, precision, rounds, checkpointing, peak_tflops)


def _sized(shape: ShapeName, hidden: int | None, layers: int | None, vocabulary: int | None) -> Shape:
    from baldro_ext.tools.bench.workload import SHAPES

    size = SHAPES[shape.value]
    if hidden is not None:
        heads = max(1, hidden // 64)
        size = replace(size, hidden=hidden, heads=heads, key_value_heads=heads, feed_forward=-(-hidden * 8 // 24) * 8)
    return replace(size, layers=layers or size.layers, vocabulary=vocabulary or size.vocabulary)


def _bases(names: str) -> tuple[str, ...]:
    from baldro_ext.tools.bench.contenders import BASES

    chosen = tuple(name.strip() for name in names.split(","))
    for name in chosen:
        if name not in BASES:
            raise typer.BadParameter(
                f"no built-in trainer {name!r} here: {suggest.known(name, BASES)}", param_hint="--bases"
            )
    return chosen


def _refuse_to_replace(paths: list[Path], overwrite: bool) -> None:
    if not overwrite and (there := [path for path in paths if path.exists()]):
        raise ResultExistsError(
            f"{there[0]} is the result of another run: choose another folder with --out, or replace it with --overwrite"
        )
