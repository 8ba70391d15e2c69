"""Compares the released losses, as the framework composes them, with the released formula written out again.

Usage: python released_formulas.py CHECKOUT GENERATION MODEL. Prints a line per trainer; fails at the first that differs.
"""

import sys
from collections.abc import Callable

import released
import torch
from in_process import make_trainer
from torch import Tensor

from baldro_ext.data import drawing

CHECKOUT, GENERATION, MODEL = sys.argv[1:]


def token_log_probs(model: torch.nn.Module, batch: dict[str, Tensor]) -> list[Tensor]:
    """One vector of answer log-probabilities per sample."""
    log_p = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits.log_softmax(-1)
    rows = []
    for scores, labels in zip(log_p, batch["labels"], strict=True):
        places = [t for t in range(1, len(labels)) if labels[t] != -100]
        rows.append(torch.stack([scores[t - 1, labels[t]] for t in places]))
    return rows


def summed(rows: list[Tensor]) -> Tensor:
    return -torch.stack([row.sum() for row in rows]).mean()


def per_token(rows: list[Tensor]) -> Tensor:
    return -torch.cat(rows).mean()


# Each: forget loss, its weight gamma in the framework's YAML, and the retain term (of the DV trainers).
TRAINERS: dict[str, tuple[released.Loss, float, Callable[[list[Tensor]], Tensor]]] = {
    "BalDRO_DV": (released.npo, 1.0, summed),
    "BalDRO_DV_SimNPO": (released.simnpo, 0.125, per_token),
    "BalDRO_DV_SatImp": (released.satimp_tokens, 0.1, summed),
    "BalDRO_G": (released.npo, 1.0, per_token),
    "BalDRO_G_SimNPO": (released.simnpo, 0.125, per_token),
    "BalDRO_G_SatImp": (released.satimp_tokens, 0.1, per_token),
}


def released_loss(
    name: str, forget: list[Tensor], reference: list[Tensor], retain: list[Tensor], drawn: list[int]
) -> Tensor:
    loss, gamma, retain_term = TRAINERS[name]
    if "_DV" in name:
        return gamma * released.dr(loss, forget, reference) + retain_term(retain)
    kept = drawn[: len(released.hardest_half(forget))]
    return gamma * released.group(loss, forget, reference) + retain_term([retain[i] for i in kept])


def gradient(loss: Tensor, model: torch.nn.Module) -> Tensor:
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(model.parameters()), allow_unused=False)])


for name in TRAINERS:
    trainer = make_trainer(
        (CHECKOUT, GENERATION, MODEL),
        f"trainer={name}",
        f"+release={'DV' if '_DV' in name else 'G'}",
        "experiment=unlearn/tofu",
        "trainer.args.logging_dir=logs",
        "trainer.args.gradient_accumulation_steps=1",
    )
    model = trainer.model.double().eval()
    batch = trainer.data_collator([trainer.train_dataset[i] for i in range(5)])  # odd, so that rounding shows
    trainer.score_forget_set(model)
    with torch.no_grad():
        reference = token_log_probs(model, batch["forget"])
        for parameter in model.parameters():  # away from the reference
            parameter.add_(0.05 * torch.randn_like(parameter))

    ours = trainer.compute_loss(model, batch)
    forget, retain = (token_log_probs(model, batch[side]) for side in ("forget", "retain"))
    with drawing(trainer.train_dataset.seed, 0, 0, len(retain)) as generator:  # as the retain batch is cut
        drawn = torch.randperm(len(retain), generator=generator).tolist()
    theirs = released_loss(name, forget, reference, retain, drawn)
    # transformers casts logits to float32 for its own loss, the retain term; 4.45 does it in the model already.
    exact = 1e-4 if GENERATION == "G1" else 1e-6
    torch.testing.assert_close(ours, theirs, rtol=exact, atol=0, check_dtype=False)
    our_gradient, their_gradient = gradient(ours, model), gradient(theirs, model)
    error = ((our_gradient - their_gradient).norm() / their_gradient.norm()).item()
    assert error < exact, f"{name}: the gradient is off by {error:.1e} of its length"
    print(f"{name} equals the release: {ours.item():.6f}")
