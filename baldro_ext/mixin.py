"""The method as a mixin for any Hugging Face Trainer, independent of the framework: the course of a training run.

A host class inherits from the mixin first and its own trainer second, sets `variant`, and provides `copy_of` and
`compute_retain_loss`.
"""

import inspect
import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import nn
from transformers import Trainer, TrainerCallback

from baldro_ext import arguments, checkpoint, compat
from baldro_ext.adversary import Adversary
from baldro_ext.before import AdaptersOff, adapters_do_nothing, train_only
from baldro_ext.budget import RetainBudget
from baldro_ext.config import Settings
from baldro_ext.data import IndexedCollator, IndexedPairs, original_of
from baldro_ext.forward import AnswerForward, trained_behind
from baldro_ext.passes import Passes
from baldro_ext.report import Journal, log_histogram, summary_of
from baldro_ext.robust_loss import RobustLoss
from baldro_ext.step_mean import StepMean

logger = logging.getLogger(__name__)


class BalDROMixin(Passes, TrainerCallback):
    """Trains on `gamma * worst case of the forget losses + alpha * retain loss`.

    Scores the forget set before training, and saves and restores the state of the samples with checkpoints.

    A training batch is `{"forget": batch, "retain": batch}`, each with `input_ids` and `labels` of shape `(B, T)` and
    other arguments of the model's forward; with second answers, `forget` is `{"original": batch, "alternate": batch}`.
    Keyword arguments that the host's trainer does not have are settings (`baldro_ext.config.Settings`).
    """

    variant: str
    """A key of `baldro_ext.weightings.VARIANTS`."""
    host_arguments: ClassVar[frozenset[str]] = frozenset()
    """Keyword arguments of the host's trainer beyond those of `transformers.Trainer`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        for_host = {*inspect.signature(Trainer.__init__).parameters, *self.host_arguments}
        self.settings = Settings.parse(self.variant, {k: v for k, v in kwargs.items() if k not in for_host})
        host = {k: v for k, v in kwargs.items() if k in for_host}
        if host.get("compute_loss_func") is not None:
            raise ValueError("compute_loss_func would replace the loss that these trainers compute: leave it out")
        self._resumed: Path | None = None
        if host.get("train_dataset") is not None:
            host["train_dataset"] = IndexedPairs(host["train_dataset"])
            if host.get("data_collator") is None:
                raise ValueError("data_collator is missing: pass one that makes {'forget': batch, 'retain': batch}")
            host["data_collator"] = IndexedCollator(host["data_collator"])
        super().__init__(*args, **host)
        # Our loss is a mean per micro-batch. With true, transformers 4.46 and later would not divide it by the number
        # of accumulation steps.
        self.model_accepts_loss_kwargs = False
        self.args.remove_unused_columns = False  # items are {forget, retain}, not arguments of the model
        arguments.refuse_what_cannot_work(self)
        self._journal = Journal()
        self._forward = AnswerForward.of(self.model)
        if self.train_dataset is not None:
            arguments.refuse_one_sample(self.settings, self._micro_batch_size * self.accelerator.num_processes)
            self.add_callback(self)
            self._reset_training()

    def train(self, resume_from_checkpoint: str | bool | None = None, *args: Any, **kwargs: Any) -> Any:
        """Train from the current model, or resume from a checkpoint with its state of the samples.

        Args:
            resume_from_checkpoint: A checkpoint folder, or `True` for the newest complete one; defaults to
                `args.resume_from_checkpoint`.
            args: Passed on to the host, like `kwargs`.
            kwargs: Passed on to the host.

        Raises:
            StateError: The checkpoint's state is missing, damaged or belongs to another run.
            ValueError: There is no training data, or a resumed run would not continue where it stopped.
        """
        if self.train_dataset is None:
            raise ValueError("train_dataset is missing, so there is nothing to unlearn: pass one to the trainer")
        resume: Any = self.args.resume_from_checkpoint if resume_from_checkpoint is None else resume_from_checkpoint
        if resume is True or resume == "True":
            resume = checkpoint.newest_complete(Path(self.args.output_dir), self.accelerator.num_processes)
        self._reset_training()
        self._resumed = Path(resume) if resume else None
        if self._resumed:  # loaded again when training begins; checked here so that an error shows at once
            self._load_state(self._resumed)
            arguments.refuse_a_model_without_its_run(self._resumed)
            compat.allow_numpy_random_states()
        if self.model_init is None:
            self._prepare_model(self.model)
        return super().train(str(resume) if resume else None, *args, **kwargs)

    def call_model_init(self, *args: Any, **kwargs: Any) -> Any:
        """Make the model that this training starts from."""
        model = super().call_model_init(*args, **kwargs)
        if hasattr(self, "adversary"):  # not while the constructor runs
            self._prepare_model(model)
        return model

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save the model as the host does; in a checkpoint, also save the state of the samples."""
        folder = Path(output_dir) if _internal_call and output_dir and self.args.should_save else None
        if folder:
            checkpoint.begin(folder)
        super().save_model(output_dir, _internal_call)
        if folder and self.train_dataset is not None:
            about, budget = self._identity_at(self.state.global_step), self.budget.state if self.budget else None
            checkpoint.save(self.adversary.state, folder, about, budget=budget)

    def get_train_dataloader(self) -> Any:
        """Return the host's loader, with a generator of its own for the seeds of loader workers.

        Resuming draws these seeds once more. From the run's own generator, that would change dropout.
        """
        loader = super().get_train_dataloader()
        getattr(loader, "base_dataloader", loader).generator = torch.Generator()  # accelerate may wrap the loader
        return loader

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, *args: Any, **kwargs: Any) -> Any:
        """Fetch the micro-batches of one optimizer step as the host does, and record their number."""
        num_batches = compat.micro_batches_to_fetch(num_batches, self.args.gradient_accumulation_steps)
        fetched = super().get_batch_samples(epoch_iterator, num_batches, *args, **kwargs)
        self._step_mean.fetched = len(fetched[0])
        return fetched

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Score the forget set, or load its state from a checkpoint."""
        self._seed_draws()  # a search for hyperparameters may have set another seed
        # auto_find_batch_size may have reduced the batch size.
        arguments.refuse_one_sample(self.settings, self._micro_batch_size * self.accelerator.num_processes)
        accumulation, micro_batches = self.args.gradient_accumulation_steps, len(kwargs["train_dataloader"])
        if compat.FETCHES_ONE_BY_ONE:
            self.accelerator.step = 0
        self._step_mean = StepMean(micro_batches, accumulation)
        epoch, self._steps_within_epoch = divmod(self.state.global_step, max(1, -(-micro_batches // accumulation)))
        if self._resumed:
            within_later = epoch > 0 and self._steps_within_epoch > 0
        else:
            within_later = self.state.num_train_epochs > 1 and self.args.save_strategy == "steps"
        within_later = within_later and not self.args.ignore_data_skip
        unresumable = arguments.why_it_cannot_resume(micro_batches, accumulation, within_later)
        if self._resumed:
            if unresumable:
                raise ValueError(unresumable)
            self._load_state(self._resumed)
            if self.state.global_step >= self.state.max_steps:
                finished = (
                    f"{self._resumed} was saved after the last step ({self.state.global_step} of "
                    f"{self.state.max_steps}), so nothing is left to train: use its model, or set a larger "
                    "num_train_epochs or max_steps"
                )
                if self._steps_within_epoch:  # the Trainer would train one more step, since it checks only after it
                    raise ValueError(finished)
                logger.warning("%s", finished)
        else:
            if unresumable and self.args.save_strategy != "no" and not self.args.save_only_model:
                logger.warning("%s", unresumable)
            if not self._scored:
                self.score_forget_set(self.model_wrapped)
            if self.budget:
                before = self.budget.before  # known where auto_find_batch_size begins again, with a changed model
                if math.isnan(before):
                    before = self.retain_loss_before(self.model_wrapped)  # draws samples of several epochs
                self.budget.begin(before)
        self.train_dataset.epoch = epoch - 1

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Enter the next epoch; if it is a resumed one, keep which samples were already trained on."""
        if not self._steps_within_epoch or self.args.ignore_data_skip:  # with which a resumed epoch starts over
            self.adversary.state.seen.zero_()
        self._steps_within_epoch = 0
        self.train_dataset.epoch += 1

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Adapt alpha to the retain loss of an optimizer step, if there is a budget."""
        if self.budget and self.budget.losses:
            mean = self.adversary.mean_of_ranks(torch.stack(self.budget.losses))
            self.budget.update(mean, self.state.global_step / self.state.max_steps)

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Log statistics of the whole forget set."""
        summary = summary_of(self.adversary)
        if summary:
            weights = self.adversary.distribution()
            relative = weights * len(weights)  # 1 is an even weight, whatever the size of the forget set
            callbacks = self.callback_handler.callbacks
            log_histogram("forget_set_relative_weights", relative, self.state.global_step, callbacks)
            self.log(summary)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Load the state of the samples that belongs to the best model, if the host has loaded that model."""
        best = self.state.best_model_checkpoint if self.args.load_best_model_at_end else None
        if best and Path(best).is_dir():
            self._load_state(Path(best))

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """Log as the host does; with the training loss, also log the statistics since the last logging step."""
        if "loss" in logs:
            logs.update(self._journal.read())
        super().log(logs, *args, **kwargs)

    def floating_point_ops(self, inputs: Mapping[str, Any]) -> int:
        """Return the operations of both batches, for `total_flos`; the host finds no tokens in a pair of batches."""
        of_batch = super().floating_point_ops
        batches = (batch for batch in inputs.values() if isinstance(batch, Mapping))
        return sum(of_batch(dict(original_of(batch))) for batch in batches)

    def _reset_training(self) -> None:
        """Reset the state of the samples and everything else that belongs to one training."""
        settings, accelerator = self.settings, self.accelerator
        self._seed_draws()
        self.adversary = Adversary(
            settings.weighting,
            len(self.train_dataset.forget),
            scope=settings.scope,
            unit=settings.unit,
            by_loss=settings.hardness == "loss",
            rank=accelerator.process_index,
            ranks=accelerator.num_processes,
            gather=accelerator.gather,
            # Only the loaders of several ranks fill up batches with repeated samples.
            drawn_once=accelerator.num_processes > 1 and self.train_dataset.drawn_once,
        )
        self._robust_loss = RobustLoss(settings.loss, self.adversary)
        budget = settings.retain_budget
        self.budget = None if budget is None else RetainBudget(budget, settings.alpha, settings.budget_step)
        self._identity: dict[str, str] = {}
        self._step_mean = StepMean()
        self._scored = False

    def _seed_draws(self) -> None:
        self.train_dataset.seed = self.args.seed if self.args.data_seed is None else self.args.data_seed

    def _prepare_model(self, model: nn.Module) -> None:
        """Prepare for the model that training starts from, before it is wrapped or trained."""
        self._forward = AnswerForward.of(model)
        if self.settings.loss.trainable_params_regex is not None:
            train_only(model, self.settings.loss.trainable_params_regex)
        if compat.is_reentrant(self.args):  # asks which parameters are trained
            compat.enable_input_gradients(model)
        if pattern := self.settings.loss.needs.activations:
            arguments.refuse_parameters_without_gradient(self, trained_behind(model, pattern))
        if self.settings.needs_model_before:
            self.prepare_model_before(model)

    def prepare_model_before(self, model: nn.Module) -> None:
        """Keep the model before unlearning: a copy, or the model itself with its adapters switched off.

        Raises:
            ValueError: The adapters are not new, so the model without them is another one.
        """
        if not compat.has_adapters(model):
            self.ref_model = self.copy_of(model)
            return
        if self._resumed is None and not adapters_do_nothing(model):  # else they come from a checkpoint
            raise ValueError(
                "retain_loss_type=KL or EMBED_DIFF, reference=live, DPO and UNDIAL compare with the model without its "
                "adapters, which is another one: they are already trained, or do not start from it (PiSSA). Merge them "
                "into the model (merge_and_unload) and add new ones, or use retain_loss_type=NLL with "
                "reference=precomputed and another base"
            )
        self.ref_model = AdaptersOff(self)

    def _load_state(self, folder: Path) -> None:
        about = self._identity_at(checkpoint.step_of(folder))
        reference = self.settings.needs_precomputed_reference
        self.adversary.state, budget = checkpoint.load(folder, about, reference=reference)
        if self.budget and budget is not None:
            self.budget.state = budget
        self._scored = True

    def _identity_at(self, step: int) -> dict[str, str]:
        """Return what the state of the samples belongs to at an optimizer step."""
        if not self._identity:
            config: Any = getattr(self.accelerator.unwrap_model(self.model), "config", None)
            settings = {"seed": str(self.train_dataset.seed), **self.settings.identity}
            if not self.args.auto_find_batch_size:  # a checkpoint then sets the batch size
                steps, ranks = self.args.gradient_accumulation_steps, self.accelerator.num_processes
                settings["samples_per_step"] = f"{self._micro_batch_size} x {steps} steps x {ranks} processes"
            described = config.to_dict() if config is not None else {}
            self._identity = checkpoint.identity_of(self.train_dataset, described) | settings
        return {"step": str(step), **self._identity}
