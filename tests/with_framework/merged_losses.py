"""Run in a checkout that holds the pull request, without this package: what its losses and trainers give.

Arguments: the root of the checkout.
"""

import importlib.metadata
import importlib.util
import sys
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM, TrainingArguments

assert importlib.util.find_spec("baldro_ext") is None
assert not [point for point in importlib.metadata.entry_points(group="hydra.plugins") if "baldro" in point.value]

sys.path.insert(0, f"{sys.argv[1]}/src")

from trainer import TRAINER_REGISTRY  # noqa: E402
from trainer.unlearn import baldro  # noqa: E402

BATCH = {"input_ids": torch.randint(3, 50, (6, 12)), "attention_mask": torch.ones(6, 12, dtype=torch.long)}
LABELS = BATCH["input_ids"].where(torch.arange(12) >= torch.tensor([[2], [3], [5], [7], [9], [11]]), -100)


def loss_and_gradient(name: str, labels: torch.Tensor, **arguments: Any) -> torch.Tensor:
    """Return a trainer's loss and its gradient, as one vector, with a model that is not its own reference."""
    torch.manual_seed(0)
    size = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=50, **size))
    arrangement = TrainingArguments("unused", use_cpu=True, report_to=[], per_device_train_batch_size=6)
    trainer = TRAINER_REGISTRY[name](model=model, args=arrangement, **arguments)
    with torch.no_grad():
        for parameter in trainer.model.parameters():
            parameter.mul_(1.5)
    inputs = {"forget": {**BATCH, "labels": labels}, "retain": {**BATCH, "labels": LABELS}}
    loss = trainer.compute_loss(trainer.model, inputs)
    loss.backward()
    return torch.cat([loss[None].detach(), *(part.grad.flatten() for part in trainer.model.parameters())])


npo, simnpo = {"beta": 0.1}, {"beta": 0.5, "delta": 0.5}
for base, own in (("NPO", npo), ("SimNPO", simnpo)):
    built_in = loss_and_gradient(base, LABELS, **own)
    for name, setting, even, uneven in (
        ("BalDRO_DV", "dv_beta", float("inf"), 0.01),
        ("BalDRO_G", "top_fraction", 1, 0.3),
    ):
        ours = loss_and_gradient(name, LABELS, base=base, **own, **{setting: even})
        torch.testing.assert_close(ours, built_in, rtol=1e-4, atol=1e-6)
        worst = loss_and_gradient(name, LABELS, base=base, **own, **{setting: uneven})
        assert worst[0] > built_in[0] + 1e-3, "the worst case is no worse than the mean"
        print(f"{name} with even weights is {base}")

# Half of the samples have no answer: the others make up the batch.
some = LABELS.clone()
some[::2] = -100
for name in ("BalDRO_DV", "BalDRO_G"):
    for base, own in (("NPO", npo), ("SimNPO", simnpo), ("SatImp", {"hardness": "nll"})):
        assert loss_and_gradient(name, some, base=base, **own).isfinite().all()
        assert loss_and_gradient(name, torch.full_like(some, -100), base=base, **own).isfinite().all()
print("answerless samples are left out")

for name, wrong in (
    ("BalDRO_DV", {"dv_beta": 0}),
    ("BalDRO_G", {"top_fraction": 2}),
    ("BalDRO_G", {"hardness": "los"}),
):
    try:
        loss_and_gradient(name, LABELS, **npo, **wrong)
    except ValueError as error:
        print("refused:", error)

torch.testing.assert_close(
    baldro.top_group_weights(torch.tensor([3.0, 1.0, 2.0, 0.0]), 0.4), torch.tensor([0.625, 0.0, 0.375, 0.0])
)
torch.testing.assert_close(
    baldro.donsker_varadhan_weights(torch.tensor([0.0, 2.0]), 2.0), torch.tensor([1.0, torch.e]) / (1 + torch.e)
)
print("losses can be imported")
