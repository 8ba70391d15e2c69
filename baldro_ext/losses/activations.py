"""Forget losses over a layer's activations."""

import re
from dataclasses import dataclass

import torch
from torch import Tensor

from baldro_ext.answers import Answers, Needs, needed
from baldro_ext.losses.base import TokenAveraged, precise, register, require


@register
@dataclass(frozen=True)
class RMU(TokenAveraged):
    """Representation misdirection: the mean squared distance of a layer's activations to a fixed random vector.

    The squares are averaged over the layer's dimensions and the answer tokens. The vector has non-negative entries and
    the length `steering_coeff`.
    Source: arXiv:2403.03218, as in `trainer/unlearn/rmu.py` of open-unlearning.

    Args:
        module_regex: Regular expression for the full name of the module that is read.
        trainable_params_regex: Regular expressions for the full names of the parameters to train; the others are
            frozen. With adapters, the adapters are trained instead.
        steering_coeff: Length of the vector, at least 0.
        steering_seed: Seed of the vector.
    """

    module_regex: str = r"model\.layers\.7"
    trainable_params_regex: tuple[str, ...] = (r"model\.layers\.(5|6|7)\.mlp\.down_proj\.weight",)
    steering_coeff: float = 20.0
    steering_seed: int = 0

    def __post_init__(self) -> None:
        require(self, "steering_coeff", at_least_zero=True)
        require(self, "steering_seed", at_least_zero=True)
        object.__setattr__(self, "trainable_params_regex", tuple(self.trainable_params_regex))
        for name, patterns in (
            ("module_regex", [self.module_regex]),
            ("trainable_params_regex", self.trainable_params_regex),
        ):
            if not patterns or not all(patterns):
                raise ValueError(rf"{name} is empty, which is not valid for RMU: use names such as model\.layers\.7")
            for pattern in patterns:
                try:
                    re.compile(pattern)
                except re.error as error:
                    raise ValueError(
                        f"{name}={pattern!r} is not a regular expression ({error}): use names such as model.layers"
                    ) from None

    @property
    def needs(self) -> Needs:  # type: ignore[override]
        """The module's outputs, and no logits."""
        return Needs(log_probs=False, activations=self.module_regex)

    def counted(self, answers: Answers) -> Tensor:
        """Return `(B, K)` bool, the answer tokens' own positions."""
        return needed(answers.own, "activations")

    def steering_vector(self, size: int) -> Tensor:
        """Return the vector, `(size,)` float32 on the CPU."""
        vector = torch.rand(size, generator=torch.Generator().manual_seed(self.steering_seed))
        steering: Tensor = vector * (self.steering_coeff / vector.norm())
        return steering

    def token_losses(self, answers: Answers) -> Tensor:
        """Return `(B, K)` losses, at least 0."""
        activations = needed(answers.activations, "activations")
        return _distances(activations, self.steering_vector(activations.shape[-1]).to(activations.device))


def activation_distances(answers: Answers) -> Tensor:
    """Return `(B,)`, how far the activations have moved since before unlearning, as RMU's retain loss measures it.

    The squares are averaged over the layer's dimensions and the answer tokens.
    """
    before = needed(needed(answers.before, "before").activations, "activations")
    own = needed(answers.own, "activations")
    distances = _distances(needed(answers.activations, "activations"), before)
    return (distances * own).sum(-1) / own.sum(-1).clamp(min=1)


def _distances(activations: Tensor, target: Tensor) -> Tensor:
    return ((precise(activations) - target) ** 2).mean(-1)
