"""The method as a mixin for any Hugging Face Trainer, independent of the framework.

A host class inherits from the mixin first and its own trainer second, sets `variant`, and provides
`compute_retain_loss`, `prepare_model_before` and `reference_log_likelihoods`.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from baldro_ext.answers import IGNORE_INDEX, Answers, Needs
from baldro_ext.budget import retain_loss_before
from baldro_ext.data import SAMPLES, Samples, answered, drawing
from baldro_ext.forward import rows_of
from baldro_ext.lifecycle import Lifecycle
from baldro_ext.losses import activation_distances
from baldro_ext.robust_loss import ForgetTerm

logger = logging.getLogger(__name__)

Batch = Mapping[str, Any]


class BalDROMixin(Lifecycle):
    """Trains on `gamma * worst case of the forget losses + alpha * retain loss`.

    A training batch is `{"forget": batch, "retain": batch}`, each with `input_ids` and `labels` of shape `(B, T)` and
    other arguments of the model's forward; with second answers, `forget` is `{"original": batch, "alternate": batch}`.
    Keyword arguments that the host's trainer does not have are settings
    (`baldro_ext.config.Settings`).
    """

    if TYPE_CHECKING:  # provided by the host class

        def compute_retain_loss(self, model: nn.Module, retain_inputs: Batch) -> Tensor:
            """Return the retain loss `()` for `retain_loss_type: KL`."""

    def compute_loss(
        self,
        model: nn.Module,
        inputs: Mapping[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """Return the loss `()` of one micro-batch; with `return_outputs`, also the outputs on the forget batch."""
        forget: Batch = inputs["forget"]
        samples: Samples = forget[SAMPLES]
        outputs = None

        def answers_of(rows: Tensor) -> Answers:
            nonlocal outputs
            answers, outputs = self._read(model, forget, self.settings.needs, rows)
            return answers

        term = self._robust_loss(
            answers_of,
            samples.index,
            samples.labeled,
            self._reference(forget, samples),
            may_skip=self.accelerator.num_processes == 1 and self.settings.alpha > 0,
        )
        retain_loss = self._retain_loss(model, inputs, term)
        alpha = self.budget.alpha if self.budget else self.settings.alpha
        loss = self.settings.gamma * term.value + alpha * retain_loss
        if model.training:
            loss = loss * self._progress.correction()
            self._note(term, retain_loss)
        return (loss, outputs) if return_outputs else loss

    def step_ends(self) -> None:
        """Adapt alpha to the retain loss of an optimizer step, if there is a budget."""
        if self.budget and self.budget.losses:
            assert self.adversary is not None
            mean = self.adversary.mean_of_ranks(torch.stack(self.budget.losses))
            self.budget.update(mean, self.state.global_step / self.state.max_steps)

    def retain_loss_before(self, model: nn.Module) -> float:
        """Return the mean retain loss of samples that the first epoch or epochs draw, equal on every rank."""
        assert self.adversary is not None
        data = self.train_dataset
        with drawing(data.seed) as generator:
            order = torch.randperm(len(data), generator=generator).tolist()
        if "retain" not in data[0]:
            raise ValueError(
                f"retain_budget={self.settings.retain_budget} limits the retain loss, but there is no retain data: set "
                "retain_budget=null and alpha=0"
            )

        def item(number: int) -> Any:
            data.epoch, place = divmod(number, len(data))
            return data[order[place]]

        def loss_of(numbers: range) -> Tensor:
            batch: Any = self._prepare_inputs(self.data_collator([item(number) for number in numbers]))
            with self.compute_loss_context_manager():
                return self._loss_of_rows(model, batch, torch.arange(len(numbers)))

        losses = retain_loss_before(
            model,
            loss_of,
            self._micro_batch_size,
            rank=self.adversary.rank,
            ranks=self.adversary.ranks,
            silent=self.args.disable_tqdm or not self.is_world_process_zero(),
        )
        return self.adversary.mean_of_ranks(losses)

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """Log as the host does; with the training loss, also log the statistics since the last logging step."""
        if "loss" in logs:
            logs.update(self._journal.read())
        super().log(logs, *args, **kwargs)

    def floating_point_ops(self, inputs: Mapping[str, Any]) -> int:
        """Return the operations of both batches, for `total_flos`; the host finds no tokens in a pair of batches."""
        of_batch = super().floating_point_ops
        return sum(of_batch(dict(answered(batch))) for batch in inputs.values())

    def forget_answers(self, model: nn.Module, samples: Sequence[Any]) -> Answers:
        """Return what the forget loss reads of samples, in the precision of training.

        Args:
            model: The trainer's model, wrapped or not.
            samples: Samples in the form of the forget set's.
        """
        return self.answers_of(model, samples)[0]

    def answers_of(self, model: nn.Module, samples: Sequence[Any]) -> tuple[Answers, Tensor]:
        """Return what the forget loss reads of B samples, and `(B,)` bool on the CPU, whether they have an answer."""
        # A collator may require a retain side, which is not used here.
        collated = self.data_collator([{"forget": sample, "retain": sample} for sample in samples])
        batch = self._prepare_inputs(collated["forget"])
        with self.compute_loss_context_manager():
            return self._read(model, batch, self.settings.needs)[0], batch[SAMPLES].labeled

    def with_balance(self, retain_loss: Tensor, outputs: Any) -> Tensor:
        """Add the load-balancing loss of a mixture of experts, if the model's configuration asks for one."""
        balance: Tensor | None = getattr(outputs, "aux_loss", None)
        if balance is None:
            return retain_loss
        config: Any = self.model.config
        coefficient = getattr(config.get_text_config(), "router_aux_loss_coef", getattr(config, "aux_loss_coef", None))
        if coefficient is None:
            raise ValueError(
                f"output_router_logits=true asks for a load-balancing loss, but the configuration of this "
                f"{config.model_type} model has no router_aux_loss_coef: set output_router_logits=false"
            )
        return retain_loss + float(coefficient) * balance.mean()  # nn.DataParallel returns one per replica

    def _read(self, model: nn.Module, batch: Batch, needs: Needs, rows: Tensor | None = None) -> tuple[Answers, Any]:
        """Return what a loss needs of the given rows of a batch, all by default, and the outputs on its answers."""
        samples: Samples = batch[SAMPLES]
        rows = torch.arange(len(samples.answers)) if rows is None else rows
        answers, outputs = self._forward(model, rows_of(answered(batch), rows), samples.answers[rows], needs)
        if needs.alternate:
            if samples.alternate is None:
                raise ValueError(
                    f"base={self.settings.base} needs a second answer to each question, but the forget set has none: "
                    "use experiment=unlearn/tofu_idk, or a dataset of {'original': sample, 'alternate': sample}"
                )
            other = rows_of(batch["alternate"], rows)
            answers = replace(answers, alternate=self._forward(model, other, samples.alternate[rows])[0])
        if needs.before:
            with torch.no_grad():
                before, _ = self._read(self.ref_model, batch, replace(needs, before=False), rows)
            answers = replace(answers, before=before)
        return answers, outputs

    def _reference(self, forget: Batch, samples: Samples) -> Tensor | None:
        if not self.settings.loss.needs_reference:
            return None
        if self.settings.reference == "live":
            with torch.no_grad():
                answers, _ = self._read(self.ref_model, forget, replace(self.settings.loss.needs, before=False))
            return self.settings.loss.log_ratios(answers)
        assert self.adversary is not None
        if self.adversary.state.reference is None:
            raise RuntimeError("the forget set has not been scored: call score_forget_set(model), as train() does")
        return self.adversary.state.reference[samples.index]

    def _retain_loss(self, model: nn.Module, inputs: Mapping[str, Any], term: ForgetTerm) -> Tensor | float:
        if self.settings.alpha == 0:
            return 0.0
        if "retain" not in inputs:
            raise ValueError(
                f"alpha={self.settings.alpha} asks for a retain loss, but there is no retain data: set alpha=0"
            )
        return self._loss_of_rows(model, inputs, self._retain_rows(inputs, term))

    def _loss_of_rows(self, model: nn.Module, inputs: Mapping[str, Any], rows: Tensor) -> Tensor:
        if self.settings.retain_loss_type == "KL":
            retain = rows_of(inputs["retain"], rows)
            del retain[SAMPLES]
            return self.compute_retain_loss(model=model, retain_inputs=retain)
        if not inputs["retain"][SAMPLES].labeled[rows].any() and not self._warned_unretained:
            self._warned_unretained = True
            logger.warning(
                "A retain batch has no answer token, so it retains nothing: labels are the tokens to keep, and %d "
                "elsewhere.",
                IGNORE_INDEX,
            )
        answers, outputs = self._read(model, inputs["retain"], self.settings.retain_needs, rows)
        if self.settings.retain_loss_type == "EMBED_DIFF":
            return self.with_balance(activation_distances(answers).mean(), outputs)
        if self.settings.retain_reduction == "sequence_sum":
            loss = -answers.sums.mean()
        else:
            loss = -answers.sums.sum() / answers.lengths.sum().clamp(min=1)
        return self.with_balance(loss, outputs)

    def _retain_rows(self, inputs: Mapping[str, Any], term: ForgetTerm) -> Tensor:
        """Return the rows of the retain batch to train on: all, or as many random ones as the forget group has."""
        size, index = len(inputs["retain"]["labels"]), inputs["forget"][SAMPLES].index
        if self.settings.retain_batch == "full":
            return torch.arange(size)
        # Without anything to forget there is no group to match, so all count.
        kept = len(term.weights.rows) or size
        with drawing(self.train_dataset.seed, self.train_dataset.epoch, int(index[0]), size) as generator:
            return torch.randperm(size, generator=generator)[:kept]

    def _note(self, term: ForgetTerm, retain_loss: Tensor | float) -> None:
        self._journal.note(term, retain_loss, self.budget)
        if self.budget and isinstance(retain_loss, Tensor):
            self.budget.losses.append(retain_loss.detach())
        if term.unlabeled and not self._warned_unlabeled:
            self._warned_unlabeled = True
            logger.warning(
                "%d of the %d forget samples in this batch have no answer token and get weight 0 (the prompt fills "
                "max_length, or a chunk of text is empty). The log counts them as unlabeled_samples.",
                term.unlabeled,
                len(term.weights.gradient),
            )
