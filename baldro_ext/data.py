"""Forget and retain samples for training code that brings no dataset classes of its own.

A sample is a mapping with `input_ids` and `labels`, two lists or vectors of equal length; labels are `IGNORE_INDEX`
where there is no answer. Whatever yields such samples by index can be forgotten or retained.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset

from baldro_ext.likelihood import IGNORE_INDEX


class ForgetRetainDataset(Dataset[dict[str, Any]]):
    """Every forget sample once per epoch, each with a retain sample drawn at random, as in open-unlearning.

    Args:
        forget: Samples to forget; anything with a length that gives samples by index, such as a list or a `datasets`
            dataset.
        retain: Samples to keep; `None` or empty where there are none, which needs `alpha=0`.

    Raises:
        ValueError: There is nothing to forget.
    """

    def __init__(self, forget: Any, retain: Any = None) -> None:
        if len(forget) == 0:
            raise ValueError("the forget set is empty, so there is nothing to unlearn: give at least two samples")
        self.forget = forget
        self.retain = retain

    def __len__(self) -> int:
        return len(self.forget)

    def __getitem__(self, index: int) -> dict[str, Any]:
        item = {"forget": self.forget[index]}
        if self.retain:
            item["retain"] = self.retain[int(torch.randint(0, len(self.retain), (1,)))]
        return item


class ForgetRetainCollator:
    """Pads samples to a batch; items of forget and retain samples to a batch of each.

    Args:
        pad_token_id: Fills `input_ids` up; the attention mask hides it, so it may be any token.
    """

    def __init__(self, pad_token_id: int) -> None:
        self.pad_token_id = pad_token_id

    def __call__(self, items: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Return `input_ids`, `labels`, `attention_mask`, each `(B, T)` int64, or such a batch per key of the items."""
        if "input_ids" not in items[0]:
            return {key: self([item[key] for item in items]) for key in items[0]}
        ids, labels = ([torch.as_tensor(item[key]) for item in items] for key in ("input_ids", "labels"))
        return {
            "input_ids": _padded(ids, self.pad_token_id),
            "labels": _padded(labels, IGNORE_INDEX),
            "attention_mask": _padded([torch.ones_like(row) for row in ids], 0),
        }


def encode_answers(
    tokenizer: Any,
    rows: Iterable[Mapping[str, str]],
    *,
    system_prompt: str | None = None,
    template: Mapping[str, Any] | None = None,
    max_length: int = 512,
) -> list[dict[str, list[int]]]:
    """Return samples whose labels are the answers, in the layout of the tokenizer's chat template.

    Args:
        tokenizer: With a chat template.
        rows: With `question` and `answer`; other keys are ignored.
        system_prompt: Begins every conversation; should be that with which the model was trained.
        template: Variables of the chat template, such as `date_string` of Llama 3. A template that puts in today's date
            makes other samples each day, of which a run of yesterday does not resume.
        max_length: Tokens after which a conversation is cut off.

    Raises:
        ValueError: There is no chat template, or it does not put the answer after the prompt.
    """
    if tokenizer.chat_template is None:
        raise ValueError(
            "the tokenizer has no chat template to lay out questions and answers with: set tokenizer.chat_template, or "
            "pass samples of input_ids and labels instead"
        )
    start = [{"role": "system", "content": system_prompt}] if system_prompt else []
    return [_encode(tokenizer, start, row, max_length, template or {}) for row in rows]


def _encode(
    tokenizer: Any, start: list[dict[str, str]], row: Mapping[str, str], max_length: int, template: Mapping[str, Any]
) -> dict[str, list[int]]:
    asked = [*start, {"role": "user", "content": row["question"]}]
    answered = [*asked, {"role": "assistant", "content": row["answer"]}]
    prompt = tokenizer.apply_chat_template(asked, add_generation_prompt=True, return_dict=False, **template)
    ids = tokenizer.apply_chat_template(answered, return_dict=False, **template)
    if ids[: len(prompt)] != prompt:
        raise ValueError(
            "the chat template does not continue its generation prompt with the answer, so the answer's tokens cannot "
            "be told apart: pass samples of input_ids and labels instead"
        )
    labels = [IGNORE_INDEX] * len(prompt) + ids[len(prompt) :]
    return {"input_ids": ids[:max_length], "labels": labels[:max_length]}


def _padded(rows: list[Tensor], value: int) -> Tensor:
    return pad_sequence(rows, batch_first=True, padding_value=value)
