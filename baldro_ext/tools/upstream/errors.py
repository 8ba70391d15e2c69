"""Why no pull request is made."""

from __future__ import annotations

from baldro_ext.errors import BaldroError


class RefusedError(BaldroError):
    """The checkout is not one that may be changed: dirty, of an unknown commit, or no checkout at all."""

    exit_code = 4


class StructureError(RefusedError):
    """A file of the checkout lacks the place where the edit belongs."""

    def __init__(self, file: str, sought: str) -> None:
        super().__init__(f"{file} was left as it is: it holds no {sought.removeprefix('a ').removeprefix('an ')}")
