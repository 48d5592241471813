"""Compares an extract with its database: its rows, and sums that its SQL should lose nothing of."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow.compute
import pyarrow.parquet

from softcart_assets.lines.model import Extract

Figures = dict[str, list[str]]
"""Column, or "rows" → the figure of the Parquet file, and that of production, as texts."""


def compared(
    row_of: Callable[[str], Sequence[Any]], extract: Extract, rows: int, parquet: Path
) -> Figures:
    """The figures of a file that was just written, and those of the database that it is made of.

    `row_of`: gives the row of a query, at the same moment. `rows`: how many the database gave. A
    file of production is compared once: while it is the same and production has the same rows, the
    result is, too.
    """
    with pyarrow.parquet.ParquetFile(parquet) as file:
        found = {"rows": [str(file.metadata.num_rows), str(rows)]}
        for columns, query in _queries(extract):
            for column, total in zip(columns, row_of(query), strict=True):
                # The sum of no rows is null.
                found[column] = [_sum(file, column), str(total or 0)]
    # As they are declared, so that people find them.
    return {name: found[name] for name in ("rows", *extract.totals)}


def _queries(extract: Extract) -> Iterator[tuple[list[str], str]]:
    """Columns, and the query for their totals: one for all that come from the same rows."""
    sums: dict[str, dict[str, str]] = {}
    for column, source in extract.totals.items():
        figure, rows = re.split(r"\s+FROM\s+", source, maxsplit=1)
        sums.setdefault(rows, {})[column] = figure
    for rows, figures in sums.items():
        yield list(figures), f"SELECT {', '.join(figures.values())} FROM {rows}"


def differing(figures: Figures) -> list[str]:
    """The names of the figures that are not the same number on both sides."""
    return [name for name, (ours, theirs) in figures.items() if Decimal(ours) != Decimal(theirs)]


def _sum(file: pyarrow.parquet.ParquetFile, column: str) -> str:
    """The sum of a column, read in pieces: an extract may be larger than the memory."""
    batches = file.iter_batches(columns=[column])
    return str(sum(pyarrow.compute.sum(batch[column]).as_py() or 0 for batch in batches))
