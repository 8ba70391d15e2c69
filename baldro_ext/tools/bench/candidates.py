"""The candidates that are measured, all with one model: each turns a batch into the loss that it would train on."""

import copy
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import send_to_device
from torch import Tensor
from torch.utils.data import default_collate
from transformers import PreTrainedModel, TrainingArguments

from baldro_ext.forward import AnswerForward
from baldro_ext.tools.bench import released
from baldro_ext.tools.bench.batch import Batch

FLOOR = "floor"
TRAINERS: dict[str, tuple[str, ...]] = {
    "NPO": ("NPO", "BalDRO_DV", "BalDRO_G", "BalDRO_G retain_batch=matched", "BalDRO_G scope=dataset"),
    "SimNPO": ("SimNPO", "BalDRO_DV_SimNPO", "BalDRO_G_SimNPO"),
    "SatImp": ("SatImp", "BalDRO_DV_SatImp", "BalDRO_G_SatImp"),
}
"""By the framework's built-in trainer: what is measured beside it, as `trainer=` and settings."""


@dataclass(frozen=True)
class Candidate:
    """One way to train."""

    name: str
    base: str  # name of the candidate that it is compared with
    loss: Callable[[int], Tensor]  # from the number of a batch to the loss of a step on it, `()`
    copies: int = 0  # how many further models of the same size it keeps in memory


def make_candidates(
    bases: Iterable[str], checkout: Path, model: PreTrainedModel, batch: Batch, folder: Path
) -> list[Candidate]:
    """Return the floor, and for each base, a key of `TRAINERS`, the built-in trainer, ours and the authors'.

    The other arguments are those of `make_trainer`. What needs a copy of the model before unlearning makes it now.
    """
    samples = batch.samples(model.config.vocab_size)
    batches = [send_to_device(default_collate([samples[i] for i in rows]), model.device) for rows in batch.rows]
    forward = AnswerForward.of(model)

    def floor(sides: Any) -> Tensor:
        forget, retain = (forward(model, sides[side])[0].sums for side in ("forget", "retain"))
        return (forget - retain).mean()

    def loss(step: Callable[[Any], Tensor], number: int) -> Tensor:
        with torch.autocast(model.device.type, torch.bfloat16, enabled=model.dtype != torch.float32):
            return step(batches[number])

    chosen = [Candidate(FLOOR, FLOOR, partial(loss, floor))]
    for base in bases:
        trainers = {name: make_trainer(name, checkout, model, batch, folder) for name in TRAINERS[base]}
        chosen += [_of_trainer(name, base, trainers[name], batch) for name in trainers]
        for name in released.STEPS.get(base, ()):
            before = copy.deepcopy(model).eval() if base == "NPO" else model
            step = partial(released.step, name, model, before)
            chosen.append(Candidate(name, base, partial(loss, step), int(before is not model)))
    return chosen


def make_trainer(
    name: str, checkout: Path, model: PreTrainedModel, batch: Batch, folder: Path, **arguments: Any
) -> Any:
    """Return a trainer as the framework composes it.

    Args:
        name: What follows `trainer=`, then settings of `trainer.method_args`: `BalDRO_G scope=dataset`.
        checkout: Of the framework, whose packages must be installed.
        model: To be trained, under autocast if its weights are not float32, as the framework does.
        batch: What a step works on.
        folder: Where the trainer may write.
        arguments: Further `transformers.TrainingArguments`.
    """
    if (source := str(checkout / "src")) not in sys.path:
        sys.path.insert(0, source)
    from hydra import compose, initialize_config_dir
    from trainer import TRAINER_REGISTRY

    from baldro_ext import register

    register()
    choice, *settings = name.split()
    with initialize_config_dir(str(checkout / "configs"), version_base=None):
        overrides = [f"trainer={choice}", *(f"trainer.method_args.{setting}" for setting in settings)]
        config = compose("train", overrides).trainer
    usual = {
        "output_dir": str(folder),
        "per_device_train_batch_size": batch.size,
        "per_device_eval_batch_size": batch.size,
        "use_cpu": model.device.type == "cpu",
        "bf16": model.dtype != torch.float32,
        "report_to": "none",
        "remove_unused_columns": False,
        "label_names": ["labels"],  # which the Trainer cannot find out below adapters
        "disable_tqdm": True,
    }
    return TRAINER_REGISTRY[config.handler](
        model=model,
        args=TrainingArguments(**(usual | arguments)),
        train_dataset=batch.samples(model.config.vocab_size),
        data_collator=default_collate,
        **{str(key): value for key, value in config.get("method_args", {}).items()},
    )


def _of_trainer(name: str, base: str, trainer: Any, batch: Batch) -> Candidate:
    if hasattr(trainer, "score_forget_set"):
        trainer.score_forget_set(trainer.model)  # as before the first step
    samples = trainer.train_dataset
    batches = [trainer._prepare_inputs(trainer.data_collator([samples[i] for i in rows])) for rows in batch.rows]

    def loss(number: int) -> Tensor:
        with trainer.compute_loss_context_manager():
            return trainer.compute_loss(trainer.model, batches[number])  # type: ignore[no-any-return]

    return Candidate(name, base, loss, int(getattr(trainer, "ref_model", None) is not None))
