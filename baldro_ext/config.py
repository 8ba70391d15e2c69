"""The settings of the method: their names, defaults and checks.

They are the keys of `trainer.method_args` in the YAML files and the keyword arguments of the trainers.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from numbers import Integral, Real
from typing import Any, Literal, get_args, get_origin, get_type_hints

from baldro_ext.answers import Needs
from baldro_ext.losses import FORGET_LOSSES, ForgetLoss, TokenAveraged
from baldro_ext.registry import field_types
from baldro_ext.suggest import known
from baldro_ext.weightings import VARIANTS, TopGroup, Weighting


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything that defines the loss `gamma * robust forget loss + alpha * retain loss`.

    docs/settings.md and the files in `configs/trainer/baldro` describe the settings and their units. What is missing
    there:

    Args:
        variant: The trainer, a key of `weightings.VARIANTS`.
        loss: The forget loss `base`, built from its own arguments.
        weighting: The weighting, built from the variant's own settings.
    """

    variant: str
    base: str = "NPO"
    loss: ForgetLoss
    weighting: Weighting
    gamma: float = 1.0
    alpha: float = 1.0
    retain_budget: float | None = None
    budget_step: float = 0.1
    retain_loss_type: Literal["NLL", "KL", "EMBED_DIFF"] = "NLL"
    hardness: Literal["loss", "nll"] = "loss"
    unit: Literal["sample", "token"] = "sample"
    retain_reduction: Literal["token_mean", "sequence_sum"] = "token_mean"
    retain_batch: Literal["full", "matched"] = "full"
    scope: Literal["batch", "dataset"] = "batch"
    reference: Literal["precomputed", "live"] = "precomputed"

    @property
    def needs_precomputed_reference(self) -> bool:
        """Whether reference log-likelihoods are computed before the first step."""
        return self.loss.needs_reference and self.reference == "precomputed"

    @property
    def needs_scores(self) -> bool:
        """Whether the forget set is scored before the first step."""
        return self.needs_precomputed_reference or self.scope == "dataset"

    @property
    def needs_model_before(self) -> bool:
        """Whether each step runs the model before unlearning, too."""
        live = self.loss.needs_reference and self.reference == "live"
        compared = self.retain_loss_type != "NLL" and self.alpha > 0
        return compared or live or self.loss.needs.before

    @property
    def needs(self) -> Needs:
        """What is read of each pass over forget samples."""
        needs = self.loss.needs
        return replace(needs, log_probs=True) if self.hardness == "nll" else needs

    @property
    def retain_needs(self) -> Needs:
        """What is read of each pass over retain samples."""
        if self.retain_loss_type == "EMBED_DIFF":
            return Needs(log_probs=False, activations=self.loss.needs.activations, before=True)
        return Needs()

    @property
    def identity(self) -> dict[str, str]:
        """The settings that the saved state of the samples depends on: a run resumes only with the same values."""
        own = {name: getattr(self, name) for name in ("variant", "base", "hardness", "unit", "scope", "retain_batch")}
        weighting = {key: getattr(self.weighting, name) for key, name in self.weighting.settings().items()}
        own["retain_budget"] = self.retain_budget
        if self.retain_budget is not None:
            own |= {name: getattr(self, name) for name in ("alpha", "budget_step", "retain_loss_type")}
        values = own | asdict(self.loss) | weighting  # type: ignore[call-overload]
        return {key: str(float(value) if isinstance(value, int) else value) for key, value in values.items()}

    @classmethod
    def parse(cls, variant: str, arguments: Mapping[str, Any]) -> Settings:
        """Check the arguments of a trainer and build its settings.

        Args:
            variant: A key of `weightings.VARIANTS`.
            arguments: Values by key of `trainer.method_args`; `None` means not set.

        Raises:
            ValueError: A key is unknown, belongs to another variant or loss, or has an invalid value. The message
                names the key, the reason and what to set instead.
            ExtensionError: The variant or the forget loss is another package's and cannot be used.
        """
        if _checked("variant", variant, "str") not in VARIANTS:
            raise ValueError(f"variant={variant!r} is unknown: {known(str(variant), VARIANTS)}")
        given = {key: value for key, value in arguments.items() if value is not None}
        base = _checked("base", given.get("base", cls.base), "str")
        if base not in FORGET_LOSSES:
            raise ValueError(f"base={base!r} is not a known forget loss: {known(base, FORGET_LOSSES)}")
        of_weighting, of_loss = VARIANTS[variant].settings(), field_types(FORGET_LOSSES[base])
        own = {key: kind for key, kind in field_types(cls).items() if key not in ("variant", "loss", "weighting")}
        kinds = {key: field_types(VARIANTS[variant])[name] for key, name in of_weighting.items()} | of_loss | own
        names = [*own, *of_loss, *of_weighting]
        if twice := {name for name in names if names.count(name) > 1}:
            raise ValueError(
                f"two settings of {variant} with base={base} are named {', '.join(sorted(twice))}: rename the field of "
                "the forget loss, or that of the weighting by setting_names"
            )
        for key in given:
            if key not in names:
                raise ValueError(_misplaced(key, variant, base, names))
        given = {key: _checked(key, value, kinds[key]) for key, value in given.items()}
        loss = FORGET_LOSSES[base](**{key: given[key] for key in of_loss if key in given})
        given.setdefault("hardness", loss.default_hardness)
        given.setdefault("reference", cls.reference if loss.reference_is_fixed else "live")
        weighting = _weighting(variant, {name: given[key] for key, name in of_weighting.items() if key in given})
        settings = cls(
            variant=variant, loss=loss, weighting=weighting, **{key: given[key] for key in own if key in given}
        )
        settings._check_combinations()
        return settings

    def _check_combinations(self) -> None:
        for name in ("gamma", "alpha"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name}={getattr(self, name)} cannot weight a loss: use a finite number >= 0")
        if self.unit == "token" and not isinstance(self.loss, TokenAveraged):
            able = [name for name, loss in FORGET_LOSSES.usable().items() if issubclass(loss, TokenAveraged)]
            raise ValueError(
                f"unit='token' needs a loss that is a mean over tokens ({', '.join(able)}), but {self.base} scores a "
                "whole answer: use unit=sample"
            )
        if self.unit == "token" and self.scope == "dataset":
            raise ValueError(
                "scope='dataset' keeps one number per sample, but unit='token' chooses among single tokens: use "
                "unit=sample or scope=batch"
            )
        if self.retain_batch == "matched" and self.scope == "dataset":
            raise ValueError(
                "retain_batch='matched' follows the group of a batch, but with scope='dataset' a batch may hold none "
                "of the group: use retain_batch=full or scope=batch"
            )
        if self.reference == "precomputed" and not self.loss.reference_is_fixed:
            raise ValueError(
                f"reference='precomputed' keeps one number per sample, but {self.base} may read another second answer "
                "each time: use reference=live (adapters, as with +peft=lora, avoid the copy of the model)"
            )
        if self.retain_loss_type == "EMBED_DIFF" and self.loss.needs.activations is None:
            raise ValueError(
                f"retain_loss_type='EMBED_DIFF' compares the activations that RMU reads, but {self.base} reads none: "
                "use retain_loss_type=NLL or KL, or base=RMU"
            )
        if self.retain_reduction == "sequence_sum" and self.retain_loss_type != "NLL":
            raise ValueError(
                f"retain_reduction='sequence_sum' sums log-likelihoods, which retain_loss_type={self.retain_loss_type} "
                "does not have: use retain_loss_type=NLL or retain_reduction=token_mean"
            )
        self._check_budget()
        if self.retain_batch == "matched" and not isinstance(self.weighting, TopGroup):
            raise ValueError(
                f"retain_batch='matched' cuts the retain batch to the size of the forget group, but {self.variant} "
                "has no group of fixed size: use retain_batch=full"
            )

    def _check_budget(self) -> None:
        if self.retain_budget is None:
            return
        for name in ("retain_budget", "budget_step"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(
                    f"{name}={getattr(self, name)} is not a positive number: use for example 0.1, or "
                    "retain_budget=null for a fixed alpha"
                )
        if self.alpha == 0:
            raise ValueError(
                "retain_budget adapts alpha by factors, so alpha=0 would stay 0: use alpha=1.0, or retain_budget=null"
            )
        if self.retain_reduction != "token_mean":
            raise ValueError(
                f"retain_budget is in nats per token, but retain_reduction={self.retain_reduction!r} is a sum over "
                "each answer: use retain_reduction=token_mean, or retain_budget=null"
            )


def all_settings() -> set[str]:
    """Return the names of the settings of all methods, also those of other packages."""
    names = {*field_types(Settings)} - {"variant", "loss", "weighting"}
    return names.union(
        *(weighting.settings() for weighting in VARIANTS.usable().values()),
        *(field_types(loss) for loss in FORGET_LOSSES.usable().values()),
    )


_CHOICES = {key: get_args(hint) for key, hint in get_type_hints(Settings).items() if get_origin(hint) is Literal}


def _weighting(variant: str, arguments: dict[str, Any]) -> Weighting:
    """Build a variant's weighting; its errors name settings instead of fields."""
    weighting = VARIANTS[variant]
    try:
        return weighting(**arguments)
    except ValueError as error:
        # The weighting's beta is dv_beta here, and beta is the forget loss's.
        keys = {name: key for key, name in weighting.settings().items()}
        message = re.sub(r"\w+", lambda match: keys.get(match[0], match[0]), str(error))
        raise ValueError(f"{variant}: {message}") from None


def _misplaced(key: str, variant: str, base: str, accepted: Iterable[str]) -> str:
    """Return an error message for an unknown key, which says where the key belongs if it exists elsewhere."""
    for other, weighting in VARIANTS.usable().items():
        if key in weighting.settings():
            taken = " or ".join(VARIANTS[variant].settings()) or "none of its own"
            return f"{key} is a setting of {other}, not of {variant}, which takes {taken}"
    owners = [name for name, loss in FORGET_LOSSES.usable().items() if key in field_types(loss)]
    if owners:
        taken = ", ".join(field_types(FORGET_LOSSES[base])) or "none of its own"
        return f"{key} is an argument of {' and '.join(owners)}, not of base={base}, which takes {taken}"
    return f"{key} is not a setting of {variant} with base={base}: {known(key, accepted)}"


def _checked(key: str, value: Any, kind: str) -> Any:
    """Check the value of a setting and return it; types that are not named here are left to their class."""
    if key in _CHOICES:
        if value not in _CHOICES[key]:
            raise ValueError(f"{key}={value!r} is not supported: use {' or '.join(_CHOICES[key])}")
    elif kind.startswith(("int", "float")):
        return _number(key, value, whole=kind.startswith("int"))
    elif kind == "str" and not isinstance(value, str):
        raise ValueError(f"{key}={value!r} is not a name: use one word")
    elif kind.startswith("tuple") and not _are_names(value):
        raise ValueError(f"{key}={value!r} is not a list of names: write it as [first, second]")
    return value


def _are_names(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str) and all(isinstance(name, str) for name in value)


def _number(key: str, value: Any, *, whole: bool) -> int | float:
    """Return a number, which may be text, as on a command line, or `.inf` as in YAML."""
    number: Any = value
    if isinstance(value, str):
        with suppress(ValueError):
            number = float(value.lower().replace(".inf", "inf"))
    if isinstance(number, bool) or not isinstance(number, Real):
        raise ValueError(f"{key}={value!r} is not a number: write it as 2.0, 1e-1 or .inf")
    try:
        exact = float(number)
    except OverflowError:
        exact = math.inf
    if math.isinf(exact) and "inf" not in str(value).lower():
        raise ValueError(f"{key} is too large for a number: use a smaller one, or .inf for the limit")
    if whole and not exact.is_integer():
        raise ValueError(f"{key}={value} is not a whole number: use for example {key}=1")
    return int(exact) if whole or isinstance(number, Integral) else exact
