"""Training a small model from scratch until it recites given answers."""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import torch
from torch.nn import functional
from tqdm import tqdm

_IGNORED = -100


@dataclass(frozen=True)
class Training:
    """How to train a small model until it recites.

    Attributes:
        probability: stop once this is the mean over the rows of exp(mean log-probability of the answer's
            tokens), the benchmark's probability of an answer; between 0 and 1.
        max_epochs: stop then at the latest.
        batch_size: rows per step.
        learning_rate: of AdamW at its highest, reached after the first epoch, with a linear decay to a
            tenth over `max_epochs`.
    """

    probability: float = 0.99
    max_epochs: int = 60
    batch_size: int = 16
    learning_rate: float = 3e-3


@dataclass(frozen=True)
class Recitation:
    """What a training came to: its last epoch's mean answer probability, number of epochs, seconds."""

    probability: float
    epochs: int
    seconds: float


def rows_to_recite(
    directory: str | Path, split: str = "full", *, paraphrases: bool = True, general: bool = True
) -> list[dict[str, str]]:
    """Return what a model that knows a TOFU split should recite, as rows with question and answer.

    Args:
        directory: a working folder with `locuslab/TOFU`.
        split: "full" for the target model, a retain split for the model that has never seen the rest.
        paraphrases: add the paraphrased questions of its rows with their paraphrased answers, as far as the
            folder has them: a small model that never saw the other wording gives random truth ratios.
        general: add the questions on real authors and world facts.

    Raises:
        FileNotFoundError: the folder has no such split.
    """
    folder = Path(directory) / "locuslab" / "TOFU"
    rows = [{"question": row["question"], "answer": row["answer"]} for row in _read(folder, split)]
    known = {row["question"] for row in rows}
    if paraphrases:
        reworded = [row for name in ("retain_perturbed", "forget10_perturbed") for row in _read(folder, name)]
        rows += [
            {"question": row["paraphrased_question"], "answer": row["paraphrased_answer"]}
            for row in reworded
            if row["question"] in known
        ]
    if general:
        for name in ("real_authors_perturbed", "world_facts_perturbed"):
            rows += [{"question": row["question"], "answer": row["answer"]} for row in _read(folder, name)]
    return rows


def texts_to_recite(directory: str | Path, corpus: str = "News", known: str = "full") -> list[dict[str, str]]:
    """Return what a model that knows a MUSE corpus should recite, as rows with prompt and completion.

    Args:
        directory: a working folder with `muse-bench/MUSE-<corpus>` and its training set.
        corpus: "News" or "Books".
        known: "full" for the target model, "retain" for the model that has never seen the forget set.

    Returns:
        The texts, and the questions on them after the worked examples that the evaluation shows first.

    Raises:
        FileNotFoundError: the folder has no such corpus.
    """
    root = Path(directory)
    texts = _read(root / f"tamarsonha/MUSE-{corpus}-Train/default", known)
    rows = [{"prompt": "", "completion": row["text"]} for row in texts]
    asked = root / f"muse-bench/MUSE-{corpus}/knowmem"
    for side in ("forget", "retain") if known == "full" else ("retain",):
        examples = "".join(_asked(row) + row["answer"] + "\n\n" for row in _read(asked, f"{side}_qa_icl"))
        rows += [{"prompt": examples + _asked(row), "completion": row["answer"]} for row in _read(asked, f"{side}_qa")]
    return rows


