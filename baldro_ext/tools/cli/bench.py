"""`baldro bench`: what a training step costs, side by side."""

import json
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from baldro_ext.suggest import chosen
from baldro_ext.tools import files, framework
from baldro_ext.tools.cli.shared import names, quiet

RESULTS = ("bench.json", "bench.png")


def bench(
    shape: Annotated[str, typer.Option(help="The model, with random weights.")] = "small",
    vocabulary: Annotated[int | None, typer.Option(min=2, help="Another number of tokens.")] = None,
    batch: Annotated[int, typer.Option(min=2, help="Forget samples per step; as many retain samples.")] = 8,
    length: Annotated[int, typer.Option(min=2, help="Tokens per sample.")] = 96,
    prompt: Annotated[int, typer.Option(min=1, help="How many of them are prompt.")] = 40,
    bases: Annotated[str, typer.Option(help="Built-in trainers to compare with.")] = "NPO,SimNPO,SatImp",
    rounds: Annotated[int, typer.Option(min=1, help="How often each method is timed.")] = 5,
    checkpointing: Annotated[bool, typer.Option("--checkpointing", help="Recompute activations.")] = False,
    out: Annotated[Path, typer.Option(help="Folder for numbers and picture.")] = Path("bench"),
) -> None:
    """Measure what a training step costs, side by side.

    The framework's trainers, ours and the authors' released formulas take turns in training one model on
    the same made-up samples; a step is forward and backward, without the optimizer. The floor is one
    forward and backward pass over forget and retain samples with no more logits than the answers need.
    Uses a GPU if there is one; CUDA_VISIBLE_DEVICES="" hides it. Prints a table and writes bench.json
    and bench.png.

    \b
    Shapes: tiny, small, medium, SmolLM2-135M, Llama-3.2-1B, Llama-2-7B, Llama-3.1-8B, Qwen3-8B.

    \b
    Examples:
      baldro bench
      baldro bench --shape medium --bases NPO
      baldro bench --shape Llama-3.2-1B --batch 8 --length 512 --prompt 128
    """
    if prompt >= length:
        raise typer.BadParameter(f"{prompt} of {length} tokens leave no answer", param_hint="--prompt")
    with quiet():
        import torch

        from baldro_ext.tools.bench import report
        from baldro_ext.tools.bench.batch import MODELS, Batch, build_model, configuration
        from baldro_ext.tools.bench.candidates import TRAINERS, make_candidates
        from baldro_ext.tools.bench.measure import compared, measure

    chosen(shape, MODELS, "--shape")
    built_in = [chosen(base, TRAINERS, "--bases") for base in names(bases, "--bases")]
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32  # as the framework trains there
    checkout = framework.checkout(framework.made_for())
    changes = {"vocab_size": vocabulary} if vocabulary else {}
    model = build_model(configuration(shape, **changes), device, dtype)
    if checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    step = Batch(batch, length, prompt)
    files.check(out, RESULTS)
    with tempfile.TemporaryDirectory() as folder, quiet():
        candidates = make_candidates(built_in, checkout, model, step, Path(folder))
        costs, seconds = measure(candidates, model, step.different, rounds)
    comparison, environment = compared(costs, seconds), report.environment(device)
    typer.echo(
        f"\n{shape}, vocabulary {model.config.vocab_size:,}, {dtype}, on {environment['device']}, "
        f"{environment['threads']} threads.\nA step: {batch} forget and {batch} retain samples of {length} tokens, "
        f"{prompt} of them prompt; median of {rounds} rounds, ratios taken round by round.\n\n"
        f"{report.table(comparison)}\n\n"
        "saved: bytes kept for backward, without parameters, mean over batches. copies: further models in memory."
    )
    record = {
        "environment": environment,
        "model": {**MODELS[shape], **changes, "dtype": str(dtype), "checkpointing": checkpointing},
        "batch": vars(step),
        "methods": json.loads(comparison.to_json(orient="index")),
        "seconds": seconds.to_dict("list"),
    }
    numbers, picture = RESULTS
    files.write(out, {numbers: json.dumps(record, indent=2).encode(), picture: report.picture(comparison)})
    typer.echo(f"Numbers and environment: {out / numbers}. Picture: {out / picture}.")
