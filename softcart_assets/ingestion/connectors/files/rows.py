"""Turns a file's records into typed rows of raw, by its header and the declared types."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from softcart_assets.ingestion.connectors.files.content import Unreadable
from softcart_assets.ingestion.connectors.files.folder import FILE, LINE
from softcart_assets.ingestion.connectors.files.lines import Lines, Records
from softcart_assets.ingestion.connectors.files.names import format_of
from softcart_assets.ingestion.types import Batch, Column, Kind, Rejected, parse_rows
from softcart_assets.lines.model import Table

_WITH_ZONE = r":\d\d(\.\d+)?(Z|[+-]\d\d(:?\d\d)?)$"
"""The end of a time with its distance from UTC."""


@dataclass(frozen=True)
class Header:
    """The columns of a file, in its order, and how they differ from those that raw has."""

    names: Sequence[str]
    added: Sequence[str]
    missing: Sequence[str]

    @classmethod
    def of(cls, lines: Lines, table: Table, columns: Sequence[Column]) -> Header:
        """Take the header of a file, or the declared one. Raises `Unreadable` if it cannot be used.

        `columns`: those of raw.
        """
        declared = [column.name for column in table.columns]
        known = {column.name for column in columns} - {FILE.name, LINE.name}
        names = lines.header() if format_of(table).header else declared
        if twice := next((name for place, name in enumerate(names) if name in names[:place]), None):
            raise Unreadable(f"line 1: the header has the column {twice!r} twice")
        found = cls(
            names,
            [name for name in names if name not in known],
            [name for name in declared if name not in names],
        )
        needed = {*table.key, table.cursor} if table.contract != "freeze" else set(declared)
        if without := [name for name in found.missing if name in needed]:
            raise Unreadable(f"line 1: the header has no column {', '.join(map(repr, without))}")
        if found.added and table.contract == "freeze":
            raise Unreadable(
                f"line 1: the header has the column {found.added[0]!r}, which the table does not "
                "have, and its contract is 'freeze'. Declare the column"
            )
        if unnamed := [place for place, name in enumerate(names, start=1) if not name]:
            raise Unreadable(f"line 1: column {unnamed[0]} of the header has no name")
        return found


class Rows:
    """Typed rows of a file.

    `name`: the file, for error texts. `number`: what its rows have in `_file`. `records`: how many
    were read so far, and `rejected` of them cannot be carried.
    """

    def __init__(
        self, table: Table, columns: Sequence[Column], header: Header, name: str, number: int
    ) -> None:
        self.table, self.columns, self.header = table, columns, header
        self.name, self.number = name, number
        self.records = self.rejected = 0
        self._form = format_of(table)

    def batches(self, lines: Lines) -> Iterator[Batch]:
        """Yield the rest of the file in batches, with all columns of raw."""
        for records in lines.records(len(self.header.names)):
            batch = self._batch(records)
            broken = [
                self._rejected("line", each.line, each.reason, {"line": each.text})
                for each in records.broken
            ]
            batch.rejected.extend(broken)
            self.records += len(records) + len(broken)
            self.rejected += len(batch.rejected)
            yield batch

    def _batch(self, records: Records) -> Batch:
        texts = {
            name: self._with_nulls(array)
            for name, array in zip(self.header.names, records.fields, strict=True)
        }
        texts[LINE.name] = pa.array(records.lines).cast(pa.string()).cast(pa.binary())
        there = [column for column in self.columns if column.name in texts]
        for column in there:
            if column.kind is Kind.INSTANT:
                texts[column.name] = _in_utc(texts[column.name])
        refused = self._refused(texts)
        if refused:
            fit = np.ones(len(records), bool)
            fit[[index for index, *_ in refused]] = False
            kept = {name: array.filter(pa.array(fit)) for name, array in texts.items()}
        else:
            kept = texts
        # Without a key: an entry of the quarantine stands for a line, whatever its record is.
        parsed = parse_rows(there, [kept[column.name] for column in there], (), None)
        rejected = [
            self._rejected(each.column, int(each.row[LINE.name] or 0), each.reason, each.row)
            for each in parsed.rejected
        ]
        for index, name, reason in refused:
            row = {column: _text(array[index].as_py()) for column, array in texts.items()}
            rejected.append(self._rejected(name, int(records.lines[index]), reason, row))
        rows = len(parsed.rows)
        arrays = [
            parsed.rows.column(column.name)
            if column.name in texts
            else pa.repeat(pa.scalar(self.number, pa.int64()), rows)
            if column.name == FILE.name
            else pa.nulls(rows, column.arrow_type)
            for column in self.columns
        ]
        names = [column.name for column in self.columns]
        return Batch(pa.RecordBatch.from_arrays(arrays, names=names), rejected)

    def _with_nulls(self, array: pa.Array) -> pa.Array:
        nulls = pa.array([text.encode() for text in self._form.nulls], pa.binary())
        is_null = pc.is_in(array, nulls)
        return pc.if_else(is_null, pa.scalar(None, pa.binary()), array)

    def _refused(self, texts: dict[str, pa.Array]) -> list[tuple[int, str, str]]:
        """Return the records without identity, and those with values that raw has no column for.

        Each as its place, the column and the reason.
        """
        found: dict[int, tuple[str, str]] = {}
        for name in self.table.key:
            for index in np.flatnonzero(texts[name].is_null().to_numpy(zero_copy_only=False)):
                found.setdefault(int(index), (name, "no value, and it is a part of the key"))
        known = {column.name for column in self.columns}
        for name in (name for name in self.header.names if name not in known):
            reason = "raw has no such column, and the table's contract is 'quarantine'"
            for index in np.flatnonzero(texts[name].is_valid().to_numpy(zero_copy_only=False)):
                found.setdefault(int(index), (name, reason))
        return [(index, *why) for index, why in sorted(found.items())]

    def _rejected(
        self, column: str, line: int, reason: str, row: dict[str, str | None]
    ) -> Rejected:
        place: dict[str, str | None] = {
            FILE.name: str(self.number),
            LINE.name: str(line),
            "file": self.name,
        }
        why = f"{self.name}, line {line}: {reason}"
        return Rejected(None, None, column, why, place | row)


def _in_utc(texts: pa.Array) -> pa.Array:
    """Return times that state their distance from UTC as times in UTC, without it.

    What is no such time stays as it is, and is refused later.
    """
    try:
        has_zone = pc.match_substring_regex(texts.cast(pa.string()), _WITH_ZONE)
    except pa.ArrowInvalid:  # no text
        return texts
    if not pc.any(has_zone).as_py():
        return texts

    def converted(some: pa.Array) -> pa.Array:
        moments = some.cast(pa.string()).cast(pa.timestamp("us", tz="UTC"))
        return moments.cast(pa.timestamp("us")).cast(pa.string()).cast(pa.binary())

    with_zone = pc.if_else(has_zone, texts, pa.scalar(None, pa.binary()))
    try:
        done = converted(with_zone)
    except pa.ArrowInvalid:
        values = []
        for index in range(len(texts)):
            try:
                values.append(converted(with_zone.slice(index, 1))[0].as_py())
            except pa.ArrowInvalid:
                values.append(None)
        done = pa.array(values, pa.binary())
    return pc.coalesce(done, texts)


def _text(value: bytes | None) -> str | None:
    if value is None:
        return None
    try:
        return value.decode()
    except UnicodeDecodeError:
        return "\\x" + value.hex()
