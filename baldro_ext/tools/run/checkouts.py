"""Which checkout of the framework a study uses: the pinned one that fits the installed transformers."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

from baldro_ext.tools import framework
from baldro_ext.tools.run.methods import StudyError


def find(checkout: Path | None = None) -> Path:
    """Return a checkout: the given one, or the pinned generation made for the installed transformers.

    Raises:
        StudyError: The given folder is no checkout.
        FrameworkError: No generation is made for these transformers, or it is not installed.
    """
    if checkout is not None:
        if not (checkout / "src" / "train.py").is_file():
            raise StudyError(f"{checkout} is no checkout of open-unlearning: it has no src/train.py")
        return checkout.absolute()
    return framework.checkout(framework.made_for(metadata.version("transformers")))
