"""The method's arguments: the one home of their names, defaults and checks.

They are the keys of `trainer.method_args` in the YAML and the keyword arguments of the trainers.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from baldro_ext.losses import FORGET_LOSSES, ForgetLoss, TokenAveraged, argument_names, forget_loss
from baldro_ext.suggest import known
from baldro_ext.weightings import DonskerVaradhan, TopGroup, Weighting

VARIANTS: dict[str, tuple[type[Weighting], dict[str, str]]] = {
    "BalDRO_DV": (DonskerVaradhan, {"dv_beta": "beta", "dv_radius": "radius"}),
    "BalDRO_G": (TopGroup, {"top_fraction": "fraction", "group_size": "size"}),
}
"""Each trainer's weighting, and the weighting's arguments by the name they have as settings."""

_PAPER: dict[str, dict[str, Any]] = {"BalDRO_DV": {"dv_beta": 2.0}}
"""Where the weighting has no default of its own: the paper's choice, if none of its arguments is set."""

_CHOICES = {
    "retain_loss_type": ("NLL", "KL"),
    "hardness": ("loss", "nll"),
    "unit": ("sample", "token"),
    "retain_reduction": ("token_mean", "sequence_sum"),
    "retain_batch": ("full", "matched"),
    "scope": ("batch", "dataset"),
    "reference": ("precomputed", "live"),
}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything that defines the loss `gamma * robust forget loss + alpha * retain loss`.

    Args:
        variant: The trainer, a key of `VARIANTS`.
        base: Name of the forget loss, a key of `losses.FORGET_LOSSES`.
        loss: The forget loss, built from the base's own arguments.
        weighting: The worst case, built from the variant's own arguments.
        gamma: Weight of the forget loss, at least 0 (lambda of the paper is `alpha / gamma`).
        alpha: Weight of the retain loss, at least 0.
        retain_loss_type: `NLL`, or `KL` to the model before unlearning.
        hardness: What the worst case is chosen by: `loss` or `nll`; by default what the forget loss itself says.
        unit: What the worst case ranges over: `sample` or `token`.
        retain_reduction: `token_mean`, as open-unlearning; or `sequence_sum`, the mean over samples of
            summed log-likelihoods, as the released DV trainers of NPO and SatImp.
        retain_batch: `full`, or `matched` for as many random retain samples as the group keeps forget
            samples, as the released group trainers.
        scope: Where the worst case is sought: `batch` for the samples of one forward pass on all ranks, as
            the paper's code; or `dataset` for the whole forget set, by the latest loss of each sample.
        reference: How NPO's reference log-likelihoods are obtained: `precomputed` before the first step, or `live`
            from a copy of the model, as open-unlearning.
    """

    variant: str
    base: str = "NPO"
    loss: ForgetLoss
    weighting: Weighting
    gamma: float = 1.0
    alpha: float = 1.0
    retain_loss_type: Literal["NLL", "KL"] = "NLL"
    hardness: Literal["loss", "nll"] = "loss"
    unit: Literal["sample", "token"] = "sample"
    retain_reduction: Literal["token_mean", "sequence_sum"] = "token_mean"
    retain_batch: Literal["full", "matched"] = "full"
    scope: Literal["batch", "dataset"] = "batch"
    reference: Literal["precomputed", "live"] = "precomputed"

    @property
    def needs_precomputed_reference(self) -> bool:
        """Whether the forget loss reads reference log-likelihoods that were computed before the first step."""
        return self.loss.needs_reference and self.reference == "precomputed"

    @property
    def needs_scores(self) -> bool:
        """Whether the forget set is scored before the first step."""
        return self.needs_precomputed_reference or self.scope == "dataset"

    @property
    def needs_model_before(self) -> bool:
        """Whether training compares with the model before unlearning itself, in each step."""
        return self.retain_loss_type == "KL" or (self.loss.needs_reference and self.reference == "live")

    @property
    def identity(self) -> dict[str, str]:
        """What the numbers that outlive a step depend on, by the names of the settings: a run resumes only with
        these."""
        own = {name: getattr(self, name) for name in ("variant", "base", "hardness", "unit", "scope", "retain_batch")}
        weighting = {key: getattr(self.weighting, name) for key, name in VARIANTS[self.variant][1].items()}
        values = own | asdict(self.loss) | weighting  # type: ignore[call-overload]
        return {key: str(float(value) if isinstance(value, int) else value) for key, value in values.items()}

    @classmethod
    def parse(cls, variant: str, arguments: Mapping[str, Any]) -> Settings:
        """Check the arguments of a trainer and build its settings.

        Args:
            variant: A key of `VARIANTS`.
            arguments: The keys of `trainer.method_args`; `None` counts as not set.

        Raises:
            ValueError: A key is unknown, belongs elsewhere, or has a value that cannot work. The message
                names the key, the reason and what to set instead.
        """
        if variant not in VARIANTS:
            raise ValueError(f"variant={variant!r} is none: {known(str(variant), VARIANTS)}")
        given = {key: _plain(key, value) for key, value in arguments.items() if value is not None}
        if not VARIANTS[variant][1].keys() & given.keys():
            given |= _PAPER.get(variant, {})
        base = given.get("base", cls.base)
        weighting_class, weighting_names = VARIANTS[variant]
        base_names = argument_names(base)
        common = {field.name for field in fields(cls)} - {"variant", "loss", "weighting"}
        for key in given:
            if key not in {*common, *base_names, *weighting_names}:
                raise ValueError(_misplaced(key, variant, base, [*common, *base_names, *weighting_names]))
        for key, value in given.items():
            _check_type(key, value)

        loss = forget_loss(base, **{key: given[key] for key in base_names if key in given})
        given.setdefault("hardness", loss.default_hardness)
        try:
            weighting = weighting_class(**{new: given[key] for key, new in weighting_names.items() if key in given})
        except ValueError as error:
            # In the words of the settings: beta alone would be taken for the base loss's own.
            own_words = {new: key for key, new in weighting_names.items()}
            message = re.sub(rf"\b({'|'.join(own_words)})\b", lambda match: own_words[match[0]], str(error))
            raise ValueError(f"{variant}: {message}") from None
        settings = cls(
            variant=variant, loss=loss, weighting=weighting, **{key: given[key] for key in common if key in given}
        )
        settings._check_combinations()
        return settings

    def _check_combinations(self) -> None:
        for name in ("gamma", "alpha"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name}={getattr(self, name)} is no weight of a loss term: use a finite number >= 0")
        if self.unit == "token" and not isinstance(self.loss, TokenAveraged):
            able = [name for name, loss in FORGET_LOSSES.items() if issubclass(loss, TokenAveraged)]
            raise ValueError(
                f"unit='token' needs a loss that is a mean over tokens ({', '.join(able)}), and {self.base} scores a "
                "whole answer: use unit=sample"
            )
        if self.unit == "token" and self.scope == "dataset":
            raise ValueError(
                "scope='dataset' keeps one number per sample, and unit='token' chooses among single tokens: use "
                "unit=sample or scope=batch"
            )
        if self.retain_batch == "matched" and self.scope == "dataset":
            raise ValueError(
                "retain_batch='matched' follows the group of a batch, and with scope='dataset' a batch may hold none "
                "of the group: use retain_batch=full or scope=batch"
            )
        if self.retain_reduction == "sequence_sum" and self.retain_loss_type != "NLL":
            raise ValueError(
                f"retain_reduction='sequence_sum' sums log-likelihoods, which retain_loss_type={self.retain_loss_type} "
                "does not have: use retain_loss_type=NLL or retain_reduction=token_mean"
            )
        if self.retain_batch == "matched" and not isinstance(self.weighting, TopGroup):
            raise ValueError(
                f"retain_batch='matched' cuts the retain batch to the size of the forget group, and {self.variant} "
                "keeps every forget sample: use retain_batch=full"
            )


def _misplaced(key: str, variant: str, base: str, accepted: list[str]) -> str:
    """Say where a key that does not belong here belongs."""
    for other, (_, names) in VARIANTS.items():
        if key in names:
            return f"{key} is a setting of {other}, not of {variant}, which takes {' or '.join(VARIANTS[variant][1])}"
    owners = [name for name in FORGET_LOSSES if key in argument_names(name)]
    if owners:
        own = argument_names(base)
        taken = ", ".join(own) or "none of its own"
        return f"{key} is an argument of {' and '.join(owners)}, not of base={base}, which takes {taken}"
    return f"{key} is no setting of {variant} with base={base}: {known(key, accepted)}"


def _plain(key: str, value: Any) -> Any:
    """Read numbers that a command line passes on as text, infinity as YAML writes it among them."""
    if isinstance(value, str) and _is_number(key):
        try:
            return float(value.lower().replace(".inf", "inf"))
        except ValueError:
            pass
    return value


def _is_number(key: str) -> bool:
    return key not in _CHOICES and key not in ("base", "group_size")


def _check_type(key: str, value: Any) -> None:
    if key in _CHOICES:
        if value not in _CHOICES[key]:
            raise ValueError(f"{key}={value!r} is not supported: use {' or '.join(_CHOICES[key])}")
    elif _is_number(key) and (isinstance(value, bool) or not isinstance(value, (int, float))):
        raise ValueError(f"{key}={value!r} is no number: write it as 2.0, 1e-1 or .inf")
