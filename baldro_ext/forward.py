"""One forward pass that computes of a model's outputs only what a loss needs.

Most logits of a causal model belong to prompt and padding, which no loss reads. Models of transformers can skip them,
by an argument whose name depends on the release.
"""

from __future__ import annotations

import contextlib
import inspect
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from baldro_ext.answers import IGNORE_INDEX, AnswerPositions, Answers, Needs
from baldro_ext.logprobs import predicted_log_probs

Kept = Tensor | slice
_LOG_PROBS = Needs()


@dataclass(frozen=True)
class AnswerForward:
    """Computes what a loss reads of the answers, with as few logits as the model's `forward` allows.

    Args:
        accepts: Keys of the batch that the model's `forward` takes.
        argument: `logits_to_keep` (transformers 4.49 and later), `num_logits_to_keep` (4.45), or `None` for a
            model that always computes all logits.
        takes_positions: Whether that argument may be a tensor of positions, not just the number of last ones.
        caches: Whether the model has the argument `use_cache`, to be set to false.
    """

    accepts: frozenset[str] = frozenset({"input_ids", "attention_mask"})
    argument: str | None = None
    takes_positions: bool = False
    caches: bool = False

    @classmethod
    def of(cls, model: nn.Module) -> AnswerForward:
        """Read the signature of a model that no engine has wrapped; a PEFT model is unwrapped."""
        unwrap: Any = getattr(model, "get_base_model", None)
        base = unwrap() if unwrap else model
        parameters = inspect.signature(base.forward).parameters
        accepts = frozenset(parameters) - {"labels", "use_cache"} if "input_ids" in parameters else cls.accepts
        for argument in ("logits_to_keep", "num_logits_to_keep"):
            if argument in parameters:
                tensors = "Tensor" in str(parameters[argument].annotation)
                return cls(accepts, argument, tensors, "use_cache" in parameters)
        return cls(accepts, caches="use_cache" in parameters)

    def __call__(
        self,
        model: Any,
        batch: Mapping[str, Any],
        positions: AnswerPositions | None = None,
        needs: Needs = _LOG_PROBS,
    ) -> tuple[Answers, Any]:
        """Run the model, wrapped or not, on a batch.

        Args:
            model: Called with the keys of the batch it accepts, but without labels, so that it computes no
                cross-entropy.
            batch: `input_ids`, `labels`, each `(B, T)`, and other arguments of the model; padding may be on either
                side.
            positions: Of the answers; by default computed from the labels, which waits for their device.
            needs: What to return. Second answers and the model before unlearning are passes of their own.

        Returns:
            The answers at K positions, 1 <= K <= T, and the model's outputs, with logits for K positions.

        Raises:
            ValueError: The model's outputs cannot be matched with the labels, or the module to read is not found.
        """
        labels = batch["labels"]
        inputs, kept = self._inputs(model, batch, positions or AnswerPositions.of(labels), needs)
        with _output_of(model, needs.activations) as read:
            outputs = model(**inputs)
        next_labels = functional.pad(labels[:, 1:], (0, 1), value=IGNORE_INDEX)[:, kept]
        own = labels[:, kept] != IGNORE_INDEX
        if needs.any_logits:
            logits = _matching(outputs.logits, next_labels.shape[1])
            answers = replace(_of_logits(logits, next_labels, own, needs), own=own)
        else:
            answers = Answers(None, next_labels != IGNORE_INDEX, own=own)
        if needs.activations:
            hidden = _matching(read[0], inputs["input_ids"].shape[1])[:, kept]
            answers = replace(answers, activations=hidden.masked_fill(~own[..., None].to(hidden.device), 0))
        return answers, outputs

    def _inputs(
        self, model: Any, batch: Mapping[str, Any], positions: AnswerPositions, needs: Needs
    ) -> tuple[dict[str, Any], Kept]:
        """Return the model's arguments, and the positions of the batch that are needed."""
        labels = batch["labels"]
        places = positions.kept(needs)
        first, end = int(places[0]), int(places[-1]) + 1
        inputs = {name: value for name, value in batch.items() if name in self.accepts}
        if all(value.shape == labels.shape for value in inputs.values()):
            # A causal model does not need the tokens after the last one that is read.
            inputs = {name: value[:, :end] for name, value in inputs.items()}
        else:
            end = labels.shape[1]
        if self.caches:
            inputs["use_cache"] = False
        if self.argument is None:
            return inputs, slice(0, end)
        kept: Kept = slice(first, end)
        if not needs.any_logits:
            inputs[self.argument] = 1
            return inputs, kept
        inputs[self.argument] = end - first
        # nn.DataParallel would split a tensor of positions among the replicas.
        if self.takes_positions and len(places) < end - first and not isinstance(model, nn.DataParallel):
            kept = inputs[self.argument] = places.to(labels.device, non_blocking=labels.is_cuda)
        return inputs, kept


