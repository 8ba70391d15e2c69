"""What can stand in the way of a comparison."""

from __future__ import annotations

from baldro_ext.errors import BaldroError


class NothingToCompareError(BaldroError):
    """An argument names no run, or a metric or baseline that no run has."""

    exit_code = 2


class BrokenFileError(BaldroError):
    """A file of a run cannot be read; the message names it."""


class MixedRunsError(BaldroError):
    """The runs differ in what makes them comparable; the message says in what, and how to compare nevertheless."""

    exit_code = 4


class ForeignFileError(BaldroError):
    """A file of somebody else stands where the comparison would write."""

    exit_code = 4
