"""The method's hooks for any Hugging Face Trainer, as a mixin that knows no framework.

A class puts it in front of its own trainer, names its `variant`, and provides `compute_retain_loss`,
`prepare_model_before` and `reference_log_likelihoods`.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn
from transformers import Trainer, TrainerCallback

from baldro_ext import arguments, checkpoint, compat
from baldro_ext.adversary import Adversary
from baldro_ext.config import Settings
from baldro_ext.data import SAMPLES, IndexedCollator, IndexedPairs, Samples, drawing
from baldro_ext.logprobs import AnswerForward, AnswerLogProbs, rows_of
from baldro_ext.progress import Progress
from baldro_ext.report import Journal, draw_histogram
from baldro_ext.robust_loss import ForgetTerm, RobustLoss
from baldro_ext.scoring import score_forget_set

logger = logging.getLogger(__name__)

Batch = Mapping[str, Any]

if TYPE_CHECKING:

    class _Host(Trainer):
        """What a host provides besides being a Trainer."""

        def compute_retain_loss(self, model: nn.Module, retain_inputs: Batch) -> Tensor:
            """Return the retain loss `()` where `retain_loss_type` is KL."""

        def prepare_model_before(self, model: nn.Module) -> None:
            """Keep what compares with the model before unlearning, where the settings need that in each step."""

        def reference_log_likelihoods(self, forget_inputs: Batch) -> Tensor:
            """Return `(B,)` log-likelihoods of the answers before unlearning, in nats."""

else:
    _Host = object


class BalDROMixin(_Host):
    """Trains on `gamma * worst case of the forget losses + alpha * retain loss`.

    A training batch is `{"forget": batch, "retain": batch}`, each with `input_ids` and `labels` of shape `(B, T)`, and
    what else the model's forward takes. Keyword arguments that the host's trainer does not know are settings
    (`baldro_ext.config.Settings`); an unknown one is an error that names the closest.

    Attributes:
        settings: Of the method.
        adversary: Which forget samples count how much; `None` where there is nothing to train on.
    """

    variant: str
    """A key of `baldro_ext.config.VARIANTS`."""
    host_arguments: ClassVar[frozenset[str]] = frozenset()
    """Keyword arguments of the host's trainer beyond those of `transformers.Trainer`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        for_host = {*inspect.signature(Trainer.__init__).parameters, *self.host_arguments}
        self.settings = Settings.parse(self.variant, {k: v for k, v in kwargs.items() if k not in for_host})
        host = {k: v for k, v in kwargs.items() if k in for_host}
        if host.get("compute_loss_func") is not None:
            raise ValueError("compute_loss_func replaces the loss, which is what these trainers are for: leave it out")
        self.adversary: Adversary | None = None
        self._resumed: Path | None = None
        if host.get("train_dataset") is not None:
            host["train_dataset"] = IndexedPairs(host["train_dataset"])
            if host.get("data_collator") is None:
                raise ValueError("data_collator is missing: pass one that makes {'forget': batch, 'retain': batch}")
            host["data_collator"] = IndexedCollator(host["data_collator"])
        super().__init__(*args, **host)
        # Ours is a mean per micro-batch. Where this is true, transformers 4.46 and later do not divide it by the number
        # of accumulation steps, and gradients grow with that number.
        self.model_accepts_loss_kwargs = False
        self.args.remove_unused_columns = False  # items are {forget, retain}, which are no columns of the model
        arguments.refuse_what_cannot_work(self.args, distributed=self.accelerator.num_processes > 1)
        self._journal = Journal()
        self._warned_unlabeled = False
        self._forward = AnswerForward.of(self.model)
        if self.train_dataset is not None:
            self._refuse_one_sample(self.args.train_batch_size)
            seed = self.args.seed if self.args.data_seed is None else self.args.data_seed
            self.train_dataset.seed = seed
            self.add_callback(_Hooks(self))
            self._start_anew()

    def train(self, resume_from_checkpoint: str | bool | None = None, *args: Any, **kwargs: Any) -> Any:
        """Train as the host does; from a checkpoint, also `args.resume_from_checkpoint`, with its state of the samples.

        `True` takes the newest checkpoint that was written to its end. Each call starts anew from the model as it is.

        Raises:
            StateError: The checkpoint's state is missing, damaged or of another run.
            ValueError: There is no training data, or a resumed run would go on at another sample.
        """
        if self.adversary is None:
            raise ValueError("train_dataset is missing, so there is nothing to unlearn: pass one to the trainer")
        resume: Any = self.args.resume_from_checkpoint if resume_from_checkpoint is None else resume_from_checkpoint
        if resume is True or resume == "True":
            resume = checkpoint.newest_complete(Path(self.args.output_dir))
        self._start_anew()
        self._resumed = Path(resume) if resume else None
        if self._resumed:  # and once more when training begins; here, so that a mistake shows at once
            self._load_state(self._resumed)
        if self.model_init is None:
            self._prepare_model(self.model)
        return super().train(str(resume) if resume else None, *args, **kwargs)

    def call_model_init(self, *args: Any, **kwargs: Any) -> Any:
        """Make a model as the host does, from which this training starts."""
        model = super().call_model_init(*args, **kwargs)
        if self.adversary is not None:  # past the constructor
            self._prepare_model(model)
        return model

    def compute_loss(
        self,
        model: nn.Module,
        inputs: Mapping[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """Return the loss of one micro-batch, and with `return_outputs` the model's forget outputs."""
        forget: Batch = inputs["forget"]
        samples: Samples = forget[SAMPLES]
        outputs = None

        def answers_of(rows: Tensor) -> AnswerLogProbs:
            nonlocal outputs
            answers, outputs = self._forward(model, rows_of(forget, rows), samples.answers[rows])
            return answers

        term = self._robust_loss(
            answers_of,
            samples.index,
            samples.answers.labeled,
            self._reference(forget, samples),
            may_skip=self.accelerator.num_processes == 1 and self.settings.alpha > 0,
        )
        retain_loss = self._retain_loss(model, inputs, term)
        loss = self.settings.gamma * term.value + self.settings.alpha * retain_loss
        if model.training:
            loss = loss * self._progress.correction()
            self._note(term, retain_loss)
        return (loss, outputs) if return_outputs else loss

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, *args: Any, **kwargs: Any) -> Any:
        """Fetch the micro-batches of one optimizer step as the host does, and note how many they are."""
        if not compat.FETCHES_WHOLE_STEPS:
            num_batches = self.args.gradient_accumulation_steps  # or what is left of the epoch
        fetched = super().get_batch_samples(epoch_iterator, num_batches, *args, **kwargs)
        self._progress.fetched(len(fetched[0]))
        return fetched

    def floating_point_ops(self, inputs: Mapping[str, Any]) -> int:
        """Count those of training once on each batch, for `total_flos`; the host finds no tokens in a pair of them."""
        of_batch = super().floating_point_ops
        return sum(of_batch(dict(batch)) for batch in inputs.values())

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """Add means over the micro-batches since the last logging step, and the number of unlabeled samples."""
        if "loss" in logs:
            logs.update(self._journal.read())
        super().log(logs, *args, **kwargs)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save as the host does; in a checkpoint to resume from, with the state of the samples beside the model."""
        super().save_model(output_dir, _internal_call)
        if _internal_call and output_dir is not None and self.adversary is not None and self.args.should_save:
            checkpoint.save(self.adversary.state, Path(output_dir), self._about(self.state.global_step))

    def score_forget_set(self, model: nn.Module) -> None:
        """Score the forget set, where the settings need it, with the model before its first step: it is the reference.

        Nothing is kept of a pass that fails.

        Raises:
            ValueError: A loss is not finite; names the samples.
        """
        assert self.adversary is not None
        forget = self.train_dataset.forget
        if self.settings.needs_scores:
            was_training = model.training
            model.eval()
            try:
                with compat.random_state_kept(self.args.device):
                    self.adversary.state = score_forget_set(
                        lambda index: self._answers_of(model, [forget[place] for place in index.tolist()]),
                        self.adversary,
                        self.settings.loss,
                        self.settings.hardness,
                        self._micro_batch_size,
                        rank=self.accelerator.process_index,
                        ranks=self.accelerator.num_processes,
                        silent=self.args.disable_tqdm or not self.is_world_process_zero(),
                    )
            finally:
                model.train(was_training)
            unlabeled = int((~self.adversary.state.known).sum())
            if unlabeled:
                self._warned_unlabeled, total = True, len(forget)
                logger.warning("%d of the %d forget samples have no answer token and get weight 0.", unlabeled, total)
        self._scored = True

    def forget_answers(self, model: nn.Module, samples: Sequence[Any]) -> AnswerLogProbs:
        """Return the answers' log-probabilities of some samples, in the precision of training.

        Args:
            model: The trainer's, as it is or wrapped.
            samples: As those of the forget set.
        """
        return self._answers_of(model, samples)[0]

    def _answers_of(self, model: nn.Module, samples: Sequence[Any]) -> tuple[AnswerLogProbs, Tensor]:
        """Return the answers' log-probabilities of B samples, and whether they have any, `(B,)` bool on the CPU."""
        # A collator may insist on something to retain, which is not used here.
        collated = self.data_collator([{"forget": sample, "retain": sample} for sample in samples])
        batch = self._prepare_inputs(collated["forget"])
        with self.compute_loss_context_manager():
            return self._forward(model, batch, batch[SAMPLES].answers)[0], batch[SAMPLES].answers.labeled

    def log_likelihoods(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return `(B,)` log-likelihoods of the answers in a batch, in nats."""
        return self._forward(model, batch, batch[SAMPLES].answers)[0].sums

    def with_balance(self, retain_loss: Tensor, outputs: Any) -> Tensor:
        """Add the load-balancing loss of a mixture of experts, where its configuration asks for one."""
        balance: Tensor | None = getattr(outputs, "aux_loss", None)
        return retain_loss if balance is None else retain_loss + self.model.config.router_aux_loss_coef * balance

    def _reference(self, forget: Batch, samples: Samples) -> Tensor | None:
        if not self.settings.loss.needs_reference:
            return None
        if self.settings.reference == "live":
            return self.reference_log_likelihoods(forget)
        assert self.adversary is not None
        if self.adversary.state.reference is None:
            raise RuntimeError("the forget set was not scored yet: call score_forget_set(model), as train() does")
        return self.adversary.state.reference[samples.index]

    def _retain_loss(self, model: nn.Module, inputs: Mapping[str, Any], term: ForgetTerm) -> Tensor | float:
        if self.settings.alpha == 0:
            return 0.0
        if "retain" not in inputs:
            raise ValueError(
                f"alpha={self.settings.alpha} weighs a retain loss, but there is no retain data: set alpha=0"
            )
        retain: Batch = inputs["retain"]
        rows = self._retain_rows(inputs, term)
        if self.settings.retain_loss_type == "KL":
            return self.compute_retain_loss(model=model, retain_inputs=_without_samples(rows_of(retain, rows)))
        answers, outputs = self._forward(model, rows_of(retain, rows), retain[SAMPLES].answers[rows])
        if self.settings.retain_reduction == "sequence_sum":
            loss = -answers.sums.mean()
        else:
            loss = -answers.sums.sum() / answers.lengths.sum().clamp(min=1)
        return self.with_balance(loss, outputs)

    def _retain_rows(self, inputs: Mapping[str, Any], term: ForgetTerm) -> Tensor:
        """Return which retain samples count: all, or as many at random as the group has."""
        size, index = len(inputs["retain"]["labels"]), inputs["forget"][SAMPLES].index
        if self.settings.retain_batch == "full":
            return torch.arange(size)
        # A batch with nothing to forget has no group to match, and trains on all it has to retain.
        kept = len(term.weights.rows) or size
        with drawing(self.train_dataset.seed, self.train_dataset.epoch, int(index[0]), size) as generator:
            return torch.randperm(size, generator=generator)[:kept]

    def _note(self, term: ForgetTerm, retain_loss: Tensor | float) -> None:
        self._journal.note(term, retain_loss)
        if term.unlabeled and not self._warned_unlabeled:
            self._warned_unlabeled = True
            logger.warning(
                "%d of the %d forget samples in this batch have no answer token and get weight zero (the prompt fills "
                "max_length, or a chunk of text is empty). The log counts them as unlabeled_samples.",
                term.unlabeled,
                len(term.weights.gradient),
            )

    # What happens when: called by `_Hooks`, but for the first two.

    def _start_anew(self) -> None:
        """Forget what was known of the samples."""
        settings, accelerator = self.settings, self.accelerator
        self.adversary = Adversary(
            settings.weighting,
            len(self.train_dataset.forget),
            scope=settings.scope,
            unit=settings.unit,
            by_loss=settings.hardness == "loss",
            rank=accelerator.process_index,
            ranks=accelerator.num_processes,
            gather=accelerator.gather,
            capacity=self._micro_batch_size,
            # Only loaders of several ranks fill up batches.
            drawn_once=accelerator.num_processes > 1 and self.train_dataset.drawn_once,
        )
        self._robust_loss = RobustLoss(settings.loss, self.adversary, settings.hardness)
        self._progress = Progress()
        self._scored = False
        self._identity: dict[str, str] | None = None
        if self.model is not None:  # a search for hyperparameters makes it later
            self._note_shapes(self.model)

    def _prepare_model(self, model: nn.Module) -> None:
        """Look at the model that training starts from, before anything wraps it or changes its weights."""
        self._forward = AnswerForward.of(model)
        self._note_shapes(model)
        if compat.is_reentrant(self.args):
            compat.let_gradients_in(model)
        if self.settings.needs_model_before:
            self.prepare_model_before(model)

    def _note_shapes(self, model: nn.Module) -> None:
        """Note the parameters' shapes before an engine shards them."""
        self._shapes = {name: list(getattr(p, "ds_shape", p.shape)) for name, p in model.named_parameters()}

    def training_begins(self, model: nn.Module, loader: Any) -> None:
        """Score the forget set or read its state, with the model as the Trainer wrapped it."""
        assert self.adversary is not None
        self._refuse_one_sample(self._micro_batch_size)  # auto_find_batch_size may have come down to it
        accumulation, micro_batches = self.args.gradient_accumulation_steps, len(loader)
        if compat.FETCHES_ONE_BY_ONE:
            self.accelerator.step = 0
        self._progress.begin(self.state.global_step, micro_batches, accumulation)
        if self._resumed:
            arguments.refuse_steps_that_cannot_resume(micro_batches, accumulation)
            self._load_state(self._resumed)
        else:
            saves = self.args.save_strategy != "no" and not self.args.save_only_model
            if warning := arguments.warning_of_steps(micro_batches, accumulation, saves=saves):
                logger.warning("%s", warning)
            if not self._scored:
                self.score_forget_set(model)

    def epoch_begins(self) -> None:
        """Draw and count the samples afresh; of a resumed epoch, those that were not trained on yet."""
        assert self.adversary is not None
        if self._progress.next_epoch():
            self.adversary.state.seen.zero_()
        self.train_dataset.epoch = self._progress.epoch

    def epoch_ends(self) -> None:
        """Log what is known of the whole forget set."""
        assert self.adversary is not None
        summary = self.adversary.summary()
        if summary:
            shares = self.adversary.distribution()  # 1 is an even weight, whatever the size of the forget set
            name, callbacks = "forget_set_relative_weights", self.callback_handler.callbacks
            draw_histogram(name, shares * len(shares), self.state.global_step, callbacks)
            self.log(summary)

    def _load_state(self, folder: Path) -> None:
        assert self.adversary is not None
        about = self._about(checkpoint.step_of(folder))
        reference = self.settings.needs_precomputed_reference
        self.adversary.state = checkpoint.load(folder, about, reference=reference)
        self._scored = True

    def _about(self, step: int) -> dict[str, str]:
        """Return what a state of the samples belongs to."""
        if self._identity is None:
            data, model = self.train_dataset, self.accelerator.unwrap_model(self.model)
            with compat.random_state_kept(torch.device("cpu")):
                forget = checkpoint.digest_of(data.forget)
                retain = checkpoint.digest_of(getattr(data, "retain", None) or (), at_most=64)
            self._identity = {
                "fingerprint": checkpoint.fingerprint(model.config.to_dict(), self._shapes, forget),
                "retain_set": retain,
                "seed": str(data.seed),
                **self.settings.identity,
            }
        return {"step": str(step), **self._identity}

    @property
    def _micro_batch_size(self) -> int:
        """Samples in a forward pass of this process."""
        split = self.args.accelerator_config.split_batches
        size: int = self._train_batch_size
        return size // self.accelerator.num_processes if split else size

    def _refuse_one_sample(self, batch_size: int) -> None:
        settings = self.settings
        choosing = settings.scope == "batch" and not settings.weighting.is_mean
        if choosing and (settings.unit == "sample" or settings.hardness == "nll"):
            arguments.refuse_one_sample(self.variant, batch_size * self.accelerator.num_processes)


class _Hooks(TrainerCallback):
    """Tells a trainer where its training is."""

    def __init__(self, trainer: BalDROMixin) -> None:
        self._trainer = trainer

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._trainer.training_begins(self._trainer.model_wrapped, kwargs["train_dataloader"])

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._trainer.epoch_begins()

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._trainer.epoch_ends()


def _without_samples(batch: Batch) -> dict[str, Any]:
    """Return a batch as the host knows it."""
    return {name: value for name, value in batch.items() if name != SAMPLES}