def rows_of(batch: Mapping[str, Any], rows: Tensor) -> dict[str, Any]:
    """Return the given rows, `(m,)` int64 on the CPU, of a batch of tensors `(B, ...)` on any device."""
    size = len(batch["labels"])
    if torch.equal(rows, torch.arange(size)):
        return dict(batch)
    return {
        # Row by row, because a vector of indices would have to be moved to the device first.
        name: torch.stack([value[row] for row in rows.tolist()])
        if isinstance(value, Tensor) and len(value) == size
        else value
        for name, value in batch.items()
    }


def _of_logits(logits: Tensor, next_labels: Tensor, own: Tensor, needs: Needs) -> Answers:
    """Return what is read of logits `(B, K, V)` and the labels at and after their positions."""
    mask = next_labels != IGNORE_INDEX
    answers = predicted_log_probs(logits, next_labels) if needs.log_probs else Answers(None, mask)
    if not (needs.logits or needs.own_logits):
        return answers
    read = (mask & needs.logits) | (own & needs.own_logits)
    # Logits of padding may be NaN, and a weight of 0 would not remove them.
    shown = logits.masked_fill(~read[..., None].to(logits.device), 0)
    return replace(answers, logits=shown, targets=next_labels.masked_fill(~mask, 0))


def _matching(outputs: Tensor, positions: int) -> Tensor:
    if outputs.shape[1] != positions:
        raise ValueError(
            f"the model returned outputs for {outputs.shape[1]} positions, but {positions} were asked for, so they "
            "cannot be matched with the labels: use a model, or an adapter such as LoRA, that adds no positions of its "
            "own"
        )
    return outputs


@contextlib.contextmanager
def _output_of(model: Any, pattern: str | None) -> Iterator[list[Tensor]]:
    """Yield a list that receives the output `(B, T, d)` of the module with this name, if one is given."""
    outputs: list[Tensor] = []
    if pattern is None:
        yield outputs
        return
    if isinstance(model, nn.DataParallel):
        raise ValueError(
            f"module_regex={pattern!r} reads one module, but nn.DataParallel runs a copy of it on each GPU: start one "
            "process per GPU with accelerate launch, or set CUDA_VISIBLE_DEVICES to one GPU"
        )
    # An engine or PEFT puts the model's own names behind a prefix.
    found = {name: module for name, module in model.named_modules() if re.fullmatch(rf"(?:.*\.)?(?:{pattern})", name)}
    if len(found) != 1:
        layers = ", ".join([*found][:3]) if found else ", ".join(name for name, _ in model.named_modules())[:200]
        raise ValueError(
            f"module_regex={pattern!r} has to match the name of one module, but matches {len(found)}: use for example "
            rf"model\.layers\.7; {'it matches' if found else 'there are'} {layers}, ..."
        )

    def keep(module: nn.Module, inputs: Any, output: Any) -> None:
        outputs.append(output if isinstance(output, Tensor) else output[0])

    handle = next(iter(found.values())).register_forward_hook(keep)
    try:
        yield outputs
    finally:
        handle.remove()
    if not outputs:
        raise ValueError(f"module_regex={pattern!r} names a module that is never called: name a layer, not their list")
    if torch.is_grad_enabled() and not outputs[0].requires_grad and any(p.requires_grad for p in model.parameters()):
        raise ValueError(
            f"the output of {next(iter(found))} has no gradient, since no parameter before it is trained: choose other "
            "trainable_params_regex, or a later module_regex"
        )