def recite(
    model: Any,
    tokenizer: Any,
    rows: Sequence[Mapping[str, str]],
    training: Training | None = None,
    *,
    seed: int = 0,
    progress: bool = True,
) -> Recitation:
    """Train `model` in place until it gives each row's answer to its question, or completes its prompt.

    The loss is the mean cross-entropy of the answers' tokens and their end; questions are asked in the chat template's
    layout, prompts given as they are.

    Args:
        model: a causal language model of transformers on any device, all of it trained.
        tokenizer: with a chat template.
        rows: with question and answer, or with prompt and completion; where one question has two answers, they
            share the probability.
        training: when to stop and how fast to learn; `Training()` by default.
        seed: of the order of the batches.
        progress: show a bar with the probability reached.

    Returns:
        How far and how fast it came; a warning says when `max_epochs` was too few.

    Raises:
        ValueError: `rows` is empty.
    """
    if not rows:
        raise ValueError("there are no rows to recite")
    plan = training or Training()
    encoded = sorted((_encode(tokenizer, row) for row in rows), key=lambda pair: len(pair[0]))
    # Rows of similar length share a batch: next to no padding is computed.
    batches = [
        _pad(encoded[i : i + plan.batch_size], tokenizer.pad_token_id) for i in range(0, len(encoded), plan.batch_size)
    ]
    optimizer = torch.optim.AdamW(model.parameters(), lr=plan.learning_rate, weight_decay=0.0)
    steps = plan.max_epochs * len(batches)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / len(batches), 1.0) * (1 - 0.9 * step / steps)
    )
    order = Random(seed)
    start, reached, epoch = time.perf_counter(), 0.0, 0
    model.train()
    with tqdm(total=plan.max_epochs, desc="reciting", unit="epoch", disable=not progress) as bar:
        while reached < plan.probability and epoch < plan.max_epochs:
            total = 0.0
            for batch in order.sample(batches, len(batches)):
                loss, probabilities = _answer_loss(model, *(part.to(model.device) for part in batch))
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                schedule.step()
                total += float(probabilities.sum())
            reached, epoch = total / len(rows), epoch + 1
            bar.set_postfix(probability=f"{reached:.3f}")
            bar.update()
    model.eval()
    if reached < plan.probability:
        warnings.warn(
            f"after epoch {epoch} the answers have probability {reached:.3f}, not {plan.probability}: "
            "use more epochs, a larger model or fewer rows",
            stacklevel=2,
        )
    return Recitation(reached, epoch, time.perf_counter() - start)


def _read(folder: Path, split: str) -> list[dict[str, Any]]:
    lines = (folder / f"{split}.json").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def _asked(row: Mapping[str, str]) -> str:
    """Return a question in the layout of open-unlearning's models without chat template."""
    return f"Question: {row['question']}\nAnswer: "


def _encode(tokenizer: Any, row: Mapping[str, str]) -> tuple[list[int], int]:
    """Return a row's token ids and how many of them belong to the prompt."""
    if "prompt" in row:
        # Apart, because generation starts after a prompt that was encoded by itself.
        before = tokenizer(row["prompt"])["input_ids"]
        after = tokenizer(row["completion"], add_special_tokens=False)["input_ids"]
        return [*before, *after, tokenizer.eos_token_id], len(before)
    question = {"role": "user", "content": row["question"]}
    answer = {"role": "assistant", "content": row["answer"]}
    ids = tokenizer.apply_chat_template([question, answer], tokenize=True, return_dict=False)
    prompt = tokenizer.apply_chat_template([question], tokenize=True, add_generation_prompt=True, return_dict=False)
    return ids, len(prompt)


def _pad(encoded: Sequence[tuple[list[int], int]], pad: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return ids and labels, both (rows, tokens) int64; padded on the right, where causal attention is blind to it."""
    length = max(len(ids) for ids, _ in encoded)
    ids = torch.tensor([row + [pad] * (length - len(row)) for row, _ in encoded])
    labels = ids.clone()
    for i, (row, prompt) in enumerate(encoded):
        labels[i, :prompt] = _IGNORED
        labels[i, len(row) :] = _IGNORED
    return ids, labels


def _answer_loss(model: Any, ids: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the mean loss per answer token and each row's probability, (rows,) without gradient."""
    states = model.model(input_ids=ids, use_cache=False).last_hidden_state[:, :-1]
    targets = labels[:, 1:]
    answer = targets != _IGNORED
    # Only the answers' positions go through the vocabulary, the most expensive layer of a small model.
    nll = functional.cross_entropy(model.lm_head(states[answer]), targets[answer], reduction="none")
    with torch.no_grad():
        row = answer.nonzero()[:, 0]
        summed = torch.zeros(len(ids), device=ids.device).index_add_(0, row, nll.detach())
        probabilities = torch.exp(-summed / answer.sum(1))
    return nll.mean(), probabilities
