"""Questions and answers as samples, by a tokenizer's chat template."""

from collections.abc import Iterable, Mapping
from typing import Any

from baldro_ext.answers import IGNORE_INDEX


def encode_answers(
    tokenizer: Any,
    rows: Iterable[Mapping[str, str]],
    *,
    system_prompt: str | None = None,
    template: Mapping[str, Any] | None = None,
    max_length: int = 512,
) -> list[dict[str, list[int]]]:
    """Tokenise questions and answers with the tokenizer's chat template; the labels are the answers.

    Args:
        tokenizer: A tokenizer with a chat template.
        rows: Mappings with `question` and `answer`; other keys are ignored.
        system_prompt: Starts every conversation; use the one that the model was trained with.
        template: Variables of the chat template, such as `date_string` of Llama 3. Fix the date: a template that
            inserts today's makes different samples every day, and a run resumes only with the same samples.
        max_length: Conversations are cut off after this many tokens.

    Raises:
        ValueError: There is no chat template, or it does not put the answer after the prompt.
    """
    if tokenizer.chat_template is None:
        raise ValueError(
            "the tokenizer has no chat template to format questions and answers with: set tokenizer.chat_template, or "
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
            "be found: pass samples of input_ids and labels instead"
        )
    labels = [IGNORE_INDEX] * len(prompt) + ids[len(prompt) :]
    return {"input_ids": ids[:max_length], "labels": labels[:max_length]}
