"""`BalDROTrainer`: the method in a `transformers.Trainer`, for training without open-unlearning."""

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Trainer, TrainingArguments

from baldro_ext import compat
from baldro_ext.data import ForgetRetainCollator
from baldro_ext.mixin import BalDROMixin
from baldro_ext.passes import Batch


class BalDROTrainer(BalDROMixin, Trainer):
    """A `transformers.Trainer` that unlearns.

    Args:
        model: Any causal language model, also with PEFT adapters.
        args: `TrainingArguments`; docs/training_arguments.md lists which are honoured. `remove_unused_columns` is
            treated as false.
        variant: A key of `baldro_ext.weightings.VARIANTS`: `BalDRO_DV`, `BalDRO_G` or `BalDRO_Chi2`.
        train_dataset: A `baldro_ext.ForgetRetainDataset`, or another dataset of `{"forget": sample, "retain": sample}`
            items whose attribute `forget` holds the forget samples in the order of the items.
        data_collator: Makes `{"forget": batch, "retain": batch}` from items; by default `ForgetRetainCollator`.
        processing_class: The tokenizer, which provides the padding token; this name, and `tokenizer`, work with every
            release of transformers.
        arguments: The settings of docs/settings.md (`base`, `dv_beta`, `scope`, ...), and other arguments of `Trainer`.
            An `eval_dataset` holds plain samples; evaluation reports the mean of their batches' losses per token.

    Raises:
        ValueError: A setting is invalid, or there is nothing to forget; the message says what to set instead.
    """

    def __init__(
        self,
        model: Any = None,
        args: TrainingArguments | None = None,
        *,
        variant: str = "BalDRO_DV",
        train_dataset: Any = None,
        data_collator: Any = None,
        processing_class: Any = None,
        **arguments: Any,
    ) -> None:
        _refuse_pairs(arguments.get("eval_dataset"))
        self.variant = variant
        if processing_class is None:
            processing_class = arguments.pop("tokenizer", None)
        if processing_class is not None:
            arguments[compat.TOKENIZER_ARGUMENT] = processing_class
        super().__init__(
            model,
            copy.copy(args) if args else TrainingArguments("unlearned"),
            train_dataset=train_dataset,
            data_collator=data_collator or ForgetRetainCollator(_padding(processing_class)),
            **arguments,
        )

    def compute_loss(
        self,
        model: nn.Module,
        inputs: Mapping[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """Return the loss of a forget-retain micro-batch; for plain samples, the Trainer's loss."""
        if "forget" not in inputs:
            return Trainer.compute_loss(self, model, dict(inputs), return_outputs)
        return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)

    def evaluate(self, eval_dataset: Any = None, *args: Any, **kwargs: Any) -> Any:
        """Evaluate plain samples as the Trainer does.

        Raises:
            ValueError: The samples are forget-retain pairs.
        """
        _refuse_pairs(eval_dataset)
        return super().evaluate(eval_dataset, *args, **kwargs)

    def compute_retain_loss(self, model: nn.Module, retain_inputs: Batch) -> Tensor:
        """Return KL(model before unlearning || model) in nats, the mean over `B * T` positions, as in the framework."""
        inputs = {name: value for name, value in retain_inputs.items() if name in self._forward.accepts}
        if self._forward.caches:
            inputs["use_cache"] = False
        with torch.no_grad():
            logits = self.ref_model(**inputs).logits.float().log_softmax(-1)
        outputs = model(**inputs)
        now = outputs.logits.float().log_softmax(-1)
        divergence: Tensor = (logits.exp() * (logits - now)).sum(-1).mean()
        return self.with_balance(divergence, outputs)

    def copy_of(self, model: nn.Module) -> Any:
        """Return a frozen copy of the model on its device.

        Raises:
            ValueError: An engine shards the model.
        """
        if self.is_deepspeed_enabled or self.is_fsdp_enabled:
            raise ValueError(
                "retain_loss_type=KL or EMBED_DIFF, reference=live, DPO and UNDIAL keep a copy of the model, which "
                "this trainer does not shard: use retain_loss_type=NLL with reference=precomputed and another base, "
                "adapters, or the trainers for open-unlearning"
            )
        frozen = copy.deepcopy(model).to(self.args.device).eval().requires_grad_(False)
        return self.accelerator.prepare_model(frozen, evaluation_mode=True)


def _refuse_pairs(evaluated: Any) -> None:
    for dataset in evaluated.values() if isinstance(evaluated, dict) else [evaluated]:
        if hasattr(dataset, "forget"):
            raise ValueError(
                "eval_dataset holds forget-retain pairs, which have no loss to evaluate: pass the samples apart, as in "
                'eval_dataset={"forget": forget, "retain": retain}'
            )


def _padding(tokenizer: Any) -> int:
    """Return a padding token; any id works, since the attention mask hides it."""
    for name in ("pad_token_id", "eos_token_id"):
        if (token := getattr(tokenizer, name, None)) is not None:
            return int(token)
    return 0
