"""Numbers from papers, to stand below one's own."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from baldro_ext.tools.compare.errors import BrokenFileError
from baldro_ext.tools.compare.fields import is_number, printable

_COLUMNS = ("method", "metric", "value", "seed", "source")


def read_published(file: Path | None) -> pd.DataFrame:
    """Return the rows of a CSV file with columns method, metric, value, and optionally seed and source.

    Raises:
        BrokenFileError: The file is no such table, or a value is no number.
    """
    if file is None:
        return pd.DataFrame(columns=list(_COLUMNS))
    try:
        table = pd.read_csv(file, dtype=str, keep_default_na=False, skipinitialspace=True)
    except (OSError, ValueError) as error:  # pandas' own errors are ValueErrors
        raise BrokenFileError(f"cannot read {file}: {error}. It needs columns method, metric and value") from None
    if lacking := [name for name in _COLUMNS[:3] if name not in table]:
        raise BrokenFileError(f"{file} has no column {' and '.join(lacking)}: name the columns in its first line")
    table = table.reindex(columns=list(_COLUMNS), fill_value="").map(printable)
    values = pd.to_numeric(table["value"], errors="coerce").astype(float)
    for line, (method, metric, value) in enumerate(zip(table["method"], table["metric"], values, strict=True), start=2):
        if not method or not metric or not is_number(value):
            raise BrokenFileError(f"{file}, line {line}: every row needs a method, a metric and a number as value")
    return table.assign(value=values)
