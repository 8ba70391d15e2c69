"""What happens when: a training run from its construction to its last checkpoint, as a base of `BalDROMixin`."""

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
from baldro_ext.data import IndexedCollator, IndexedPairs
from baldro_ext.logprobs import AnswerForward, AnswerLogProbs
from baldro_ext.progress import Progress
from baldro_ext.report import Journal, draw_histogram, summary_of
from baldro_ext.robust_loss import RobustLoss
from baldro_ext.scoring import score_forget_set

logger = logging.getLogger(__name__)

if TYPE_CHECKING:

    class _Host(Trainer):
        """What a host provides besides being a Trainer."""

        def prepare_model_before(self, model: nn.Module) -> None:
            """Keep what compares with the model before unlearning, where the settings need that in each step."""

        def answers_of(self, model: nn.Module, samples: Sequence[Any]) -> tuple[AnswerLogProbs, Tensor]:
            """Return the answers' log-probabilities of B samples, and whether they have any, `(B,)` on the CPU."""

else:
    _Host = object


class Lifecycle(_Host):
    """Knows the samples from the scoring pass on, and keeps what is known of them with the checkpoints.

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
        arguments.refuse_what_cannot_work(self)
        self._journal = Journal()
        self._warned_unlabeled = False
        self._forward = AnswerForward.of(self.model)
        if self.train_dataset is not None:
            self._refuse_one_sample()
            self.train_dataset.seed = self.args.seed if self.args.data_seed is None else self.args.data_seed
            self.add_callback(_Hooks(self))
            self._start_anew()

    def train(self, resume_from_checkpoint: str | bool | None = None, *args: Any, **kwargs: Any) -> Any:
        """Train as the host does; from a checkpoint, also `args.resume_from_checkpoint`, with its state of the samples.

        `True` takes the newest checkpoint that was written to its end. Each call starts anew from the model as it is.

        Raises:
            StateError: The checkpoint's state is missing, damaged or of another run.
            ValueError: There is no training data, or a resumed run would not go on where it stopped.
        """
        if self.adversary is None:
            raise ValueError("train_dataset is missing, so there is nothing to unlearn: pass one to the trainer")
        resume: Any = self.args.resume_from_checkpoint if resume_from_checkpoint is None else resume_from_checkpoint
        if resume is True or resume == "True":
            resume = checkpoint.newest_complete(Path(self.args.output_dir), self.accelerator.num_processes)
        self._start_anew()
        self._resumed = Path(resume) if resume else None
        if self._resumed:  # and once more when training begins; here, so that a mistake shows at once
            self._load_state(self._resumed)
            arguments.refuse_a_model_without_its_run(self._resumed)
            compat.let_random_states_in()
        if self.model_init is None:
            self._prepare_model(self.model)
        return super().train(str(resume) if resume else None, *args, **kwargs)

    def call_model_init(self, *args: Any, **kwargs: Any) -> Any:
        """Make a model as the host does, from which this training starts."""
        model = super().call_model_init(*args, **kwargs)
        if self.adversary is not None:  # past the constructor
            self._prepare_model(model)
        return model

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save as the host does; in a checkpoint to resume from, with the state of the samples beside the model."""
        folder = Path(output_dir) if _internal_call and output_dir and self.args.should_save else None
        if folder:
            checkpoint.begin(folder)
        super().save_model(output_dir, _internal_call)
        if folder and self.adversary is not None:
            checkpoint.save(self.adversary.state, folder, self._identity.at(self.state.global_step))

    def get_train_dataloader(self) -> Any:
        """Load as the host does, but draw the seeds of loader workers apart from the run's random numbers.

        Workers that live on draw theirs once, those of a resumed run once more; so dropout would differ after resuming.
        """
        loader = super().get_train_dataloader()
        getattr(loader, "base_dataloader", loader).generator = torch.Generator()  # accelerate's loader wraps another
        return loader

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

    def score_forget_set(self, model: nn.Module) -> None:
        """Score the forget set, where the settings need it, with the model before its first step: it is the reference.

        Nothing is kept of a pass that fails.

        Raises:
            ValueError: A loss is not finite; names the samples.
        """
        assert self.adversary is not None
        forget = self.train_dataset.forget
        if self.settings.needs_scores:
            self.adversary.state = score_forget_set(
                model,
                lambda index: self.answers_of(model, [forget[place] for place in index.tolist()]),
                self.adversary,
                self.settings.loss,
                self.settings.hardness,
                self._micro_batch_size,
                rank=self.accelerator.process_index,
                ranks=self.accelerator.num_processes,
                silent=self.args.disable_tqdm or not self.is_world_process_zero(),
            )
            unlabeled = int((~self.adversary.state.known).sum())
            if unlabeled:
                self._warned_unlabeled, total = True, len(forget)
                logger.warning("%d of the %d forget samples have no answer token and get weight 0.", unlabeled, total)
        self._scored = True

    def training_begins(self, model: nn.Module, loader: Any) -> None:
        """Score the forget set or read its state, with the model as the Trainer wrapped it."""
        assert self.adversary is not None
        self._refuse_one_sample()  # auto_find_batch_size may have come down to it
        accumulation, micro_batches = self.args.gradient_accumulation_steps, len(loader)
        if compat.FETCHES_ONE_BY_ONE:
            self.accelerator.step = 0
        self._progress.begin(self.state.global_step, micro_batches, accumulation)
        if self._resumed:
            arguments.refuse_steps_that_cannot_resume(micro_batches, accumulation)
            self._load_state(self._resumed)
            if self._progress.within_epoch and self.state.global_step >= self.state.max_steps:
                raise ValueError(  # the Trainer would take one step more: it looks at the number of steps after a step
                    f"{self._resumed} is of the last step ({self.state.global_step} of {self.state.max_steps}), so "
                    "nothing is left to train: take the model from there, or train longer with a larger max_steps"
                )
        else:
            saves = self.args.save_strategy != "no" and not self.args.save_only_model
            if warning := arguments.warning_of_steps(micro_batches, accumulation, saves=saves):
                logger.warning("%s", warning)
            if not self._scored:
                self.score_forget_set(model)

    def epoch_begins(self) -> None:
        """Draw and count the samples afresh; of a resumed epoch, those that were not trained on yet."""
        assert self.adversary is not None
        if self._progress.next_epoch() or self.args.ignore_data_skip:  # which takes an epoch from its start again
            self.adversary.state.seen.zero_()
        self.train_dataset.epoch = self._progress.epoch

    def epoch_ends(self) -> None:
        """Log what is known of the whole forget set."""
        assert self.adversary is not None
        summary = summary_of(self.adversary)
        if summary:
            shares = self.adversary.distribution()  # 1 is an even weight, whatever the size of the forget set
            name, callbacks = "forget_set_relative_weights", self.callback_handler.callbacks
            draw_histogram(name, shares * len(shares), self.state.global_step, callbacks)
            self.log(summary)

    def _start_anew(self) -> None:
        """Forget what was known of the samples, and what this run is resumed from."""
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
        self._identity_of_run: checkpoint.Identity | None = None
        self._progress = Progress()
        self._scored = False

    def _prepare_model(self, model: nn.Module) -> None:
        """Look at the model that training starts from, before anything wraps it or changes its weights."""
        self._forward = AnswerForward.of(model)
        if compat.is_reentrant(self.args):
            compat.let_gradients_in(model)
        if self.settings.needs_model_before:
            self.prepare_model_before(model)

    def _load_state(self, folder: Path) -> None:
        assert self.adversary is not None
        about = self._identity.at(checkpoint.step_of(folder))
        reference = self.settings.needs_precomputed_reference
        self.adversary.state = checkpoint.load(folder, about, reference=reference)
        self._scored = True

    @property
    def _identity(self) -> checkpoint.Identity:
        """What this run's state of the samples belongs to."""
        if self._identity_of_run is None:
            config: Any = getattr(self.accelerator.unwrap_model(self.model), "config", None)
            settings = {"seed": str(self.train_dataset.seed), **self.settings.identity}
            if not self.args.auto_find_batch_size:  # which a checkpoint brings with it
                steps, ranks = self.args.gradient_accumulation_steps, self.accelerator.num_processes
                settings["samples_per_step"] = f"{self._micro_batch_size} x {steps} steps x {ranks} processes"
            described = config.to_dict() if config is not None else {}
            self._identity_of_run = checkpoint.Identity(self.train_dataset, described, settings)
        return self._identity_of_run

    @property
    def _micro_batch_size(self) -> int:
        """Samples in a forward pass of this process."""
        split = self.args.accelerator_config.split_batches
        size: int = self._train_batch_size
        return size // self.accelerator.num_processes if split else size

    def _refuse_one_sample(self) -> None:
        settings = self.settings
        choosing = settings.scope == "batch" and not settings.weighting.is_mean
        if choosing and (settings.unit == "sample" or settings.hardness == "nll"):
            arguments.refuse_one_sample(self.variant, self._micro_batch_size * self.accelerator.num_processes)


class _Hooks(TrainerCallback):
    """Tells a trainer where its training is."""

    def __init__(self, trainer: Lifecycle) -> None:
        self._trainer = trainer

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._trainer.training_begins(self._trainer.model_wrapped, kwargs["train_dataloader"])

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._trainer.epoch_begins()

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._trainer.epoch_ends()
