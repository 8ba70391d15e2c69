"""The root of the errors whose message is meant for the person at the keyboard."""

from __future__ import annotations

from typing import ClassVar


class BaldroError(RuntimeError):
    """Something outside the program prevents it; the message says what and what to do, without a traceback."""

    exit_code: ClassVar[int] = 1
    """Status of a command that ends with it; `baldro_ext.tools.cli` says what each means."""
