"""The ledger of a training run: made by a scoring pass, kept with the checkpoints, summed up each epoch."""

from __future__ import annotations

import hashlib
import json
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm
from transformers import TrainerCallback

from baldro_ext.ledger import FILE_NAME, Ledger, LedgerError, fingerprint
from baldro_ext.weighting import diagnostics

if TYPE_CHECKING:
    from baldro_ext.trainer import BalDROMixin

logger = logging.getLogger(__name__)
_HARDEST = 5


class Bookkeeper:
    """Keeps the ledger of one trainer.

    Attributes:
        ledger: Empty until training starts.
    """

    def __init__(self, trainer: BalDROMixin) -> None:
        self._trainer = trainer
        self._forget = trainer.train_dataset.forget
        self._fingerprint: str | None = None
        # Noted before an engine shards the parameters.
        self._shapes = {name: list(getattr(p, "ds_shape", p.shape)) for name, p in trainer.model.named_parameters()}
        self.ledger = Ledger.blank(len(self._forget))
        self._started = False

    def start(self, model: nn.Module) -> None:
        """Score the forget set with the model before its first step, where the settings need it."""
        if self._started:
            return
        self._started = True
        settings = self._trainer.settings
        if settings.needs_scores:
            self._score(model)

    def resume(self, checkpoint: Path) -> Tensor | None:
        """Read the ledger of a checkpoint; return the random state to draw its next batch from.

        Raises:
            LedgerError: It is missing, damaged, or of another step or run.
        """
        try:
            step = json.loads((checkpoint / "trainer_state.json").read_text())["global_step"]
        except (OSError, ValueError, KeyError) as error:
            raise LedgerError(f"{checkpoint} is no checkpoint of a Trainer ({error}): name another one") from None
        self.ledger, draw = Ledger.load(checkpoint, step, self.fingerprint)
        if self._trainer.settings.needs_precomputed_reference and self.ledger.reference is None:
            raise LedgerError(
                f"{checkpoint / FILE_NAME} holds no reference likelihoods, because its run did not need them, and the "
                "model of a checkpoint is no longer the reference: resume with the settings of that run, or start anew"
            )
        self._started = True
        return draw

    def save(self, folder: Path, draw: Tensor | None) -> None:
        """Write the ledger into a checkpoint."""
        self.ledger.save(folder, self._trainer.state.global_step, self.fingerprint, draw)

    @property
    def fingerprint(self) -> str:
        """Identifies model, tokenizer, dataset and template; computed once, by reading the forget set."""
        if self._fingerprint is None:
            digest = hashlib.sha256()
            with _random_state_kept():
                for index in range(len(self._forget)):
                    sample = self._forget[index]
                    for key in ("input_ids", "labels"):
                        digest.update(torch.as_tensor(sample[key]).to(torch.int64).numpy().tobytes())
            model = self._trainer.accelerator.unwrap_model(self._trainer.model)
            self._fingerprint = fingerprint(model.config.to_dict(), self._shapes, digest.hexdigest())
        return self._fingerprint

    def _score(self, model: nn.Module) -> None:
        trainer, size = self._trainer, len(self._forget)
        per_rank, ranks = trainer.args.per_device_eval_batch_size, trainer.accelerator.num_processes
        objective = trainer.settings.objective
        reference = torch.full((size,), torch.nan, dtype=torch.float64)
        was_training = model.training
        model.eval()
        with torch.no_grad(), _random_state_kept():
            for start in tqdm(
                range(0, size, per_rank * ranks),
                desc="Scoring the forget set",
                disable=trainer.args.disable_tqdm or not trainer.is_world_process_zero(),
            ):
                # Past the end, the last sample again: sharded models need every rank in every forward.
                first = start + trainer.accelerator.process_index * per_rank
                indices = [min(index, size - 1) for index in range(first, first + per_rank)]
                answers = trainer.forget_answers(model, [self._forget[index] for index in indices])
                answered = answers.lengths > 0
                losses = torch.full((per_rank,), torch.nan, dtype=torch.float64)
                hardness = losses.clone()
                # The model is the reference still.
                scored = objective(answers[answered], answers.sums[answered])
                losses[answered.cpu()] = scored.double().cpu()
                hard = answers.means[answered] if trainer.settings.hardness == "nll" else scored
                hardness[answered.cpu()] = hard.double().cpu()
                columns = (torch.tensor(indices), answers.sums.cpu(), losses, hardness)
                rows, _ = trainer.gather_rows(torch.stack([column.double() for column in columns], 1))
                where = rows[:, 0].long()
                reference[where] = rows[:, 1]
                self.ledger.record(where, rows[:, 2], rows[:, 3])
        model.train(was_training)
        if objective.needs_reference:
            self.ledger.reference = reference
        answerless = size - int(self.ledger.known.sum())
        if answerless:
            logger.warning("%d of the %d forget samples have no answer token and get weight zero.", answerless, size)

    def weights(self) -> Tensor:
        """Return the worst case over the samples with a loss: float64, sum 1, by index; empty before the first."""
        hardness = self.ledger.hardness[self.ledger.known]
        return self._trainer.settings.weighting.weights(hardness) if len(hardness) else hardness

    def summary(self) -> dict[str, float]:
        """Return what the ledger says of the whole forget set, for the log."""
        losses = self.ledger.losses[self.ledger.known]
        if len(losses) == 0:
            return {}
        ordered = losses.sort(descending=True).values
        places = self.ledger.known.nonzero().flatten()
        hardest = places[self.ledger.hardness[self.ledger.known].argsort(descending=True, stable=True)[:_HARDEST]]
        return {
            "forget_set_loss_mean": losses.mean().item(),
            "forget_set_loss_worst_decile": ordered[: max(1, len(ordered) // 10)].mean().item(),
            "forget_set_loss_largest": ordered[0].item(),
            "forget_set_effective_sample_size": diagnostics(self.weights())["effective_sample_size"],
            **{f"forget_set_hardest_{rank}": float(index) for rank, index in enumerate(hardest.tolist(), 1)},
        }


class EpochReport(TrainerCallback):
    """Logs the ledger's summary, and a histogram of the weights where the tracker has them, after each epoch."""

    def __init__(self, trainer: BalDROMixin) -> None:
        self._trainer = trainer

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Count the samples afresh, unless the run resumes within this epoch."""
        if float(state.epoch or 0).is_integer():
            self._trainer.books.ledger.visited.zero_()

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Log."""
        books = self._trainer.books
        summary = books.summary()
        if summary:
            weights = books.weights()
            # In shares of an even weight, so that 1 is plain averaging whatever the size of the forget set.
            self._histogram("forget_set_relative_weights", weights * len(weights), state.global_step)
            self._trainer.log(summary)

    def _histogram(self, name: str, values: Tensor, step: int) -> None:
        """Give a histogram to TensorBoard and to Weights & Biases, where the run reports to them."""
        for callback in self._trainer.callback_handler.callbacks:
            writer = getattr(callback, "tb_writer", None)
            if writer is not None:
                writer.add_histogram(name, values, step)
        wandb = sys.modules.get("wandb")
        if wandb is not None and wandb.run is not None:
            wandb.log({name: wandb.Histogram(values.numpy())}, commit=False)


@contextmanager
def _random_state_kept() -> Iterator[None]:
    """Leave the run's random numbers as they would be without the work inside."""
    with torch.random.fork_rng():
        yield
