"""The plain host: `transformers.Trainer` itself, for people with their own Hugging Face code."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Trainer, TrainingArguments

from baldro_ext.data import ForgetRetainCollator
from baldro_ext.trainer import BalDROMixin, Batch


class BalDROTrainer(BalDROMixin, Trainer):
    """A `transformers.Trainer` that unlearns.

    Args:
        model: Any causal language model.
        args: `TrainingArguments`; `remove_unused_columns` is taken for false.
        variant: `BalDRO_DV` or `BalDRO_G`.
        train_dataset: A `baldro_ext.ForgetRetainDataset`, or another dataset of `{"forget": sample, "retain": sample}`
            items whose attribute `forget` holds the forget samples in the order of the items.
        data_collator: Makes `{"forget": batch, "retain": batch}` of items; by default `ForgetRetainCollator`.
        processing_class: The tokenizer, under this name in every release of transformers; says what to pad with.
        arguments: The settings of docs/settings.md by their names there (`base`, `dv_beta`, `scope`, ...), and what
            `Trainer` takes besides. An `eval_dataset` holds plain samples; the mean of their batches' losses per token
            is reported.

    Raises:
        ValueError: A setting cannot work, or there is nothing to forget; the message says what to set instead.
    """

    def __init__(
        self,
        model: Any = None,
        args: TrainingArguments | None = None,
        *,
        variant: str = "BalDRO_DV",
        train_dataset: Any,
        data_collator: Any = None,
        processing_class: Any = None,
        **arguments: Any,
    ) -> None:
        if not len(getattr(train_dataset, "forget", ())):
            raise ValueError(
                "train_dataset has no forget samples in its attribute `forget`: make it by "
                "baldro_ext.ForgetRetainDataset(forget, retain)"
            )
        _refuse_pairs(arguments.get("eval_dataset"))
        self.variant = variant
        self._before: Any = None
        args = copy.copy(args) if args else TrainingArguments("unlearned")
        args.remove_unused_columns = False  # items are {forget, retain}, which are no columns of the model
        if processing_class is not None:
            known = inspect.signature(Trainer.__init__).parameters
            arguments["processing_class" if "processing_class" in known else "tokenizer"] = processing_class
        super().__init__(
            model,
            args,
            train_dataset=train_dataset,
            data_collator=data_collator or ForgetRetainCollator(_padding(processing_class)),
            **arguments,
        )
        settings = self.settings
        if settings.retain_loss_type == "KL" or (settings.objective.needs_reference and settings.reference == "live"):
            self._before = self._frozen_copy()

    def compute_loss(
        self,
        model: nn.Module,
        inputs: Mapping[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """Return the loss of a micro-batch to unlearn, or of plain samples to evaluate, as the Trainer computes it."""
        if "forget" not in inputs:
            return Trainer.compute_loss(self, model, dict(inputs), return_outputs)
        return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)

    def compute_retain_loss(self, model: nn.Module, retain_inputs: Batch) -> Tensor:
        """Return KL(model before unlearning || model), the mean over all `B * T` positions as in open-unlearning."""
        inputs = {name: retain_inputs[name] for name in ("input_ids", "attention_mask")}
        with torch.no_grad():
            before = self._before(**inputs).logits.float().log_softmax(-1)
        now = model(**inputs).logits.float().log_softmax(-1)
        divergence: Tensor = (before.exp() * (before - now)).sum(-1).mean()
        return divergence

    def reference_log_likelihoods(self, forget_inputs: Batch) -> Tensor:
        """Return `(B,)` log-likelihoods under the copy of the model before unlearning."""
        with torch.no_grad():
            return self.log_likelihoods(self._before, forget_inputs)

    def _frozen_copy(self) -> Any:
        if self.is_deepspeed_enabled or self.is_fsdp_enabled:
            raise ValueError(
                "retain_loss_type=KL and reference=live keep a copy of the model, which this trainer does not shard: "
                "use retain_loss_type=NLL with reference=precomputed, or the trainers for open-unlearning"
            )
        frozen = copy.deepcopy(self.model).to(self.accelerator.device).eval().requires_grad_(False)
        return self.accelerator.prepare_model(frozen, evaluation_mode=True)


def _refuse_pairs(evaluated: Any) -> None:
    for dataset in evaluated.values() if isinstance(evaluated, dict) else [evaluated]:
        if hasattr(dataset, "forget"):
            raise ValueError(
                "eval_dataset holds pairs, which have no loss of their own: evaluate the samples apart, by "
                'eval_dataset={"forget": forget, "retain": retain}'
            )


def _padding(tokenizer: Any) -> int:
    """Return a token to pad with; which one is all the same, since the attention mask hides it."""
    for name in ("pad_token_id", "eos_token_id"):
        if (token := getattr(tokenizer, name, None)) is not None:
            return int(token)
    return 0
