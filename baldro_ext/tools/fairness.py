"""What makes a comparison of trainers unfair without a sign of it in the numbers."""

from importlib.metadata import entry_points

from packaging.version import Version

from baldro_ext.registry import WEIGHTINGS

_AVERAGING = ("BalDRO", "FinetuneTrainer", "Trainer")
"""Beginnings of the handlers that average over accumulation steps in every version."""


def unfair_accumulation(handler: str, steps: int, transformers_version: str | None) -> str | None:
    """Say that a trainer's gradient grows with the accumulation steps, or return `None` where it does not.

    With transformers 4.46 to 4.52 the framework's own unlearning trainers add up the losses of the micro-batches, and
    BalDRO's average them: docs/bugs/accumulation.md.

    Args:
        handler: `trainer.handler`, such as `NPO`.
        steps: `trainer.args.gradient_accumulation_steps`.
        transformers_version: Such as `4.51.3`; `None` where it is unknown.
    """
    if steps < 2 or handler.startswith(_AVERAGING):
        return None
    try:
        release = Version(transformers_version or "").release[:2]
    except ValueError:  # what is no version
        does, where = "may multiply", "it does so with transformers 4.46 to 4.52, and the version is unknown"
    else:
        if not (4, 46) <= release <= (4, 52):
            return None
        does, where = "multiplies", f"transformers {transformers_version}"
    if handler in entry_points(group=WEIGHTINGS).names:  # last, because it reads the metadata of all packages
        return None
    return (
        f"{handler} {does} loss and gradient by gradient_accumulation_steps={steps} ({where}), BalDRO's trainers do "
        "not: train it with +accumulation=averaged, as baldro run does, or all with "
        "trainer.args.gradient_accumulation_steps=1"
    )
