"""The Trainer hooks of the method: a mixin for any Hugging Face Trainer that trains on forget and retain batches.

It knows no host. A host class puts it in front of its own trainer, names its `variant`, and provides
`compute_retain_loss` and `reference_log_likelihoods`.
"""

from __future__ import annotations

import inspect
import logging
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn
from transformers import Trainer
from transformers.trainer_utils import get_last_checkpoint

from baldro_ext.bookkeeping import Bookkeeper, EpochReport
from baldro_ext.forward import AnswerForward
from baldro_ext.group_pass import forget_term
from baldro_ext.likelihood import IGNORE_INDEX, AnswerLogProbs
from baldro_ext.robust_loss import ForgetTerm
from baldro_ext.samples import INDEX, DrawHistory, IndexedCollator, Pairs, without_index
from baldro_ext.scope import Scope
from baldro_ext.settings import Settings
from baldro_ext.weighting import diagnostics

logger = logging.getLogger(__name__)

Batch = Mapping[str, Tensor]
_MODEL_INPUTS = ("input_ids", "attention_mask", "labels")

if TYPE_CHECKING:

    class _Host(Trainer):
        """What a host provides besides being a Trainer."""

        def compute_retain_loss(self, model: nn.Module, retain_inputs: Batch) -> Tensor:
            """Return the retain loss `()` where `retain_loss_type` is KL."""

        def reference_log_likelihoods(self, forget_inputs: Batch) -> Tensor:
            """Return `(B,)` log-likelihoods of the answers before unlearning, in nats."""

else:
    _Host = object


