"""Trains the framework's own trainers and ours with even weights, on the same samples, and compares all weights.

Usage: python even_weights.py CHECKOUT GENERATION MODEL FOLDER. Prints a line per pair; fails at the first that differs.

The framework draws retain samples from the random numbers of the run, ours as a function of epoch and index; here both
draw as ours.
"""

import sys
from typing import Any

import torch
from in_process import make_trainer
from torch.utils.data import Dataset
from transformers import AutoModelForCausalLM, TrainerCallback

from baldro_ext.data import IndexedPairs

CHECKOUT, GENERATION, MODEL, FOLDER = sys.argv[1:]
BY_TOKEN = ("trainer.method_args.top_fraction=1", "trainer.method_args.unit=token")
PAIRS = {
    "NPO": {
        "BalDRO_DV": ("trainer.method_args.dv_beta=.inf",),
        "BalDRO_G": ("trainer.method_args.top_fraction=1",),
    },
    "SimNPO": {
        "BalDRO_DV_SimNPO": ("trainer.method_args.dv_beta=.inf",),
        "BalDRO_G_SimNPO": ("trainer.method_args.top_fraction=1",),
    },
    # The built-in SatImp and GradDiff average over tokens, so here the worst case must range over tokens too.
    "SatImp": {"BalDRO_G_SatImp": BY_TOKEN},
    "GradDiff": {"BalDRO_G_GradDiff": BY_TOKEN},
}


class DrawnAlike(Dataset[dict[str, Any]]):
    """A dataset of the framework that draws as ours."""

    def __init__(self, pairs: IndexedPairs) -> None:
        self.pairs = pairs

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> dict[str, Any]:
        item = self.pairs[index]
        return {**item, "forget": self.pairs.forget[index]}


class NextEpoch(TrainerCallback):
    """Tells the dataset its epoch."""

    def __init__(self, pairs: IndexedPairs) -> None:
        self.pairs, self.epochs = pairs, 0

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.pairs.epoch = self.epochs
        self.epochs += 1


def weights(model: torch.nn.Module) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def trained(name: str, *overrides: str) -> torch.Tensor:
    """All parameters after training, as one vector."""
    trainer = make_trainer(
        (CHECKOUT, GENERATION, MODEL),
        f"trainer={name}",
        "experiment=unlearn/tofu",
        f"paths.output_dir={FOLDER}",
        "trainer.args.num_train_epochs=3",
        "trainer.args.learning_rate=1e-3",
        "trainer.args.per_device_train_batch_size=2",
        # transformers 4.51 multiplies the built-in trainers' gradients by the accumulation steps, not ours.
        f"trainer.args.gradient_accumulation_steps={1 if GENERATION == 'G2' else 2}",
        "trainer.args.seed=3",
        *overrides,
    )
    if not name.startswith("BalDRO"):
        pairs = IndexedPairs(trainer.train_dataset, trainer.args.seed)
        trainer.train_dataset = DrawnAlike(pairs)
        trainer.add_callback(NextEpoch(pairs))
    trainer.train()
    return weights(trainer.model)


before = weights(AutoModelForCausalLM.from_pretrained(MODEL))
for base, methods in PAIRS.items():
    built_in = trained(base)
    assert (built_in - before).abs().max() > 1e-3, "the built-in trainer did not train"
    for name, even in methods.items():
        torch.testing.assert_close(trained(name, *even), built_in, rtol=0, atol=1e-5)
        print(f"{name} with even weights ends as {base}", flush=True)
