"""Trains on several CPU processes with an engine that shards the model. Run by torch.distributed.run.

Usage: sharded.py CHECKOUT GENERATION MODEL fsdp2|zero2|zero3 FOLDER OVERRIDE...

accelerate chooses neither engine by itself where there is no GPU, so it is told to here: DeepSpeed by an
accelerator state of that kind that exists before the Trainer, FSDP2 by changing the state after it was made.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

from accelerate import DistributedType, FullyShardedDataParallelPlugin, PartialState
from in_process import make_trainer
from safetensors.torch import save_file

from baldro_ext import checkpoint

CHECKOUT, GENERATION, MODEL, ENGINE, FOLDER, *OVERRIDES = sys.argv[1:]


def with_deepspeed(stage: int) -> Any:
    """Return a trainer that trains by ZeRO of this stage."""
    os.environ["ACCELERATE_USE_DEEPSPEED"] = "true"
    PartialState(backend="gloo")
    folder = Path(FOLDER)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "deepspeed.json").write_text(
        json.dumps(
            {
                "zero_optimization": {"stage": stage, "stage3_gather_16bit_weights_on_model_save": True},
                "zero_allow_untested_optimizer": True,
                "train_micro_batch_size_per_gpu": "auto",
                "gradient_accumulation_steps": "auto",
                "gradient_clipping": "auto",
            }
        )
    )
    (folder / "accelerator.json").write_text('{"use_configured_state": true}')
    return make_trainer(
        (CHECKOUT, GENERATION, MODEL),
        *OVERRIDES,
        f"paths.output_dir={folder}",
        f"+trainer.args.deepspeed={folder}/deepspeed.json",
        f"+trainer.args.accelerator_config={folder}/accelerator.json",
        "trainer.args.use_cpu=false",
    )


def with_fsdp2() -> Any:
    """Return a trainer that trains by PyTorch's `fully_shard`."""
    trainer = make_trainer((CHECKOUT, GENERATION, MODEL), *OVERRIDES, f"paths.output_dir={FOLDER}")
    state = trainer.accelerator.state
    state.distributed_type = DistributedType.FSDP
    state.fsdp_plugin = FullyShardedDataParallelPlugin(
        fsdp_version=2, auto_wrap_policy="transformer_based_wrap", state_dict_type="FULL_STATE_DICT"
    )
    trainer.is_fsdp_enabled = True
    return trainer


def save_fsdp2(trainer: Any) -> None:
    """Save as `save_model` does, which waits forever for shards that its other processes do not send on a CPU."""
    whole = {name: shards.full_tensor().contiguous() for name, shards in trainer.model.state_dict().items()}
    if trainer.args.should_save:
        save_file(whole, Path(FOLDER) / "model.safetensors")


OVERRIDES.append("trainer.args.save_strategy=no")
trainer = with_fsdp2() if ENGINE == "fsdp2" else with_deepspeed(int(ENGINE[-1]))
trainer.train()
if ENGINE == "fsdp2":
    save_fsdp2(trainer)
else:
    trainer.save_model(FOLDER)
if trainer.args.should_save:
    checkpoint.save(trainer.adversary.state, Path(FOLDER), {})
if trainer.is_world_process_zero():
    print(f"trained by {type(trainer.model_wrapped).__name__} on {trainer.accelerator.num_processes} processes")
