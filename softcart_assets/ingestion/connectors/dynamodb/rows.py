"""Items as rows: kept in a file until their columns are known, then batches of typed values."""

from __future__ import annotations

import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import pyarrow as pa

from softcart_assets.ingestion.connectors.dynamodb.columns import DOCUMENT, REMOVED_BY
from softcart_assets.ingestion.connectors.dynamodb.names import others_column
from softcart_assets.ingestion.connectors.dynamodb.values import (
    ESCAPED_NUL_IN_JSON,
    Item,
    Value,
    document_text,
    fit,
    key_text,
    packed,
    type_of,
    unpacked,
)
from softcart_assets.ingestion.types import Batch, Column, Rejected, Unfit
from softcart_assets.lines.model import Table

_BATCH_ROWS = 5_000
_BATCH_BYTES = 8 << 20


class Spool:
    """Items in a temporary file, and the types of their attributes."""

    def __init__(self, items: Iterable[Item] = ()) -> None:
        self.types: dict[str, Counter[str]] = defaultdict(Counter)
        # `items` closes it, after the last one.
        self._file = tempfile.TemporaryFile()  # noqa: SIM115
        for item in items:
            self.add(item)

    def add(self, item: Item) -> None:
        """Add an item."""
        for name, value in item.items():
            if type_ := type_of(value):
                self.types[name][type_] += 1
        self._file.write(packed(item))

    def rows(self, table: Table, columns: Sequence[Column]) -> Iterator[Batch]:
        """Yield the items as batches. The spool is gone afterwards."""
        with self._file:
            self._file.seek(0)
            while lines := self._file.readlines(_BATCH_BYTES):
                items = map(unpacked, lines)
                while some := list(islice(items, _BATCH_ROWS)):
                    yield batch_of(table, columns, some)


def batch_of(table: Table, columns: Sequence[Column], items: Sequence[Item]) -> Batch:
    """Return items as a batch. An item is rejected as a whole if a value of it does not fit."""
    rows, rejected = [], []
    names = {column.name for column in columns}
    others = {name: others_column(name) for name in names if others_column(name) in names}
    for item in items:
        row, reasons = _fitted(columns, others, item)
        if not reasons:
            rows.append(row)
            continue
        rejected.append(
            Rejected(
                None if reasons.keys() & {*table.key} else key_of(table, item),
                None,
                # The whole item has the value that does not fit, too. The attribute says more.
                next((name for name in reasons if name != DOCUMENT.name), DOCUMENT.name),
                "; ".join(f"{name}: {reason}" for name, reason in reasons.items()),
                {DOCUMENT.name: document_text(item)},
            )
        )
    values = zip(*rows, strict=True) if rows else [()] * len(columns)
    arrays = [pa.array(v, c.arrow_type) for c, v in zip(columns, values, strict=True)]
    return Batch(pa.RecordBatch.from_arrays(arrays, names=[c.name for c in columns]), rejected)


def key_of(table: Table, item: Mapping[str, Value]) -> tuple[str, ...]:
    """Return an item's key, as PostgreSQL prints it."""
    return tuple(key_text(item[name]) for name in table.key)


def _fitted(
    columns: Sequence[Column], others: Mapping[str, str], item: Item
) -> tuple[list[Any], dict[str, str]]:
    """Return an item's values for the columns, and the columns with values that do not fit."""
    row: dict[str, Any] = {}
    reasons: dict[str, str] = {}
    second = {*others.values()}
    for column in columns:
        if column.name == DOCUMENT.name:
            text = document_text(item)
            if ESCAPED_NUL_IN_JSON.search(text):
                reasons[column.name] = "NUL character, which PostgreSQL's jsonb cannot hold"
            row[column.name] = text
            continue
        # No attribute has a column of ours, or of other values, as its own.
        if column.name in second or column.name == REMOVED_BY.name:
            continue
        value = item.get(column.name)
        try:
            row[column.name] = fit(column, value)
        except Unfit as unfit:
            if column.name not in others:
                reasons[column.name] = str(unfit)
                continue
            try:
                text_column = Column(others[column.name], "", "text")
                row[text_column.name] = fit(text_column, value)
            except Unfit as still:
                reasons[column.name] = str(still)
    return [row.get(column.name) for column in columns], reasons
