"""Brings just the rows that differ into raw, history and the lake, as a load would."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from tempfile import SpooledTemporaryFile

from softcart_assets.ingestion.bookkeeping import LastLoad
from softcart_assets.ingestion.capture.bounded import CapturedLoad
from softcart_assets.ingestion.engine.table import Moved, TableLoad
from softcart_assets.ingestion.readers import KeyedReader
from softcart_assets.ingestion.request import Call
from softcart_assets.ingestion.sinks import Sink
from softcart_assets.ingestion.sinks.raw import Counts, RawTable
from softcart_assets.ingestion.sinks.sql import quote, typed
from softcart_assets.ingestion.types import Column
from softcart_assets.lines.model import Table

_SPOOLED_BYTES = 8 << 20


class Repair(TableLoad):
    """A load of just the rows that differ."""

    def __init__(
        self,
        call: Call,
        table: Table,
        fetch: Iterable[tuple[str, ...]],
        extra: Iterable[tuple[str, ...]],
    ) -> None:
        super().__init__(call, table)
        self.fetch, self.extra = fetch, extra

    def _move(self, columns: Sequence[Column], last: LastLoad | None) -> Moved:
        _take_rows(self, columns, self.fetch, self.extra)
        return columns, None, "repair"


class CapturedRepair(CapturedLoad):
    """A load of just the rows that differ, in addition to what the log brought."""

    def __init__(
        self,
        call: Call,
        table: Table,
        sinks: Sequence[Sink],
        fetch: Iterable[tuple[str, ...]],
        extra: Iterable[tuple[str, ...]],
    ) -> None:
        super().__init__(call, table, sinks, is_full=False)
        self.fetch, self.extra = fetch, extra

    def _move(self, columns: Sequence[Column], last: LastLoad | None) -> Moved:
        columns, sums, _ = super()._move(columns, last)
        _take_rows(self, columns, self.fetch, self.extra)
        self._restate()
        return columns, sums, "repair"


def _take_rows(
    load: TableLoad,
    columns: Sequence[Column],
    fetch: Iterable[tuple[str, ...]],
    extra: Iterable[tuple[str, ...]],
) -> None:
    """Bring rows with some keys into raw as they are at the source now. Rows that are not there are
    deleted.
    """
    raw = load.raw
    load.must_count = True  # raw was not what the last load had left
    raw.stage(columns)
    assert isinstance(load.reader, KeyedReader)
    _, batches = load.reader.rows_of(load.table, columns, chain(fetch, extra))
    load.take(raw.copy("pg_temp.incoming", columns, batches), columns)
    # A key that only its case tells from another's finds that one's row at the source.
    same = " AND ".join(f"i.{quote(name)} = other.{quote(name)}" for name in raw.key)
    raw.connection.execute(
        f"DELETE FROM pg_temp.incoming i USING pg_temp.incoming other WHERE {same} AND i.ctid > "
        "other.ctid".encode()
    )
    load.merge(
        columns,
        raw.find_changes(columns, missing_is_deleted=False) + add_extra(raw, columns, extra),
    )
    load.close_held_in("pg_temp.incoming")


class Keys:
    """Any number of keys as text. Many of them go to a temporary file."""

    def __init__(self) -> None:
        # In the worst case, these are all keys of the table: too many for the memory. The file
        # closes with this object.
        self._file = SpooledTemporaryFile(max_size=_SPOOLED_BYTES, mode="w+")  # noqa: SIM115
        self._count = 0

    def add(self, keys: Iterable[tuple[str, ...]]) -> None:
        """Add some keys."""
        for key in keys:
            self._file.write(json.dumps(key) + "\n")
            self._count += 1

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[tuple[str, ...]]:
        self._file.seek(0)
        for line in self._file:
            yield tuple(json.loads(line))


def add_extra(raw: RawTable, columns: Sequence[Column], keys: Iterable[tuple[str, ...]]) -> Counts:
    """Add the rows of raw with these keys to `changes`, as deleted, except those in `incoming` or
    just found unfit.
    """
    key = [next(c for c in columns if c.name == name) for name in raw.key]
    names = ", ".join(quote(c.name) for c in key)
    definitions = ", ".join(f"{quote(c.name)} {c.target_type}" for c in key)
    raw.connection.execute(f"CREATE TEMP TABLE extra ({definitions}) ON COMMIT DROP".encode())
    with raw.connection.cursor() as cursor:
        values = ", ".join(typed("%s", c) for c in key)
        # A column's name may contain a %, which psycopg would take for a placeholder.
        into = f"pg_temp.extra ({names})".replace("%", "%%")
        cursor.executemany(f"INSERT INTO {into} VALUES ({values})".encode(), keys)
    listed = ", ".join(quote(c.name) for c in columns)
    done = raw.connection.execute(
        f"INSERT INTO pg_temp.changes ({listed}, _deleted, _is_new) SELECT {listed}, true, false "
        f"FROM {raw.name} r"
        f" WHERE NOT _deleted AND ({names}) IN (SELECT {names} FROM pg_temp.extra EXCEPT SELECT "
        f"{names} FROM pg_temp.incoming"
        f" EXCEPT SELECT {names} FROM pg_temp.held WHERE _held_seen)".encode()
    )
    return Counts(deleted=done.rowcount)