class BalDROMixin(_Host):
    """Trains on `gamma * worst case of the forget losses + alpha * retain loss`.

    A training batch is `{"forget": batch, "retain": batch}`, each with `input_ids`, `attention_mask` and
    `labels` of shape `(B, T)`. Keyword arguments that the host's trainer does not know are settings
    (`baldro_ext.settings.Settings`); an unknown one is an error that names the closest.
    """

    variant: str
    """A key of `baldro_ext.settings.VARIANTS`."""
    host_arguments: ClassVar[frozenset[str]] = frozenset()
    """Keyword arguments of the host's trainer beyond those of `transformers.Trainer`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        for_host = {*inspect.signature(Trainer.__init__).parameters, *self.host_arguments}
        self.settings = Settings.parse(self.variant, {k: v for k, v in kwargs.items() if k not in for_host})
        host = {k: v for k, v in kwargs.items() if k in for_host}
        self._draws = DrawHistory()
        if host.get("train_dataset") is not None:
            host["train_dataset"] = Pairs(host["train_dataset"], self._draws)
            host["data_collator"] = IndexedCollator(host["data_collator"], self._draws)
        super().__init__(*args, **host)
        # transformers 4.46 to 4.51 divide the loss by the accumulation steps only where this is false.
        # Ours is a mean per micro-batch, so without it gradients grow with the number of steps.
        self.model_accepts_loss_kwargs = False
        self._robust_loss = self.settings.robust_loss
        self._forward = AnswerForward.of(self.model)
        self._journal: dict[str, list[Tensor | float]] = defaultdict(list)
        self._warned_answerless = False
        self._window = 0
        self._refuse_one_sample_in_scope()
        if self.train_dataset is not None:
            self.books = Bookkeeper(self)
            self.add_callback(EpochReport(self))

    def train(self, resume_from_checkpoint: str | bool | None = None, *args: Any, **kwargs: Any) -> Any:
        """Train as the host does; from a checkpoint, also `args.resume_from_checkpoint`, with its ledger.

        Raises:
            LedgerError: The checkpoint's ledger is missing, damaged or of another run.
        """
        resume: Any = self.args.resume_from_checkpoint if resume_from_checkpoint is None else resume_from_checkpoint
        if resume is True or resume == "True":
            resume = get_last_checkpoint(self.args.output_dir)
            if resume is None:
                raise ValueError(f"resume_from_checkpoint=true, but there is no checkpoint in {self.args.output_dir}")
        if resume:
            state = self.books.resume(Path(resume))
            if state is not None:
                self._draws.resume_from(state)
        return super().train(resume or None, *args, **kwargs)

    def training_step(self, model: nn.Module, *args: Any, **kwargs: Any) -> Tensor:
        """Train on a micro-batch as the host does."""
        loss: Tensor = super().training_step(model, *args, **kwargs)
        self._draws.trained()
        return loss

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save as the host does, with the ledger beside the model."""
        super().save_model(output_dir, _internal_call)
        if self.args.should_save:
            self.books.save(Path(output_dir or self.args.output_dir), self._draws.next_state)

    def _load_rng_state(self, checkpoint: str | None) -> None:
        # The Trainer restores random states after the first batches were fetched. Where those were drawn from
        # a state of the ledger, the CPU's must go on from there.
        kept = torch.get_rng_state() if self._draws.resumed else None
        super()._load_rng_state(checkpoint)
        if kept is not None:
            torch.set_rng_state(kept)

    def compute_loss(
        self,
        model: nn.Module,
        inputs: Mapping[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """Return the loss of one micro-batch, and with `return_outputs` the model's forget outputs.

        The first call scores the forget set, where the settings need it: the model is the reference still.
        """
        self.books.start(model)
        forget = inputs["forget"]
        outputs = None

        def answers_of(rows: Tensor | None) -> AnswerLogProbs:
            nonlocal outputs
            chosen = {name: forget[name] if rows is None else forget[name][rows] for name in _MODEL_INPUTS}
            answers, outputs = self._forward(model, chosen)
            return answers

        term = forget_term(
            self._robust_loss,
            answers_of,
            self._reference(forget) if self.settings.objective.needs_reference else None,
            self._scope,
            forget[INDEX],
            (forget["labels"][:, 1:] != IGNORE_INDEX).any(-1),
            may_skip=self.accelerator.num_processes == 1 and self.settings.alpha > 0,
        )
        retain_loss = self._retain_loss(model, inputs, term)

        loss = self.settings.gamma * term.value + self.settings.alpha * retain_loss
        loss = loss * self._window_correction
        self._take_notes(term, retain_loss)
        return (loss, outputs) if return_outputs else loss

    def get_batch_samples(self, *args: Any, **kwargs: Any) -> Any:
        """Fetch the micro-batches of one optimizer step as the host does, and note how many they are."""
        fetched = super().get_batch_samples(*args, **kwargs)
        self._window = len(fetched[0])
        return fetched

    @property
    def _window_correction(self) -> float:
        """What makes an optimizer step the mean over its micro-batches even where an epoch ends before it is full.

        Later releases of transformers divide by the number of micro-batches that there are; up to 4.51 they
        divide by `gradient_accumulation_steps` always. 4.45 has a short step only in an epoch shorter than one.
        """
        steps = self.args.gradient_accumulation_steps
        if not self.model.training or hasattr(self, "current_gradient_accumulation_steps"):
            return 1.0
        window = self._window or min(steps, len(self.callback_handler.train_dataloader))
        return float(steps / window)

    def floating_point_ops(self, inputs: Mapping[str, Any]) -> int:
        """Count those of training once on each batch, for `total_flos`; the host finds no tokens in a pair of them."""
        of_batch = super().floating_point_ops
        return sum(of_batch(dict(batch)) for batch in inputs.values())

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """Add means over the micro-batches since the last logging step, and the number of answerless samples."""
        if "loss" in logs and self._journal:
            for name, values in self._journal.items():
                total = float(torch.as_tensor(values).double().sum())
                logs[name] = total if name == "answerless_samples" else total / len(values)
            self._journal.clear()
        super().log(logs, *args, **kwargs)

    def forget_answers(self, model: nn.Module, samples: list[Any]) -> AnswerLogProbs:
        """Return the answers' log-probabilities of some samples, in the precision of training."""
        # A collator may insist on something to retain, which is not used here.
        items = [{"forget": {INDEX: 0, **sample}, "retain": without_index(sample)} for sample in samples]
        batch = self._prepare_inputs(self.data_collator(items)["forget"])
        with self.compute_loss_context_manager():
            return self._forward(model, batch)[0]

    def gather_rows(self, rows: Tensor) -> tuple[Tensor, slice]:
        """Bring the rows `(m, k)` float64 of all ranks together; `baldro_ext.scope.Gather`.

        Ranks may bring different numbers, up to `per_device` batch sizes.
        """
        ranks = self.accelerator.num_processes
        if ranks == 1:
            return rows.cpu(), slice(0, len(rows))
        counts = self.accelerator.gather(torch.tensor([len(rows)], device=self.accelerator.device)).tolist()
        padded = rows.new_zeros(max(counts), rows.shape[1])
        padded[: len(rows)] = rows
        everything = self.accelerator.gather(padded.to(self.accelerator.device)).cpu().view(ranks, max(counts), -1)
        start = sum(counts[: self.accelerator.process_index])
        table = torch.cat([block[:count] for block, count in zip(everything, counts, strict=True)])
        return table, slice(start, start + len(rows))

    @property
    def _scope(self) -> Scope:
        ranks = self.accelerator.num_processes
        # Only loaders of several ranks fill up batches.
        padded = ranks > 1 and self.train_dataset.drawn_once
        return Scope(self.settings.scope, self.books.ledger, ranks, self.gather_rows, drawn_once=padded)

    def _reference(self, forget: Batch) -> Tensor:
        if self.settings.reference == "live":
            return self.reference_log_likelihoods(forget)
        assert self.books.ledger.reference is not None
        return self.books.ledger.reference[forget[INDEX].cpu()]

    def log_likelihoods(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return `(B,)` log-likelihoods of the answers in a batch, in nats."""
        return self._forward(model, batch)[0].sums

    def _retain_loss(self, model: nn.Module, inputs: Mapping[str, Any], term: ForgetTerm) -> Tensor:
        if self.settings.alpha == 0:
            return torch.zeros_like(term.value)
        if "retain" not in inputs:
            raise ValueError(
                f"alpha={self.settings.alpha} weighs a retain loss, but there is no retain data: set alpha=0"
            )
        retain = {name: inputs["retain"][name] for name in _MODEL_INPUTS}
        if self.settings.retain_batch == "matched":
            # A batch with nothing to forget has no group to match, and trains on all it has to retain.
            kept = int((term.sample_weights > 0).sum()) or len(retain["input_ids"])
            chosen = torch.randperm(len(retain["input_ids"]), device=retain["input_ids"].device)[:kept]
            retain = {name: values[chosen] for name, values in retain.items()}
        if self.settings.retain_loss_type == "KL":
            return self.compute_retain_loss(model=model, retain_inputs=retain)
        answers, _ = self._forward(model, retain)
        if self.settings.retain_reduction == "sequence_sum":
            return -answers.sums.mean()
        return -answers.sums.sum() / answers.lengths.sum().clamp(min=1)

    def _take_notes(self, term: ForgetTerm, retain_loss: Tensor) -> None:
        if term.answerless:
            self._journal["answerless_samples"].append(term.answerless)
            if not self._warned_answerless:
                self._warned_answerless = True
                logger.warning(
                    "%d of the %d forget samples in this batch have no answer token and get weight zero (the prompt "
                    "fills max_length, or a chunk of text is empty). The log counts them as answerless_samples.",
                    term.answerless,
                    len(term.sample_weights),
                )
        self._journal["retain_loss"].append(retain_loss.detach().cpu())
        if len(term.losses):
            self._journal["forget_loss_mean"].append(term.losses.mean().cpu())
            self._journal["forget_loss_robust"].append(term.value.detach().cpu())
            for name, value in diagnostics(term.weights).items():
                self._journal[name].append(value)

    def _refuse_one_sample_in_scope(self) -> None:
        choosing = self.settings.scope == "batch" and not self.settings.weighting.is_mean
        among_samples = self.settings.unit == "sample" or self.settings.hardness == "nll"
        if self.args.train_batch_size * self.accelerator.num_processes == 1 and choosing and among_samples:
            raise ValueError(
                f"per_device_train_batch_size=1 with scope=batch leaves {self.variant} one sample to choose the worst "
                "from, so it would silently be plain averaging: set scope=dataset to choose from the whole forget set, "
                "or per_device_train_batch_size=2 or more"
            )
