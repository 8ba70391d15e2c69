"""Why runs cannot be compared."""

from __future__ import annotations

from baldro_ext.errors import BaldroError


class NothingToCompareError(BaldroError):
    """An argument names no run, or a metric or baseline that no run has."""

    exit_code = 2


class BrokenFileError(BaldroError):
    """A file of a run cannot be read; the message names it."""


class MixedRunsError(BaldroError):
    """The runs differ in something that makes their numbers incomparable; the message lists the differences."""

    exit_code = 4
