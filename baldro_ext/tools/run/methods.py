"""A method under comparison: a trainer, what it is given beyond its defaults, and the label that tells it apart."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass

from baldro_ext.errors import BaldroError

_LABEL = re.compile(r"[A-Za-z0-9][\w.+-]*")
_METHOD = re.compile(r"(?:(?P<label>[^=:]*)=)?(?P<trainer>[^=:]*)(?::(?P<overrides>.*))?", re.DOTALL)


class StudyError(BaldroError):
    """What a study was asked for has no meaning; the message says what to ask for instead."""

    exit_code = 2


@dataclass(frozen=True)
class Method:
    """One row of a comparison, without its seeds.

    Attributes:
        label: Names its folders and logs: letters, digits and `_.+-`.
        trainer: What stands behind `trainer=`.
        overrides: Hydra overrides of its trainings, beyond those that all methods have.
    """

    label: str
    trainer: str
    overrides: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not _LABEL.fullmatch(self.label):
            raise StudyError(
                f"{self.label!r} cannot be a label, for it names folders: use letters, digits and _.+- as in "
                "DV_radius=BalDRO_DV:..."
            )

    @classmethod
    def parse(cls, text: str) -> Method:
        """Read `[LABEL=]TRAINER[:OVERRIDE ...]`, the overrides separated by spaces and quoted as in a shell.

        Without a label, the trainer and its overrides name the method: `BalDRO_DV:trainer.method_args.dv_beta=5`
        is `BalDRO_DV_dv_beta-5`.

        Raises:
            StudyError: The text is none of that form.
        """
        parts = _METHOD.fullmatch(text.strip())
        try:
            overrides = tuple(shlex.split(parts["overrides"] or "")) if parts else ()
        except ValueError as error:
            raise StudyError(f"cannot read the overrides of {text!r} ({error}): quote them as in a shell") from None
        strange = [override for override in overrides if "=" not in override and not override.startswith("~")]
        if not parts or not parts["trainer"] or strange:
            raise StudyError(
                f"{text!r} is no method: use TRAINER, as in NPO, or [LABEL=]TRAINER:OVERRIDE ..., as in "
                "'DV5=BalDRO_DV:trainer.method_args.dv_beta=5'"
            )
        label = parts["label"] if parts["label"] is not None else _label(parts["trainer"], overrides)
        return cls(label, parts["trainer"], overrides)


def _label(trainer: str, overrides: tuple[str, ...]) -> str:
    last_keys = [re.sub(r"^[+~]*(?:[\w@/]+\.)*(?=\w+(?:=|$))", "", override) for override in overrides]
    return "_".join([trainer, *(re.sub(r"[^\w.+]+", "-", key).strip("-") for key in last_keys)])
