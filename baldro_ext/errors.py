"""Base class of errors whose message is meant for the user, and the remedy for a missing package."""

from __future__ import annotations

import shlex
from importlib import metadata
from pathlib import Path
from typing import ClassVar


class BaldroError(RuntimeError):
    """The environment or the input prevents an operation; the message says what is wrong and what to do."""

    exit_code: ClassVar[int] = 1
    """Exit code of a command that fails with this error; `baldro_ext.tools.cli` lists their meanings."""


def install_command(extra: str = "") -> str:
    """Return the command that installs what this package needs, with or without one of its extras."""
    try:
        metadata.version("baldro-ext")
        source = "baldro_ext"  # which is on no index: pip finds it among what is installed
    except metadata.PackageNotFoundError:  # run from its source
        source = str(Path(__file__).parents[1])
    return f"pip install {shlex.quote(f'{source}[{extra}]' if extra else source)}"
