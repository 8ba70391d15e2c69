"""One forward pass that computes of a model's outputs only what a loss needs.

Most logits of a causal model belong to prompt and padding, which no loss reads. Models of transformers can skip them,
by an argument whose name depends on the release.
"""

from __future__ import annotations

import contextlib
import inspect
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from baldro_ext.answers import IGNORE_INDEX, Answers, Needs
from baldro_ext.logprobs import log_probs_of

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
        answer_tokens: Tensor | None = None,
        needs: Needs = _LOG_PROBS,
    ) -> tuple[Answers, Any]:
        """Run the model, wrapped or not, on a batch.

        Args:
            model: Called with the keys of the batch it accepts, but without labels, so that it computes no
                cross-entropy.
            batch: `input_ids`, `labels`, each `(B, T)`, and other arguments of the model; padding may be on either
                side.
            answer_tokens: `(B, T)` bool on the CPU; by default computed from the labels, which waits for their device.
            needs: What to return. Second answers and the model before unlearning are passes of their own.

        Returns:
            The answers at K positions, 1 <= K <= T, and the model's outputs, with logits for K positions.

        Raises:
            ValueError: The model's outputs cannot be matched with the labels, or the module to read is not found.
        """
        labels = batch["labels"]
        answer_tokens = labels != IGNORE_INDEX if answer_tokens is None else answer_tokens
        inputs, kept = self._inputs(model, batch, _positions(answer_tokens, needs), needs)
        with _output_of(model, needs.activations) as read:
            outputs = model(**inputs)
        targets = functional.pad(labels[:, 1:], (0, 1), value=IGNORE_INDEX)[:, kept]
        own = labels[:, kept] != IGNORE_INDEX
        log_probs = shown = activations = None
        if needs.any_logits:
            logits = _matching(outputs.logits, targets.shape[1])
            targets = targets.to(logits.device)  # with layers on several devices, not that of the labels
        mask = targets != IGNORE_INDEX
        targets = targets.masked_fill(~mask, 0)
        if needs.log_probs:
            log_probs = log_probs_of(targets, logits, mask)
        if needs.logits or needs.own_logits:
            seen = (mask & needs.logits) | (own.to(mask.device) & needs.own_logits)
            # Logits of padding may be NaN, and a weight of 0 would not remove them.
            shown = logits.masked_fill(~seen[..., None], 0)
        if needs.activations:
            hidden = _matching(read[0], inputs["input_ids"].shape[1])[:, kept]
            activations = hidden.masked_fill(~own[..., None].to(hidden.device), 0)
        return Answers(log_probs, mask, targets, own, shown, activations), outputs

    def _inputs(
        self, model: Any, batch: Mapping[str, Any], places: Tensor, needs: Needs
    ) -> tuple[dict[str, Any], Kept]:
        """Return the model's arguments, and which positions of the batch its outputs are for."""
        labels = batch["labels"]
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
        inputs[self.argument] = end - first if needs.any_logits else 1
        # nn.DataParallel would split a tensor of positions among the replicas.
        scattered = needs.any_logits and len(places) < end - first
        if scattered and self.takes_positions and not isinstance(model, nn.DataParallel):
            kept = inputs[self.argument] = places.to(labels.device, non_blocking=labels.is_cuda)
        return inputs, kept


def _positions(answer_tokens: Tensor, needs: Needs) -> Tensor:
    """Return `(K,)` int64, K >= 1, where outputs on any sample are read; [0] if nowhere, since backward needs a graph.

    Args:
        answer_tokens: `(B, T)` bool. Position t predicts the token at t + 1.
        needs: What is read.
    """
    at = answer_tokens.any(0)
    own, predicting = bool(needs.own_logits or needs.activations), needs.log_probs or needs.logits
    places = ((at & own) | (functional.pad(at[1:], (0, 1)) & predicting)).nonzero()[:, 0]
    return places if len(places) else torch.zeros(1, dtype=torch.int64)


def trained_behind(model: nn.Module, pattern: str) -> list[str]:
    """Return the names of the trained parameters behind the layer of the module with this name."""
    # Within a layer, modules do not run in the order of their names: up to its end, all may be read.
    layers = tuple(re.sub(r"(\.\d+)\..*", r"\1", name) + "." for name in _modules_named(model, pattern))
    parameters = list(model.named_parameters())
    read = [place for place, (name, _) in enumerate(parameters) if name.startswith(layers)]
    return [name for name, parameter in parameters[read[-1] + 1 :] if parameter.requires_grad] if read else []


def _modules_named(model: nn.Module, pattern: str) -> dict[str, nn.Module]:
    # An engine or PEFT puts the model's own names behind a prefix.
    return {name: module for name, module in model.named_modules() if re.fullmatch(rf"(?:.*\.)?(?:{pattern})", name)}


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
    found = _modules_named(model, pattern)
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
            f"the output of {next(iter(found))} has no gradient, since no parameter before it is trained, or reentrant "
            "gradient checkpointing recomputes it: choose other trainable_params_regex, a whole layer as module_regex, "
            "or gradient_checkpointing_kwargs={'use_reentrant': false}"
        )
