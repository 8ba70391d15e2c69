"""A method of a comparison: a trainer with overrides and a label."""

from __future__ import annotations

import math
import re
import shlex
from dataclasses import dataclass, replace

from baldro_ext.errors import UsageError

_METHOD = re.compile(r"(?:(?P<label>[^=:]*)=)?(?P<trainer>[^=:]+)(?::(?P<overrides>.*))?", re.DOTALL)
_KEY_PREFIX = re.compile(r"^[+~]*(?:[\w@/]+\.)*(?=\w+(?:=|$))")
_RATE = "trainer.args.learning_rate"


@dataclass(frozen=True)
class Method:
    """One row of a comparison, without its seeds."""

    label: str  # names its folders and logs: letters, digits and `_.+-`
    trainer: str  # what stands behind `trainer=`
    overrides: tuple[str, ...] = ()  # of Hydra for its trainings, beyond those that all methods have

    def __post_init__(self) -> None:
        # File systems allow 255 bytes for a name, and those of logs are longer than their label.
        if not re.fullmatch(r"[A-Za-z0-9][\w.+-]{,199}", self.label, re.ASCII):
            raise UsageError(
                f"{self.label[:50]!r} ({len(self.label)} characters) cannot be a label, for it names folders: use at "
                "most 200 letters, digits and _.+- as in 'DV_radius=BalDRO_DV:...'"
            )

    @classmethod
    def parse(cls, text: str) -> Method:
        """Read `[LABEL=]TRAINER[:OVERRIDE ...]`, the overrides separated by spaces and quoted as in a shell.

        Without a label, the trainer and its overrides name the method: `BalDRO_DV:trainer.method_args.dv_beta=5`
        is `BalDRO_DV_dv_beta-5`.
        """
        parts = _METHOD.fullmatch(text.strip())
        try:
            overrides = tuple(shlex.split(parts["overrides"] or "")) if parts else ()
        except ValueError as error:
            raise UsageError(f"cannot read the overrides of {text!r} ({error}): quote them as in a shell") from None
        if not parts or any("=" not in override and not override.startswith("~") for override in overrides):
            raise UsageError(
                f"{text!r} is not a method: use TRAINER, as in NPO, or [LABEL=]TRAINER:OVERRIDE ..., as in "
                "'DV5=BalDRO_DV:trainer.method_args.dv_beta=5'"
            )
        short = [re.sub(r"[^\w.+]+", "-", _KEY_PREFIX.sub("", override)).strip("-") for override in overrides]
        label = "_".join([parts["trainer"], *short]) if parts["label"] is None else parts["label"]
        return cls(label, parts["trainer"], overrides)

    def at_rates(self, rates: tuple[str, ...], common: tuple[str, ...] = ()) -> tuple[Method, ...]:
        """Return this method with each learning rate, labelled as in `NPO_lr2e-4`; itself if there is no rate.

        `common` are the overrides of all trainings, which may not set the rate either.
        """
        if wrong := [it for it in rates if not (re.fullmatch(r"\d*\.?\d+(e-?\d+)?", it) and 0 < float(it) < math.inf)]:
            raise UsageError(f"--learning-rates: {wrong[0]!r} is not a learning rate: use decimals, as in 1e-4,2e-4")
        twice = [it for it in (*common, *self.overrides) if it.lstrip("+~").partition("=")[0] == _RATE]
        if rates and twice:
            raise UsageError(f"{twice[0]!r} and --learning-rates both set the rate of {self.label}: use one of them")
        grid = [(f"{self.label}_lr{rate}", f"{_RATE}={rate}") for rate in rates]
        return tuple(replace(self, label=label, overrides=(*self.overrides, it)) for label, it in grid) or (self,)
