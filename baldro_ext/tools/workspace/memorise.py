"""Training a model until it gives the answers of its rows word for word."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from tqdm import tqdm

from baldro_ext.answers import IGNORE_INDEX
from baldro_ext.data import ForgetRetainCollator
from baldro_ext.encoding import encode_answers


@dataclass(frozen=True)
class Training:
    """How to train a model until it has memorised its rows; the defaults suit a small one that knows nothing."""

    # Ends it, once it is the mean over rows of exp(mean log-probability of an answer's tokens), as TOFU measures.
    probability: float = 0.99
    max_epochs: int = 60  # ends it at the latest
    batch_size: int = 16  # rows per step
    learning_rate: float = 3e-3  # of AdamW after the first epoch; decays linearly to a tenth over max_epochs


FROM_NOTHING = Training()


def memorise(
    model: Any,
    tokenizer: Any,
    rows: Sequence[Mapping[str, str]],
    training: Training = FROM_NOTHING,
    *,
    seed: int = 0,
    title: str = "memorising",
) -> float:
    """Train `model` in place until it gives each row's answer to its question.

    The loss is the mean cross-entropy of the answers' tokens and their end.

    Args:
        model: A causal language model of transformers on any device; all of it is trained.
        tokenizer: With a chat template, in whose layout the questions are asked.
        rows: With question and answer, at least one; where one question has two answers, they share the probability.
        training: When to stop, and how fast to learn.
        seed: Of the order of the batches.
        title: Of the progress bar.

    Returns:
        The mean probability of an answer in the last epoch; a warning says where `max_epochs` were too few.
    """
    if not rows:
        raise ValueError("there are no rows to memorise")
    samples = sorted(encode_answers(tokenizer, rows), key=lambda sample: len(sample["input_ids"]))
    collate = ForgetRetainCollator(tokenizer.pad_token_id)
    # Rows of similar length share a batch: next to no padding is computed.
    batches = [collate(samples[i : i + training.batch_size]) for i in range(0, len(samples), training.batch_size)]
    optimizer = torch.optim.AdamW(model.parameters(), lr=training.learning_rate, weight_decay=0.0)
    steps = training.max_epochs * len(batches)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / len(batches), 1.0) * (1 - 0.9 * step / steps)
    )
    order, reached, epoch = Random(seed), 0.0, 0
    model.train()
    with tqdm(total=training.max_epochs, desc=title, unit="epoch", dynamic_ncols=True) as bar:
        while reached < training.probability and epoch < training.max_epochs:
            total = 0.0
            for batch in order.sample(batches, len(batches)):
                loss, probabilities = _answers(model, batch)
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                schedule.step()
                total += float(probabilities.sum())
            reached, epoch = total / len(samples), epoch + 1
            bar.set_postfix(probability=f"{reached:.3f}")
            bar.update()
        bar.total = epoch  # no more were needed
    model.eval()
    if reached < training.probability:
        warnings.warn(
            f"after epoch {epoch} the answers have probability {reached:.3f}, not {training.probability}: "
            "use more epochs, a larger model or fewer rows",
            stacklevel=2,
        )
    return reached


def _answers(model: Any, batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Return the mean loss per answer token, and each answer's probability per token, `(B,)` without gradient."""
    ids, labels = (batch[name].to(model.device) for name in ("input_ids", "labels"))
    targets = labels[:, 1:]
    answer = targets != IGNORE_INDEX
    with torch.autocast("cuda", torch.bfloat16, enabled=ids.is_cuda):
        # Padding is on the right, where causal attention does not see it: no mask, which would be slower.
        states = model.model(input_ids=ids, use_cache=False).last_hidden_state[:, :-1]
        # Only the answers' positions go through the vocabulary, the most expensive layer of a small model.
        logits = model.lm_head(states[answer])
    losses = functional.cross_entropy(logits.float(), targets[answer], reduction="none")
    sums = losses.new_zeros(len(labels)).index_add_(0, answer.nonzero()[:, 0], losses.detach())
    return losses.mean(), torch.exp(-sums / answer.sum(1))
