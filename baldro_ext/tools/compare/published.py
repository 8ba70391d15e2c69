"""Numbers from papers, to stand below one's own."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from baldro_ext.tools.compare.errors import BrokenFileError
from baldro_ext.tools.compare.fields import is_number, printable

_COLUMNS = ["method", "metric", "value", "seed", "source"]


def read_published(file: Path | None) -> pd.DataFrame:
    """Return the rows of a CSV file with columns method, metric, value, and optionally seed and source.

    Raises:
        BrokenFileError: The file is no such table, or a value is no number.
    """
    if file is None:
        return pd.DataFrame(columns=_COLUMNS)
    try:
        table = pd.read_csv(file, dtype=str, keep_default_na=False, skipinitialspace=True)
    except (OSError, ValueError) as error:  # pandas' own errors are ValueErrors
        raise BrokenFileError(f"cannot read {file}: {error}. It needs columns method, metric and value") from None
    if lacking := [name for name in _COLUMNS[:3] if name not in table]:
        raise BrokenFileError(f"{file} has no column {' and '.join(lacking)}: name the columns in its first line")
    table = table.reindex(columns=_COLUMNS, fill_value="").map(printable)
    table["value"] = pd.to_numeric(table["value"], errors="coerce").astype(float)
    bad = table.index[(table[["method", "metric"]] == "").any(axis=1) | ~table["value"].map(is_number)]
    if len(bad):
        raise BrokenFileError(f"{file}, line {bad[0] + 2}: every row needs a method, a metric and a number as value")
    return table
