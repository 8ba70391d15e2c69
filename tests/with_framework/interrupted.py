"""Kills a run between two steps, at ten points, and compares each resumed run with the uninterrupted one.

Usage: python interrupted.py CHECKOUT GENERATION MODEL FOLDER. Prints a line per kill
point; fails where one differs.
"""

import os
import shutil
import signal
import sys
from pathlib import Path

import numpy as np
import torch
from in_process import make_trainer
from safetensors.torch import load_file
from transformers import TrainerCallback

CHECKOUT, GENERATION, MODEL, FOLDER = sys.argv[1:]


class KillBefore(TrainerCallback):
    """Sends SIGKILL to its own process as the step after `step` begins."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_begin(self, args, state, control, **kwargs) -> None:  # type: ignore[no-untyped-def]
        if state.global_step == self.step:
            os.kill(os.getpid(), signal.SIGKILL)


def run(folder: Path, kill_before: int | None = None, resume: bool = False) -> int:
    """Train in a process of its own; return its exit status."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    trainer = make_trainer(
        (CHECKOUT, GENERATION, MODEL),
        "experiment=unlearn/tofu",
        "trainer.method_args.scope=dataset",
        f"paths.output_dir={folder}",
        "trainer.args.per_device_train_batch_size=2",
        "trainer.args.gradient_accumulation_steps=1",
        "trainer.args.num_train_epochs=3",
        "trainer.args.learning_rate=1e-3",
        "trainer.args.save_strategy=steps",
        "+trainer.args.save_steps=1",
        "+trainer.args.save_total_limit=1",
        "trainer.args.save_only_model=false",
    )
    if kill_before is not None:
        trainer.add_callback(KillBefore(kill_before))
    trainer.train(resume_from_checkpoint=resume)
    trainer.save_model(str(folder))
    sys.stdout.flush()
    os._exit(0)


def result(folder: Path) -> dict[str, torch.Tensor]:
    """Weights at the end of a run, and what is known of the samples at its last checkpoint."""
    (last,) = folder.glob("checkpoint-*")
    with np.load(last / "baldro_state.npz") as file:
        state = {name: torch.from_numpy(file[name]) for name in ("losses", "hardness", "seen", "reference")}
    return load_file(folder / "model.safetensors") | state


whole = Path(FOLDER) / "whole"
assert run(whole) == 0
expected = result(whole)
for step in range(1, 11):
    folder = Path(FOLDER) / f"killed_after_{step}"
    assert run(folder, kill_before=step) == -signal.SIGKILL
    assert not (folder / "model.safetensors").exists()
    assert run(folder, resume=True) == 0
    found = result(folder)
    differing = [name for name in expected if not torch.equal(found[name].nan_to_num(), expected[name].nan_to_num())]
    assert found.keys() == expected.keys()
    assert not differing, f"resumed after step {step}: {differing[:5]} differ"
    print(f"killed after step {step}: resumed to the same weights and state", flush=True)
    shutil.rmtree(folder)
