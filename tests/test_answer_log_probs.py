"""Answer log-probabilities, against the naive formula."""

import pytest
import torch

from baldro_ext.answers import IGNORE_INDEX, Answers
from baldro_ext.logprobs import log_probs_of


def answer_log_probs(logits: torch.Tensor, labels: torch.Tensor) -> Answers:
    mask = labels[:, 1:] != IGNORE_INDEX
    return Answers(log_probs_of(labels[:, 1:].masked_fill(~mask, 0), logits[:, :-1], mask), mask)


def batch(dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = 5 * torch.randn(4, 6, 11, generator=generator, dtype=torch.float64)
    labels = torch.randint(0, 11, (4, 6), generator=generator)
    labels[0, :3] = IGNORE_INDEX  # prompt
    labels[1, 4:] = IGNORE_INDEX  # right padding
    labels[2, [0, 2, 5]] = IGNORE_INDEX  # holes
    labels[3] = IGNORE_INDEX  # nothing to forget
    return logits.to(dtype), labels


def test_equals_the_log_softmax_gathered_at_the_next_token() -> None:
    logits, labels = batch()
    answers = answer_log_probs(logits, labels)
    for b in range(4):
        for t in range(5):
            target = int(labels[b, t + 1])
            naive = 0.0 if target == IGNORE_INDEX else float(logits[b, t].log_softmax(-1)[target])
            assert answers.tokens[b, t].item() == pytest.approx(naive, rel=1e-12)
            assert bool(answers.mask[b, t]) == (target != IGNORE_INDEX)


def test_sums_lengths_and_means_are_per_sample() -> None:
    answers = answer_log_probs(*batch())
    assert answers.lengths.tolist() == [3, 3, 3, 0]
    torch.testing.assert_close(answers.means[:3], answers.tokens.sum(-1)[:3] / 3)
    assert answers.sums[3] == 0


def test_half_precision_logits_are_read_in_single_precision() -> None:
    logits, labels = batch(torch.bfloat16)
    answers = answer_log_probs(logits, labels)
    assert answers.tokens.dtype == torch.float32
    torch.testing.assert_close(
        answers.tokens.double(), answer_log_probs(logits.double(), labels).tokens, rtol=1e-6, atol=1e-6
    )


def test_gradient_reaches_answer_positions_only() -> None:
    logits, labels = batch()
    logits.requires_grad_()
    answer_log_probs(logits, labels).tokens.sum().backward()
    assert logits.grad is not None
    touched = logits.grad.abs().sum(-1) > 0
    torch.testing.assert_close(touched[:, :-1], labels[:, 1:] != IGNORE_INDEX)
    assert not touched[:, -1].any()


def test_a_batch_without_answers_keeps_its_graph() -> None:
    logits, labels = batch()
    logits.requires_grad_()
    answers = answer_log_probs(logits, torch.full_like(labels, IGNORE_INDEX))
    answers.tokens.sum().backward()
    assert logits.grad is not None
    assert not logits.grad.any()
