"""Whether a trainer can train an 8B model on a GPU of 40 GB: one optimizer step of 1 x 32 samples, memory capped.

    python -m tests.gpu.fits_in_40_gib BalDRO_DV
    python -m tests.gpu.fits_in_40_gib NPO

Llama-3.1-8B's shape with random bfloat16 weights, 512 tokens per sample, gradient checkpointing, a paged 8-bit AdamW
(bitsandbytes). Prints what was allocated at most, or that it ran out. `--shape small --device cpu --optimizer
adamw_torch` tries the script itself where there is no GPU.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import torch

from baldro_ext.tools import framework
from baldro_ext.tools.bench.batch import MODELS, Batch, build_model, configuration
from baldro_ext.tools.bench.candidates import make_trainer

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("trainer", help="of the framework's configurations: BalDRO_DV, NPO, ...")
parser.add_argument("--shape", default="Llama-3.1-8B", choices=MODELS)
parser.add_argument("--device", default="cuda")
parser.add_argument("--gib", type=float, default=40.0, help="cap of the GPU's memory")
parser.add_argument("--length", type=int, default=512, help="tokens per sample")
parser.add_argument("--optimizer", default="paged_adamw_8bit", help="as transformers names them")
given = parser.parse_args()

device = torch.device(given.device)
if device.type == "cuda":
    whole = torch.cuda.get_device_properties(device).total_memory
    torch.cuda.set_per_process_memory_fraction(min(1.0, given.gib * 2**30 / whole), device)

model = build_model(configuration(given.shape), device, torch.bfloat16)
checkout = framework.checkout(framework.made_for())
batch = Batch(size=1, length=given.length, prompt=given.length // 4, different=32)
# Within a batch of one sample every weighting is the plain loss.
method = f"{given.trainer} scope=dataset" if given.trainer.startswith("BalDRO") else given.trainer
try:
    with tempfile.TemporaryDirectory() as folder:
        make_trainer(
            method,
            checkout,
            model,
            batch,
            Path(folder),
            gradient_accumulation_steps=32,
            gradient_checkpointing=True,
            gradient_checkpointing_kwargs={"use_reentrant": False},
            optim=given.optimizer,
            learning_rate=1e-5,
            max_steps=1,
            save_strategy="no",
            logging_steps=1,
        ).train()
except torch.cuda.OutOfMemoryError as error:
    sys.exit(f"{given.trainer}: out of memory with {given.gib:g} GiB: {str(error).splitlines()[0]}")
size = sum(parameter.numel() for parameter in model.parameters())
print(f"{given.trainer}: one step of 1 x 32 samples trained, {size / 1e9:.2f}B parameters")
if device.type == "cuda":
    print(f"at most {torch.cuda.max_memory_allocated(device) / 2**30:.1f} GiB allocated of {given.gib:g} GiB")
