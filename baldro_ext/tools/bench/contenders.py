"""Who takes part: every contender turns a batch of the same samples into the loss it would train on.

All share one model. A contender that compares with the model before unlearning by a copy brings that copy.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import TrainingArguments

from baldro_ext.logprobs import AnswerForward
from baldro_ext.tools.bench import released
from baldro_ext.tools.bench.workload import Load, MadeUpPairs, stack

FLOOR = "floor"


@dataclass(frozen=True)
class Contender:
    """One way to train.

    Attributes:
        name: As the table calls it.
        base: The built-in trainer it is compared with; for the floor none.
        loss: From the number of a batch to the loss `()` of a step on it.
        copies: How many further models of the same size it keeps in memory.
    """

    name: str
    base: str | None
    loss: Callable[[int], Tensor]
    copies: int = 0


BASES: dict[str, tuple[tuple[str, str, dict[str, str]], ...]] = {
    "NPO": (
        ("NPO", "NPO", {}),
        ("BalDRO_DV", "BalDRO_DV", {}),
        ("BalDRO_G", "BalDRO_G", {}),
        ("BalDRO_G retain_batch=matched", "BalDRO_G", {"retain_batch": "matched"}),
        ("BalDRO_G scope=dataset", "BalDRO_G", {"scope": "dataset"}),
    ),
    "SimNPO": (
        ("SimNPO", "SimNPO", {}),
        ("BalDRO_DV_SimNPO", "BalDRO_DV_SimNPO", {}),
        ("BalDRO_G_SimNPO", "BalDRO_G_SimNPO", {}),
    ),
    "SatImp": (
        ("SatImp", "SatImp", {}),
        ("BalDRO_DV_SatImp", "BalDRO_DV_SatImp", {}),
        ("BalDRO_G_SatImp", "BalDRO_G_SatImp", {}),
    ),
}
"""For each built-in trainer, the framework's trainers to run: name in the table, `trainer=`, further settings."""

_Step = Callable[[nn.Module, nn.Module, Mapping[str, Any]], Tensor]
_RELEASED: dict[str, dict[str, _Step]] = {
    "NPO": {
        "DrNPO (released)": partial(released.dual_step, released.npo),
        "GroupNPO (released)": partial(released.group_step, released.npo),
    },
    "SimNPO": {
        "DrSimNPO (released)": partial(released.dual_step, released.simnpo),
        "GroupSimNPO (released)": partial(released.group_step, released.simnpo),
    },
}


@dataclass(frozen=True)
class Field:
    """Builds contenders around one model.

    Attributes:
        checkout: Of the framework, whose packages must be installed.
        model: Shared by all, on the device to measure on.
        load: What a step works on.
        folder: Where the Trainers may write.
        bf16: Whether to train under autocast, as the framework's configurations do on a GPU.
    """

    checkout: Path
    model: Any
    load: Load
    folder: Path
    bf16: bool

    def contenders(self, bases: tuple[str, ...], only: frozenset[str] | None = None) -> list[Contender]:
        """Return the floor, and all contenders of some bases, keys of `BASES`, or those of certain names."""
        found = [Contender(FLOOR, None, self._floor())]
        settings = self.framework_settings({trainer for base in bases for _, trainer, _ in BASES[base]})
        for base in bases:
            for name, trainer, more in BASES[base]:
                if only is None or name in only:
                    found.append(self._of_framework(name, base, {**settings[trainer], **more}))
            for name, step in _RELEASED.get(base, {}).items():
                if only is None or name in only:
                    found.append(self._released(name, base, step))
        return found

    def _floor(self) -> Callable[[int], Tensor]:
        """The least that a step on all samples needs: one pass over both batches, logits for answers only."""
        forward, batches = AnswerForward.of(self.model), self._batches()

        def loss(number: int) -> Tensor:
            with self._autocast():
                sums = [forward(self.model, batches[number][side])[0].sums for side in ("forget", "retain")]
                return (sums[0] - sums[1]).mean()

        return loss

    def trainer(self, settings: Mapping[str, Any], **arguments: Any) -> Any:
        """Return a trainer of the framework, ours among them.

        Args:
            settings: Its handler and `method_args`, as `framework_settings` gives them.
            arguments: Further `transformers.TrainingArguments`.
        """
        from trainer import TRAINER_REGISTRY

        method = {key: value for key, value in settings.items() if key != "handler"}
        return TRAINER_REGISTRY[settings["handler"]](
            model=self.model,
            args=self._training_arguments(**arguments),
            train_dataset=self._pairs,
            data_collator=stack,
            **method,
        )

    def framework_settings(self, trainers: set[str]) -> dict[str, dict[str, Any]]:
        """Return handler and `method_args` by `trainer=`, as the framework composes them."""
        sys.path.insert(0, str(self.checkout / "src"))
        from hydra import compose, initialize_config_dir
        from omegaconf import OmegaConf

        from baldro_ext import register

        register()
        with initialize_config_dir(str(self.checkout / "configs"), version_base=None):
            composed = {name: compose("train", [f"trainer={name}"]).trainer for name in trainers}
        return {
            name: {"handler": config.handler, **OmegaConf.to_container(config.method_args)}  # type: ignore[dict-item]
            for name, config in composed.items()
        }

    def _of_framework(self, name: str, base: str, settings: Mapping[str, Any]) -> Contender:
        trainer = self.trainer(settings)
        if hasattr(trainer, "score_forget_set"):
            trainer.score_forget_set(self.model)  # as when it trains
        batches = [
            trainer._prepare_inputs(trainer.data_collator([trainer.train_dataset[index] for index in rows]))
            for rows in self._rows
        ]

        def loss(number: int) -> Tensor:
            with trainer.compute_loss_context_manager():
                return trainer.compute_loss(self.model, batches[number])  # type: ignore[no-any-return]

        return Contender(name, base, loss, int(getattr(trainer, "ref_model", None) is not None))

    def _released(self, name: str, base: str, step: _Step) -> Contender:
        needs_copy = base == "NPO"
        reference, batches = copy.deepcopy(self.model).eval() if needs_copy else self.model, self._batches()

        def loss(number: int) -> Tensor:
            with self._autocast():
                return step(self.model, reference, batches[number])

        return Contender(name, base, loss, int(needs_copy))

    def _training_arguments(self, **more: Any) -> TrainingArguments:
        usual = {
            "output_dir": str(self.folder),
            "per_device_train_batch_size": self.load.batch,
            "per_device_eval_batch_size": self.load.batch,
            "gradient_accumulation_steps": 1,
            "use_cpu": self._device.type == "cpu",
            "bf16": self.bf16,
            "report_to": "none",
            "remove_unused_columns": False,
            "disable_tqdm": True,
        }
        return TrainingArguments(**{**usual, **more})

    @property
    def _pairs(self) -> MadeUpPairs:
        return MadeUpPairs(self.load, self.model.config.vocab_size)

    @property
    def _rows(self) -> list[range]:
        size = self.load.batch
        return [range(start, start + size) for start in range(0, size * self.load.batches, size)]

    @property
    def _device(self) -> torch.device:
        return next(self.model.parameters()).device  # type: ignore[no-any-return]

    def _batches(self) -> list[dict[str, dict[str, Tensor]]]:
        pairs, device = self._pairs, self._device
        stacked = [stack([pairs[index] for index in rows]) for rows in self._rows]
        return [
            {side: {name: values.to(device) for name, values in batch[side].items()} for side in batch}
            for batch in stacked
        ]

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self._device.type, torch.bfloat16, enabled=self.bf16)
