"""`baldro memory`: the memory that a training step needs, by part."""

from typing import Annotated

import typer

from baldro_ext.suggest import chosen
from baldro_ext.tools import framework
from baldro_ext.tools.cli.shared import names, quiet


def memory(
    model: Annotated[str, typer.Option(help="Name of a model, or a folder or cached repository with a config.json.")],
    methods: Annotated[str, typer.Option(help="Trainers with settings, separated by commas.")] = "NPO,BalDRO_DV_radius",
    batch: Annotated[int, typer.Option(min=1, help="Forget samples per forward pass; as many retain samples.")] = 8,
    tokens: Annotated[int, typer.Option(min=2, help="Tokens per sample, padding included.")] = 512,
    answer_tokens: Annotated[int | None, typer.Option(min=1, help="Those with a loss; default: half.")] = None,
    optimizer: Annotated[str, typer.Option(help="As in trainer.args.optim.")] = "paged_adamw_32bit",
    checkpointing: Annotated[bool, typer.Option("--checkpointing", help="Recompute activations.")] = False,
    lora: Annotated[int, typer.Option(min=0, help="Rank of LoRA adapters; 0 trains all weights.")] = 0,
    four_bit: Annotated[bool, typer.Option("--four-bit", help="Weights below the adapters in 4 bits.")] = False,
    float32: Annotated[bool, typer.Option("--float32", help="All in float32, as +hardware=cpu.")] = False,
) -> None:
    """Compute the memory of a training step, without a GPU.

    Runs the trainers' own losses, forward and backward, on tensors without content, and counts what is
    alive at the peak, by part; activations and logits include temporary tensors. It is a step within an
    accumulation, on one GPU. Not included: the CUDA context, gaps between allocations (1.5 GiB are left
    for both in "fits"), the step of the optimizer, and evaluation.

    \b
    Models: SmolLM2-135M, Llama-3.2-1B, Llama-2-7B, Llama-3.1-8B, Qwen3-8B; tiny, small, medium: those of bench.
    Optimizers: paged_adamw_32bit (the framework's), paged_adamw_8bit, adamw_torch, adafactor.

    \b
    Examples:
      baldro memory --model Llama-3.2-1B
      baldro memory --model Llama-3.1-8B --batch 2 --lora 16 --checkpointing
      baldro memory --model Llama-3.1-8B --batch 1 --methods "NPO,BalDRO_G scope=dataset" --optimizer adafactor
    """
    answers = tokens // 2 if answer_tokens is None else answer_tokens
    if answers >= tokens:
        raise typer.BadParameter(f"{answers} of {tokens} tokens leave no prompt", param_hint="--answer-tokens")
    if four_bit and not lora:
        raise typer.BadParameter("weights in 4 bits cannot be trained: add --lora 16", param_hint="--four-bit")
    typer.echo("Computing: about ten seconds for each method", err=True)
    with quiet():
        import pandas as pd
        import torch

        from baldro_ext.tools.bench.batch import Batch
        from baldro_ext.tools.memory import OPTIMIZERS, Setting, compute, table

    chosen(optimizer, OPTIMIZERS, "--optimizer")
    given = names(methods, "--methods")
    dtype = torch.float32 if float32 else torch.bfloat16
    step = Batch(batch, tokens, tokens - answers)
    setting = Setting(model, step, optimizer, dtype, checkpointing, lora, four_bit)
    setting.config()  # before what takes long
    checkout = framework.checkout(framework.made_for())
    with quiet():
        parts = pd.DataFrame({method: compute(method, setting, checkout) for method in given}).T
    trained = f"LoRA of rank {lora}{', weights in 4 bits' if four_bit else ''}" if lora else "all weights trained"
    typer.echo(
        f"{model}, {trained}, {str(dtype).removeprefix('torch.')}, {optimizer}"
        f"{', gradient checkpointing' if checkpointing else ''}.\nA forward pass: {batch} forget and {batch} retain "
        f"samples of {tokens} tokens, {answers} of them answer. Computed, in GiB:\n\n{table(parts)}"
    )
