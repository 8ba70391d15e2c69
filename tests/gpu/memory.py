"""What `baldro memory` computes beside what a GPU needs for the same steps.

    python -m tests.gpu.memory
    python -m tests.gpu.memory --model SmolLM2-135M --batch 4

Random bfloat16 weights; an optimizer step by AdamW, then forward and backward of the next one, whose peak is read.
Prints a row per method, in GiB: computed, allocated at most, their ratio, and reserved with the gaps in between.
"""

import argparse
import dataclasses
import gc
import tempfile
from pathlib import Path

import pandas as pd
import torch

from baldro_ext.tools import framework, memory
from baldro_ext.tools.bench.batch import Batch
from baldro_ext.tools.bench.candidates import make_trainer

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--model", default="Llama-3.2-1B", choices=memory.MODELS)
parser.add_argument("--batch", type=int, default=8)
parser.add_argument("--tokens", type=int, default=512)
given = parser.parse_args()

checkout = framework.checkout(framework.made_for())
plain = memory.Setting(given.model, Batch(given.batch, given.tokens, given.tokens // 2), optimizer="adamw_torch")


def allocated(method: str, setting: memory.Setting) -> dict[str, float]:
    """Return the most bytes that a step allocated, and that PyTorch reserved for it."""
    model = setting.build("cuda")
    with tempfile.TemporaryDirectory() as folder:
        trainer = make_trainer(method, checkout, model, setting.batch, Path(folder))
        optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad])
        trainer.model_wrapped = model = trainer.accelerator.prepare_model(model)
        if hasattr(trainer, "score_forget_set"):
            trainer.score_forget_set(model)  # as before the first step
        batches = [trainer.data_collator([trainer.train_dataset[i] for i in rows]) for rows in setting.batch.rows[:2]]
        for number, batch in enumerate(batches):
            if number:  # gradients and the optimizer's state exist already, as within an accumulation
                optimizer.step()
                torch.cuda.empty_cache()
                torch.cuda.reset_peak_memory_stats()
            trainer.compute_loss(model, trainer._prepare_inputs(batch)).backward()
    return {"allocated": torch.cuda.max_memory_allocated(), "reserved": torch.cuda.max_memory_reserved()}


rows = {}
for change in ({}, {"checkpointing": True}, {"lora": 16}, {"lora": 16, "checkpointing": True}):
    setting = dataclasses.replace(plain, **change)
    for method in ("NPO", "BalDRO_DV_radius"):
        computed = memory.compute(method, setting, checkout)["peak"]
        measured = allocated(method, setting)
        gc.collect()
        torch.cuda.empty_cache()
        label = ", ".join([method, *(name if value is True else f"{name} {value}" for name, value in change.items())])
        rows[label] = {"computed": computed, **measured}
table = pd.DataFrame.from_dict(rows, orient="index")
print(f"{given.model}, {given.batch} + {given.batch} samples of {given.tokens} tokens, {torch.cuda.get_device_name()}")
print((table / 2**30).assign(ratio=table["allocated"] / table["computed"]).round(3).to_string())
