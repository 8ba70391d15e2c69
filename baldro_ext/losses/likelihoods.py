"""Forget losses over the log-probabilities of the answers."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch.nn.functional as F
from torch import Tensor

from baldro_ext.answers import Answers, Needs, needed
from baldro_ext.losses.base import ForgetLoss, TokenAveraged, register, require


@register
@dataclass(frozen=True)
class NPO(ForgetLoss):
    """Negative preference optimisation: `-(2/beta) log sigmoid(-beta (log pi(y) - log pi_ref(y)))`.

    Source: arXiv:2404.05868, as in `trainer/unlearn/npo.py` of open-unlearning.

    Args:
        beta: Inverse temperature in 1 / nat, positive; the limit at 0 is gradient ascent.
    """

    beta: float = 0.1
    needs_reference: ClassVar[bool] = True

    def __post_init__(self) -> None:
        require(self, "beta", positive=True)

    def __call__(self, answers: Answers, reference: Tensor | None = None) -> Tensor:
        """Return `(B,)` losses, at least 0, and `(2/beta) log 2` if model and reference agree."""
        if reference is None:
            name = type(self).__name__
            raise ValueError(f"{name} needs reference: pass the log_ratios of the model before unlearning, shape (B,)")
        return npo_losses(self.log_ratios(answers), reference, self.beta)


@register
@dataclass(frozen=True)
class SimNPO(ForgetLoss):
    """Simple NPO, without a reference: `-(2/beta) log sigmoid(-(beta/|y|) log pi(y) - beta delta)`.

    Source: arXiv:2410.07163, as in `trainer/unlearn/simnpo.py` of open-unlearning.

    Args:
        beta: Inverse temperature in tokens / nat, positive.
        delta: Margin in nats per token.
    """

    beta: float = 4.5
    delta: float = 0.0

    def __post_init__(self) -> None:
        require(self, "beta", positive=True)
        require(self, "delta")

    def __call__(self, answers: Answers, reference: Tensor | None = None) -> Tensor:
        """Return `(B,)` losses, at least 0."""
        return simnpo_losses(answers.means, self.beta, self.delta)


@register
@dataclass(frozen=True)
class SatImp(TokenAveraged):
    """Saturation and importance: the mean of `p_t^beta1 (1 - p_t)^beta2 log p_t`; only `log p_t` is differentiated.

    Its largest value, 0, is also reached by samples that are already forgotten, so by default the worst case is chosen
    by log-probability instead.
    Source: arXiv:2505.11953, as in `trainer/unlearn/satimp.py` of open-unlearning.

    Args:
        beta1: Exponent of saturation, at least 0.
        beta2: Exponent of importance, at least 0.
    """

    beta1: float = 5.0
    beta2: float = 1.0
    default_hardness: ClassVar[Literal["loss", "nll"]] = "nll"

    def __post_init__(self) -> None:
        require(self, "beta1", at_least_zero=True)
        require(self, "beta2", at_least_zero=True)

    def token_losses(self, answers: Answers) -> Tensor:
        """Return `(B, K)` losses, at most 0."""
        return satimp_token_losses(answers.tokens, self.beta1, self.beta2)


@register
@dataclass(frozen=True)
class GradDiff(TokenAveraged):
    """Gradient ascent on the answers, the forget half of gradient difference: the mean of `log p_t`.

    It is the negative of the NLL and has no lower bound, so samples that are already forgotten keep being pushed.
    Source: arXiv:2203.12817, as in `trainer/unlearn/grad_diff.py` of open-unlearning.
    """

    def token_losses(self, answers: Answers) -> Tensor:
        """Return `(B, K)` losses, at most 0."""
        return answers.tokens


@register
@dataclass(frozen=True)
class WGA(TokenAveraged):
    """Weighted gradient ascent: the mean of `p_t^beta log p_t`; only `log p_t` is differentiated.

    Its largest value, 0, is also reached by samples that are already forgotten, so by default the worst case is chosen
    by log-probability instead.
    Source: arXiv:2502.19301, as in `trainer/unlearn/wga.py` of open-unlearning.

    Args:
        beta: Exponent of a token's probability, at least 0; 0 is gradient ascent.
    """

    beta: float = 1.0
    default_hardness: ClassVar[Literal["loss", "nll"]] = "nll"

    def __post_init__(self) -> None:
        require(self, "beta", at_least_zero=True)

    def token_losses(self, answers: Answers) -> Tensor:
        """Return `(B, K)` losses, at most 0."""
        return satimp_token_losses(answers.tokens, self.beta, beta2=0.0)  # saturation without importance


@register
@dataclass(frozen=True)
class DPO(NPO):
    """Direct preference of another answer: NPO of `r = log pi(y) - log pi(y_alt)` instead of `log pi(y)`.

    The other answer is "I don't know" (IdkDPO) or a plausible wrong one (AltPO). Its reference is not fixed, because
    open-unlearning draws an "I don't know" anew at each read.
    Source: arXiv:2404.05868, as in `trainer/unlearn/dpo.py` of open-unlearning.

    Args:
        beta: Inverse temperature in 1 / nat, positive.
    """

    needs: ClassVar[Needs] = Needs(alternate=True)
    reference_is_fixed: ClassVar[bool] = False

    def log_ratios(self, answers: Answers) -> Tensor:
        """Return `(B,)`, `log pi(y) - log pi(y_alt)` in nats."""
        return answers.sums - needed(answers.alternate, "alternate").sums


# The formulas, as in the pull request of `baldro upstream`; tests/test_upstream.py compares the two.


def npo_losses(log_probs: Tensor, ref_log_probs: Tensor, beta: float) -> Tensor:
    """NPO per sample, from the log-likelihoods of whole answers, shape [n]"""
    return -2 / beta * F.logsigmoid(-beta * (log_probs - ref_log_probs))


def simnpo_losses(mean_log_probs: Tensor, beta: float, delta: float) -> Tensor:
    """SimNPO per sample, from the mean log-probability per answer token, shape [n]"""
    return -2 / beta * F.logsigmoid(-beta * (mean_log_probs + delta))


def satimp_token_losses(log_probs: Tensor, beta1: float, beta2: float) -> Tensor:
    """SatImp per token, from log-probabilities of any shape; 0 where they are 0"""
    probs = log_probs.detach().exp()
    return probs**beta1 * (1 - probs) ** beta2 * log_probs
