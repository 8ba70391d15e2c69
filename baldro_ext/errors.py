"""Errors whose message is meant for the user, by exit code, and the remedy for a missing package."""

import shlex
from importlib import metadata
from pathlib import Path
from typing import ClassVar


class BaldroError(RuntimeError):
    """The environment or the input prevents an operation; the message says what is wrong and what to do."""

    exit_code: ClassVar[int] = 1
    """Exit code of a command that fails with this error; `baldro_ext.tools.cli` lists their meanings."""


class UsageError(BaldroError):
    """What was asked for does not exist or has no meaning."""

    exit_code = 2


class UnreachableError(BaldroError):
    """What has to be fetched cannot be reached, or is not the pinned one."""

    exit_code = 3


class RefusedError(BaldroError):
    """Somebody else's files would be replaced, or what does not belong together would be compared."""

    exit_code = 4


def install_command(extra: str = "") -> str:
    """Return the command that installs what this package needs, with or without one of its extras."""
    try:
        metadata.version("baldro-ext")
        source = "baldro_ext"  # which is on no index: pip finds it among what is installed
    except metadata.PackageNotFoundError:  # run from its source
        source = str(Path(__file__).parents[1])
    return f"pip install {shlex.quote(f'{source}[{extra}]' if extra else source)}"
