"""Passes over samples: the loss of a micro-batch, and what is measured before the first step."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm
from transformers import Trainer

from baldro_ext.adversary import Adversary, Weights
from baldro_ext.answers import IGNORE_INDEX, Answers, Needs
from baldro_ext.before import measuring
from baldro_ext.budget import MEASURED, RetainBudget
from baldro_ext.config import Settings
from baldro_ext.data import SAMPLES, IndexedPairs, Samples, drawing, original_of
from baldro_ext.forward import AnswerForward, rows_of
from baldro_ext.losses import activation_distances
from baldro_ext.report import Journal
from baldro_ext.robust_loss import RobustLoss
from baldro_ext.state import SampleState
from baldro_ext.step_mean import StepMean

logger = logging.getLogger(__name__)

Batch = Mapping[str, Any]


class Passes(Trainer):
    """A base class of `BalDROMixin`, which sets its attributes and decides what happens when.

    Attributes:
        settings: The settings of the method.
        adversary: Weights the forget samples; missing without training data.
        budget: Adapts the weight of the retain loss; `None` without `retain_budget`.
    """

    settings: Settings
    adversary: Adversary
    budget: RetainBudget | None
    train_dataset: IndexedPairs
    _forward: AnswerForward
    _robust_loss: RobustLoss
    _step_mean: StepMean
    _journal: Journal
    _scored: bool
    _warned_unlabeled = _warned_unretained = False

    def compute_loss(
        self,
        model: nn.Module,
        inputs: Mapping[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """Return the loss of a micro-batch.

        Args:
            model: As the Trainer wrapped it.
            inputs: A batch to forget and one to retain.
            return_outputs: Whether to return also the outputs on the forget batch.
            num_items_in_batch: Ignored, since the loss is a mean over samples.

        Returns:
            `()`, `gamma * worst case of the forget losses + alpha * retain loss`.
        """
        forget: Batch = inputs["forget"]
        samples: Samples = forget[SAMPLES]
        outputs = None

        def answers_of(rows: Tensor) -> Answers:
            nonlocal outputs
            answers, outputs = self._read(model, forget, self.settings.needs, rows)
            return answers

        forget_loss, weights = self._robust_loss(
            answers_of,
            samples.index,
            samples.labeled,
            self._reference(forget),
            may_skip=self.accelerator.num_processes == 1 and self.settings.alpha > 0,
        )
        retain_loss: Tensor | float = 0.0
        if self.settings.alpha:
            retain_loss = self._retain_loss(model, inputs, self._retain_rows(samples.index, weights))
        alpha = self.budget.alpha if self.budget else self.settings.alpha
        loss = self.settings.gamma * forget_loss + alpha * retain_loss
        if model.training:
            loss = loss * self._step_mean.factor()
            self._note(samples, weights, retain_loss)
        return (loss, outputs) if return_outputs else loss

    def score_forget_set(self, model: nn.Module) -> None:
        """Score the forget set with the model before unlearning, if the settings need it.

        If it fails, the state of the samples stays unchanged.

        Raises:
            ValueError: A loss is not finite; the message names the samples.
        """
        adversary, forget, loss = self.adversary, self.train_dataset.forget, self.settings.loss
        if self.settings.needs_scores:
            state = SampleState.blank(len(forget), reference=self.settings.needs_precomputed_reference)
            with measuring(model, training=False):
                for places in self._batches_of_rank(len(forget), "Scoring the forget set"):
                    # Past the end, repeat the last sample: sharded models need every rank in every forward pass.
                    index = places.clamp(max=len(forget) - 1)
                    answers, labeled = self.answers_of(model, [forget[place] for place in index.tolist()])
                    reference = loss.log_ratios(answers) if loss.needs_reference else None
                    losses, hardness = self._robust_loss.scores(answers, reference)
                    kept = losses if reference is None else reference
                    adversary.score(state, index, labeled, torch.stack([losses, hardness, kept], 1))
            adversary.state = state
            self._warn_of_unlabeled(int((~state.has_loss).sum()), len(forget))
        self._scored = True

    def retain_loss_before(self, model: nn.Module) -> float:
        """Return the mean retain loss of samples that the first epoch or epochs draw, equal on every rank.

        The model has dropout, as in the steps that its loss is compared with.
        """
        data, losses = self.train_dataset, []
        with drawing(data.seed) as generator:
            order = torch.randperm(len(data), generator=generator).tolist()

        def item(number: int) -> Any:
            data.epoch, place = divmod(number, len(data))
            return data[order[place]]

        with measuring(model, training=True):
            for numbers in self._batches_of_rank(MEASURED, "Measuring the retain loss"):
                batch: Any = self._prepare_inputs(self.data_collator([item(number) for number in numbers.tolist()]))
                with self.compute_loss_context_manager():
                    losses.append(self._retain_loss(model, batch, torch.arange(len(numbers))))
        return self.adversary.mean_of_ranks(torch.stack(losses))

    def answers_of(self, model: nn.Module, samples: Sequence[Any]) -> tuple[Answers, Tensor]:
        """Return what the forget loss reads of B samples in the form of the forget set's, in the precision of training.

        Returns:
            The answers, and `(B,)` bool on the CPU, whether a sample has one.
        """
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

    def _batches_of_rank(self, size: int, title: str) -> Iterator[Tensor]:
        """Yield this rank's places among `size` samples for each forward pass, `(batch,)` int64; some may lie beyond.

        With the batch size of training, a pass needs no more memory than training.
        """
        batch, rank, ranks = self._micro_batch_size, self.adversary.rank, self.adversary.ranks
        silent = self.args.disable_tqdm or not self.is_world_process_zero()
        for start in tqdm(range(0, size, batch * ranks), desc=title, disable=silent):
            yield torch.arange(batch) + start + rank * batch

    def _read(self, model: nn.Module, batch: Batch, needs: Needs, rows: Tensor | None = None) -> tuple[Answers, Any]:
        """Return what a loss needs of the given rows of a batch, all by default, and the outputs on its answers."""
        samples: Samples = batch[SAMPLES]
        rows = torch.arange(len(samples.answers)) if rows is None else rows
        answers, outputs = self._forward(model, rows_of(original_of(batch), rows), samples.answers[rows], needs)
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

    def _reference(self, forget: Batch) -> Tensor | None:
        """Return `(B,)` `log_ratios` before unlearning, if the loss needs them."""
        loss = self.settings.loss
        if not loss.needs_reference:
            return None
        if self.settings.reference == "live":
            with torch.no_grad():
                return loss.log_ratios(self._read(self.ref_model, forget, replace(loss.needs, before=False))[0])
        if self.adversary.state.reference is None:
            raise RuntimeError("the forget set has not been scored: call score_forget_set(model), as train() does")
        return self.adversary.state.reference[forget[SAMPLES].index]

    def _retain_loss(self, model: nn.Module, inputs: Mapping[str, Any], rows: Tensor) -> Tensor:
        """Return the retain loss `()` of the given rows of the retain batch."""
        if "retain" not in inputs:
            raise ValueError(
                f"alpha={self.settings.alpha} asks for a retain loss, but there is no retain data: set alpha=0 and "
                "retain_budget=null"
            )
        retain: Batch = inputs["retain"]
        if self.settings.retain_loss_type == "KL":
            plain = {name: value for name, value in rows_of(retain, rows).items() if name != SAMPLES}
            divergence: Tensor = self.compute_retain_loss(model=model, retain_inputs=plain)
            return divergence
        if not retain[SAMPLES].labeled[rows].any() and not self._warned_unretained:
            self._warned_unretained = True
            logger.warning(
                "A retain batch has no answer token, so it retains nothing: labels are the tokens to keep, and %d "
                "elsewhere.",
                IGNORE_INDEX,
            )
        answers, outputs = self._read(model, retain, self.settings.retain_needs, rows)
        if self.settings.retain_loss_type == "EMBED_DIFF":
            loss = activation_distances(answers).mean()
        elif self.settings.retain_reduction == "sequence_sum":
            loss = -answers.sums.mean()
        else:
            loss = -answers.sums.sum() / answers.lengths.sum().clamp(min=1)
        return self.with_balance(loss, outputs)

    def _retain_rows(self, index: Tensor, weights: Weights) -> Tensor:
        """Return the rows of the retain batch to train on: all, or as many random ones as the forget group has."""
        size = len(index)
        if self.settings.retain_batch == "full":
            return torch.arange(size)
        # Without anything to forget there is no group to match, so all count.
        kept = len(weights.rows) or size
        with drawing(self.train_dataset.seed, self.train_dataset.epoch, int(index[0]), size) as generator:
            return torch.randperm(size, generator=generator)[:kept]

    def _note(self, samples: Samples, weights: Weights, retain_loss: Tensor | float) -> None:
        unlabeled = int((~samples.labeled).sum())
        self._journal.note(weights, unlabeled, retain_loss, self.budget)
        if self.budget and isinstance(retain_loss, Tensor):
            self.budget.losses.append(retain_loss.detach())
        self._warn_of_unlabeled(unlabeled, len(samples.index))

    def _warn_of_unlabeled(self, unlabeled: int, size: int) -> None:
        if unlabeled and not self._warned_unlabeled:
            self._warned_unlabeled = True
            logger.warning(
                "%d of the %d forget samples have no answer token and get weight 0 (the prompt fills max_length, or a "
                "chunk of text is empty). The log counts them as unlabeled_samples.",
                unlabeled,
                size,
            )

    @property
    def _micro_batch_size(self) -> int:
        """The number of samples in a forward pass of this process."""
        split = self.args.accelerator_config.split_batches
        size: int = self._train_batch_size
        return size // self.accelerator.num_processes if split else size
