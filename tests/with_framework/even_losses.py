"""Check that every base with even weights has the loss and gradient of the framework's own trainer, on one batch.

Usage: python even_losses.py CHECKOUT GENERATION MODEL

All tokens but the first are answers and all samples are of one length, so that means over tokens and means over samples agree. It also
hides that the framework's UNDIAL averages prompt and padding too, and its RMU divides the sum over each answer by the
length of every answer in the batch.
"""

import sys
from typing import Any

import torch
from in_process import make_trainer

PLACE = (sys.argv[1], sys.argv[2], sys.argv[3])
RMU = (r"trainer.method_args.module_regex=model\\.layers\\.1",)
# The arguments of the framework's trainer, and those that both have.
BASES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "GradAscent": ((), ()),
    "GradDiff": ((), ()),
    "NPO": ((), ()),
    "SimNPO": ((), ()),
    "SatImp": ((), ()),
    "WGA": ((), ("trainer.method_args.beta=2.0",)),
    "DPO": ((), ("experiment=unlearn/tofu_idk",)),
    "CEU": ((), ("trainer.method_args.ignore_first_n_answer_tokens=2",)),
    "UNDIAL": ((), ("trainer.method_args.alpha=1.0",)),
    "PDU": (("trainer.method_args.retain_loss_eps=0.0", "trainer.method_args.primal_dual=false"), ()),
    "RMU": ((), RMU),
}
EVEN = {"DV": "trainer.method_args.dv_beta=.inf", "G": "trainer.method_args.top_fraction=1"}


def tokens(seed: int) -> dict[str, torch.Tensor]:
    """Four samples of nine tokens, all of them answers that can be predicted."""
    ids = torch.randint(5, 100, (4, 9), generator=torch.Generator().manual_seed(seed))
    labels = ids.index_fill(1, torch.tensor([0]), -100)
    return {"input_ids": ids, "labels": labels, "attention_mask": torch.ones_like(ids)}


def items(base: str) -> list[dict[str, Any]]:
    """The samples of both sides, before they are collated."""
    sides = [{name: list(value.unbind()) for name, value in tokens(seed).items()} for seed in range(3)]
    forget, retain, alternate = ([{n: v[i] for n, v in side.items()} for i in range(4)] for side in sides)
    first = [{"original": o, "alternate": a} for o, a in zip(forget, alternate, strict=True)]
    return [{"forget": f, "retain": r} for f, r in zip(first if base == "DPO" else forget, retain, strict=True)]


def loss_and_gradient(trainer: Any, batch: dict[str, Any]) -> torch.Tensor:
    """Return `(1 + parameters,)`, after the model has moved away from the one before unlearning."""
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in trainer.model.parameters():
            parameter += 0.02 * torch.randn_like(parameter)
    trainer.model.eval()
    loss = trainer.compute_loss(trainer.model, batch)
    gradient = torch.autograd.grad(loss, list(trainer.model.parameters()), allow_unused=True)
    parts = zip(gradient, trainer.model.parameters(), strict=True)
    return torch.cat([loss.detach()[None], *((torch.zeros_like(p) if g is None else g).flatten() for g, p in parts)])


for base, (their_own, common) in BASES.items():
    experiment = () if base == "DPO" else ("experiment=unlearn/tofu",)
    ours = {}
    for variant, even in EVEN.items():
        if variant == "G" and base not in ("NPO", "DPO", "RMU"):  # the way of each kind of pass
            continue
        radius = ("trainer.method_args.dv_radius=null",) if variant == "DV" else ()
        name = f"BalDRO_{variant}" if base == "NPO" else f"BalDRO_{variant}_{base}"
        trainer = make_trainer(PLACE, *experiment, *common, f"trainer={name}", even, *radius)
        if trainer.settings.needs_model_before:
            trainer.prepare_model_before(trainer.model)
        trainer.score_forget_set(trainer.model)
        batch = trainer.data_collator(
            [{**i, "forget": {**i["forget"], "sample_index": n}} for n, i in enumerate(items(base))]
        )
        if trainer.settings.needs_precomputed_reference:  # of these samples instead of the forget set's
            with torch.no_grad():
                answers, _ = trainer.answers_of(trainer.model, [item["forget"] for item in items(base)])
            trainer.adversary.state.reference[:4] = answers.sums.double()
        ours[variant] = loss_and_gradient(trainer, batch)
    theirs = make_trainer(PLACE, *experiment, *common, f"trainer={base}", *their_own)
    if base == "RMU":
        theirs.control_vec = trainer.settings.loss.steering_vector(theirs.model.config.hidden_size)[None, None]
    expected = loss_and_gradient(theirs, theirs.data_collator(items(base)))
    assert expected[1:].abs().max() > 1e-5
    for variant, found in ours.items():
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=2e-6)
        print(f"BalDRO_{variant} of {base} agrees with the built-in trainer: {float(found[0]):.5f}", flush=True)
