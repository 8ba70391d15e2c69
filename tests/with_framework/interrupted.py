"""Kills a run between two steps, at ten points, and compares each resumed run with the uninterrupted one.

Usage: python interrupted.py CHECKOUT GENERATION MODEL FOLDER. Prints a line per kill point; fails where one differs.
"""

import os
import shutil
import signal
import sys
from pathlib import Path

CHECKOUT, GENERATION, MODEL, FOLDER = sys.argv[1:]
sys.path.insert(0, f"{CHECKOUT}/src")

import torch  # noqa: E402
from hydra import compose, initialize_config_dir  # noqa: E402
from safetensors.torch import load_file  # noqa: E402
from transformers import TrainerCallback  # noqa: E402

import baldro_ext  # noqa: E402

baldro_ext.register()

from data import get_collators, get_data  # noqa: E402
from model import get_model  # noqa: E402
from trainer import load_trainer  # noqa: E402
from trainer.utils import seed_everything  # noqa: E402


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
    with initialize_config_dir(f"{CHECKOUT}/configs", version_base=None):
        config = compose(
            "train",
            [
                "trainer=BalDRO_DV",
                "experiment=unlearn/tofu",
                "+hardware=cpu",
                "trainer.method_args.scope=dataset",
                f"model.model_args.pretrained_model_name_or_path={MODEL}",
                f"model.tokenizer_args.pretrained_model_name_or_path={MODEL}",
                f"paths.output_dir={folder}",
                "trainer.args.report_to=none",
                "trainer.args.eval_strategy=no",
                "trainer.args.eval_on_start=false",
                "trainer.args.per_device_train_batch_size=2",
                "trainer.args.gradient_accumulation_steps=1",
                "trainer.args.num_train_epochs=3",
                "trainer.args.learning_rate=1e-3",
                "trainer.args.save_strategy=steps",
                "+trainer.args.save_steps=1",
                "+trainer.args.save_total_limit=1",
                "trainer.args.save_only_model=false",
                "+trainer.args.disable_tqdm=true",
            ],
        )
    seed_everything(config.trainer.args.seed)
    model, tokenizer = get_model(config.model)
    data = get_data(config.data, mode=config.mode, tokenizer=tokenizer, template_args=config.model.template_args)
    collator = get_collators(config.collator, tokenizer=tokenizer)
    tokenizer_name = "tokenizer" if GENERATION == "G1" else "processing_class"
    trainer, _ = load_trainer(
        config.trainer, model=model, train_dataset=data["train"], data_collator=collator, **{tokenizer_name: tokenizer}
    )
    if kill_before is not None:
        trainer.add_callback(KillBefore(kill_before))
    trainer.train(resume_from_checkpoint=resume)
    trainer.save_model(str(folder))
    sys.stdout.flush()
    os._exit(0)


def result(folder: Path) -> dict[str, torch.Tensor]:
    """Weights and ledger at the end of a run."""
    return load_file(folder / "model.safetensors") | load_file(folder / "baldro_ledger.safetensors")


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
    print(f"killed after step {step}: resumed to the same weights and ledger", flush=True)
    shutil.rmtree(folder)
