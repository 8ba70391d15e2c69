"""Base class of errors whose message is meant for the user."""

from __future__ import annotations

from typing import ClassVar


class BaldroError(RuntimeError):
    """The environment or the input prevents an operation; the message says what is wrong and what to do."""

    exit_code: ClassVar[int] = 1
    """Exit code of a command that fails with this error; `baldro_ext.tools.cli` lists their meanings."""
