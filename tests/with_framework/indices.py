"""Checks on the framework's own datasets that indices name a batch's forget samples, and that nothing else changes.

Usage: python indices.py CHECKOUT GENERATION MODEL OVERRIDE... Prints a line per anchor; fails at the first that differs.
"""

import copy
import sys

import torch
from in_process import make_trainer
from torch.utils.data import DataLoader

from baldro_ext.data import SAMPLES, drawing

CHECKOUT, GENERATION, MODEL, *OVERRIDES = sys.argv[1:]

for anchor in ("forget", "retain"):
    trainer = make_trainer((CHECKOUT, GENERATION, MODEL), *OVERRIDES, f"data.anchor={anchor}")
    samples = trainer.train_dataset.forget
    plain = copy.copy(trainer.train_dataset._dataset)
    plain.forget = samples
    expected = []
    for start in range(0, len(plain), 4):
        items = []
        for index in range(start, min(start + 4, len(plain))):
            with drawing(trainer.train_dataset.seed, 0, index):
                items.append(plain[index])
        expected.append(trainer.data_collator.collator(items))
    batches = list(DataLoader(trainer.train_dataset, batch_size=4, collate_fn=trainer.data_collator))

    named = []
    for batch, without in zip(batches, expected, strict=True):
        indices = batch["forget"].pop(SAMPLES).index.tolist()
        batch["retain"].pop(SAMPLES)
        for row, index in enumerate(indices):
            tokens = batch["forget"]["input_ids"][row][batch["forget"]["attention_mask"][row]]
            assert torch.equal(tokens, torch.as_tensor(samples[index]["input_ids"])), f"sample {index} is another one"
        named += indices
        assert batch.keys() == without.keys()
        for side in batch:
            assert batch[side].keys() == without[side].keys()
            assert all(torch.equal(batch[side][key], without[side][key]) for key in batch[side])
    assert len(set(named)) > 1
    if anchor == "forget":
        assert named == list(range(len(samples)))
    print(f"anchor={anchor}: {len(named)} indices name their samples")
