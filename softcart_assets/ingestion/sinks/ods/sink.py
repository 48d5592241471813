"""The sink that brings the changes of a source's log into the running totals.

What a change brings is the difference between what raw has after it and what raw had before it. So
the totals are always those of raw's rows: a change that raw refuses, or has already, changes
nothing. Before a flush merges rows, their old images are taken from raw, afterwards the new ones.
Both are found by indexes, and their differences are added up per row of a total.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import psycopg

from softcart_assets.ingestion.captured import Captured, CapturedTable
from softcart_assets.ingestion.changes import Changes
from softcart_assets.ingestion.codec.copying import COPY_HEADER, COPY_TRAILER, copy_rows
from softcart_assets.ingestion.errors import SchemaChanged
from softcart_assets.ingestion.position import Place, Position
from softcart_assets.ingestion.sinks.merge import table_failures
from softcart_assets.ingestion.sinks.ods import keeping
from softcart_assets.ingestion.sinks.ods.keeping import run
from softcart_assets.ingestion.sinks.ods.table import RawRows, TotalTable
from softcart_assets.ingestion.sinks.sql import listed, quote
from softcart_assets.ingestion.types import Column

_MANY = 100_000
"""After so many changes that the log did not tell, a table is counted anew as a whole."""
_LITTLE = 5_000
"""Up to this many rows, temporary tables are emptied by deletion. For more, truncating is
cheaper.
"""


class Totals:
    """The running totals of a source's captured tables."""

    def __init__(self, connection: psycopg.Connection, captured: Captured) -> None:
        self.connection, self.captured, self.source = connection, captured, captured.source
        self._feeds: dict[str, _Feed] = {}
        self._to_restate: set[str] = set()
        keeping.forget_undeclared(connection, self.source)

    def begin(self, table: CapturedTable) -> None:
        """Make the totals of a table. If they do not fit its columns, it stops, with the reason."""
        if not keeping.is_declared(self.source, table.name):
            return
        try:
            totals = keeping.make(self.connection, self.source, table.name)
        except SchemaChanged as error:
            self._feeds.pop(table.name, None)
            self.captured.stop(table, str(error))
            return
        before = self._feeds.get(table.name)
        # The columns that count are the same: what was noted of this flush stays.
        if totals and (before is None or before.totals != totals):
            number = before.number if before else len(self._feeds)
            self._feeds[table.name] = _Feed(self.connection, table, totals, number)
        elif before:
            before.table = table

    def since(self, table: CapturedTable) -> Position:
        """Return the position up to which changes are counted for good: that of raw."""
        return table.position

    def take(self, changes: Changes) -> None:
        """Note which rows change, and take their images from raw, which has not merged them yet."""
        feed = self._feeds.get(changes.table)
        if feed is None or not len(changes.rows):
            return
        # A table that was truncated, or read again, may bring more rows than it has left. A
        # column that the source has dropped is not read again, though raw keeps it.
        is_too_much = changes.before is None and feed.noted > _MANY
        if is_too_much or not feed.can_note(changes):
            self._to_restate.add(changes.table)
        if changes.table in self._to_restate:
            return
        with table_failures(feed.table), _by_index(self.connection):
            feed.note(changes)

    def void(self) -> None:
        """Do nothing: rows that were noted and do not change have the same image before and
        after.
        """

    def flush(self, place: Place, committed_at: int | None) -> None:
        """Bring the differences into the totals."""
        noted = [feed for feed in self._feeds.values() if feed.noted]
        if not noted and not self._to_restate:
            return
        keeping.begin_change(self.connection, self.source.name)
        for name in sorted(self._to_restate):
            keeping.restate(self.connection, self.source, name)
        for feed in noted:
            with table_failures(feed.table):
                if feed.table.name not in self._to_restate:
                    feed.apply()
                feed.forget()
        self._to_restate.clear()

    def restate(self, connection: psycopg.Connection, table: str) -> None:
        """See `Sink`."""
        keeping.restate(connection, self.source, table)

    def discard(self) -> None:
        """Do nothing: everything is in PostgreSQL, and its transaction is rolled back."""


@contextmanager
def _by_index(connection: psycopg.Connection) -> Iterator[None]:
    """Have rows found by an index, however few the planner takes a table to have.

    A plan is kept. One that reads a new table as a whole would be kept while the table grows.
    """
    connection.execute("SET LOCAL enable_seqscan = off")
    yield
    connection.execute("SET LOCAL enable_seqscan = on")


class _Feed:
    """What a flush has noted of one raw table, in temporary tables of its own.

    `arrived`: keys and events of the rows of one piece. `rows`, `events`: what was noted in this
    flush, each once: events, and keys of rows that are no part of an event. `images`: the columns
    that count, of the rows that counted before (`_sign` -1) and that count now (1).
    """

    def __init__(
        self,
        connection: psycopg.Connection,
        table: CapturedTable,
        totals: Sequence[TotalTable],
        number: int,
    ) -> None:
        self.connection, self.table, self.totals, self.number = connection, table, totals, number
        self.raw: RawRows = totals[0].raw
        self.noted = 0
        """Changes in this flush."""
        self._rows = 0
        self._copied: list[Column] = [
            self.raw.columns[name] for name in dict.fromkeys((*self.raw.key, *self.raw.identity))
        ]
        temporary = {
            "arrived": [column.name for column in self._copied],
            "rows": self.raw.key,
            "events": self.raw.identity,
            "images": self.raw.used,
        }
        self._names = {}
        for what, columns in temporary.items():
            relation = self._names[what] = f"pg_temp.ods_{what}_{number}"
            types = [f"{quote(n)} {self.raw.columns[n].target_type}" for n in columns]
            if what == "images":
                types.append("_sign smallint")
            run(connection, f"DROP TABLE IF EXISTS {relation}")
            run(connection, f"CREATE TEMP TABLE ods_{what}_{number} ({', '.join(types)})")

    def can_note(self, changes: Changes) -> bool:
        """Return whether changes tell which rows and events they concern."""
        return {column.name for column in self._copied} <= {*changes.rows.schema.names}

    def note(self, changes: Changes) -> None:
        """Note the rows of changes, and the images of those that were not noted before."""
        arrived = self._names["arrived"]
        names = [column.name for column in self._copied]
        with (
            self.connection.cursor() as cursor,
            cursor.copy(
                f"COPY {arrived} ({listed(names)}) FROM STDIN (FORMAT BINARY)".encode()
            ) as copy,
        ):
            copy.write(COPY_HEADER)
            copy.write(copy_rows(self._copied, changes.rows.select(names)))
            copy.write(COPY_TRAILER)
        run(self.connection, self._noting())
        run(self.connection, f"DELETE FROM {arrived}")
        self.noted += len(changes.rows)
        self._rows += len(changes.rows)

    def _noting(self) -> str:
        """SQL that takes `arrived` into `rows` and `events`, and their images of before."""
        raw, names = self.raw, self._names
        key, used = listed(raw.key), listed(raw.used)
        into = f"INSERT INTO {names['images']} ({used}, _sign) SELECT {used}, -1 FROM"
        if not raw.identity:
            return (
                f"WITH fresh AS (INSERT INTO {names['rows']} SELECT {key} FROM {names['arrived']}"
                f" EXCEPT SELECT {key} FROM {names['rows']} RETURNING {key})"
                f" {into} ({self._single('fresh')}) r"
            )
        event, first = listed(raw.identity), quote(raw.identity[0])
        both = listed(dict.fromkeys((*raw.key, *raw.identity)))
        return (
            # An update may take a row from one event to another: both have other rows then.
            f"WITH told AS MATERIALIZED (SELECT {both} FROM {names['arrived']} UNION"
            f" SELECT {both} FROM ({self._found(names['arrived'], both)}) r),"
            f" events AS (INSERT INTO {names['events']} SELECT {event} FROM told"
            f" WHERE {first} IS NOT NULL EXCEPT SELECT {event} FROM {names['events']}"
            f" RETURNING {event}),"
            f" fresh AS (INSERT INTO {names['rows']} SELECT {key} FROM told"
            f" WHERE {first} IS NULL EXCEPT SELECT {key} FROM {names['rows']} RETURNING {key})"
            f" {into} ({self._single('fresh')} UNION ALL {self._of_events('events')}) r"
        )

    def _found(self, keys: str, columns: str) -> str:
        """SQL for raw's rows with some keys."""
        # The OFFSET keeps PostgreSQL from joining in another way than key by key. The cost of a
        # change must not depend on the size of the table.
        return (
            f"SELECT r.* FROM {keys} k CROSS JOIN LATERAL (SELECT {columns} FROM {self.raw.name} o"
            f" WHERE NOT o._deleted AND {self._same_key('o', 'k')} OFFSET 0) r"
        )

    def _same_key(self, left: str, right: str) -> str:
        return " AND ".join(f"{left}.{quote(n)} = {right}.{quote(n)}" for n in self.raw.key)

    def _single(self, keys: str) -> str:
        """SQL for the rows that count by themselves, of some keys."""
        used = listed(self.raw.used)
        if not self.raw.identity:
            return self._found(keys, used)
        first = quote(self.raw.identity[0])
        columns = listed(dict.fromkeys((*self.raw.used, self.raw.identity[0])))
        return f"SELECT {used} FROM ({self._found(keys, columns)}) r WHERE {first} IS NULL"

    def _of_events(self, events: str) -> str:
        """SQL for the row of each event that counts."""
        raw = self.raw
        event = raw.order(raw.identity, "r")
        columns = listed(dict.fromkeys((*raw.used, *raw.identity, *raw.key)))
        return (
            f"SELECT {listed(raw.used)} FROM (SELECT DISTINCT ON ({event}) o.* FROM {events} r"
            f" CROSS JOIN LATERAL (SELECT {columns} FROM {raw.name} o WHERE NOT o._deleted AND"
            f" {raw.alike} OFFSET 0) o ORDER BY {event}, {raw.order(raw.key, 'o')}) e"
        )

    def apply(self) -> None:
        """Bring the differences between the images into the totals."""
        used, names = listed(self.raw.used), self._names
        now = self._single(names["rows"])
        if self.raw.identity:
            now += f" UNION ALL {self._of_events(names['events'])}"
        with _by_index(self.connection):
            run(
                self.connection,
                f"INSERT INTO {names['images']} ({used}, _sign) SELECT {used}, 1 FROM ({now}) r",
            )
        built = keeping.building(self.connection, self.totals)
        for total in self.totals:
            added = total.added(names["images"])
            run(self.connection, total.apply(total.relation, added))
            if total.name in built:
                columns = listed((*total.keys, *total.sums))
                run(self.connection, f"INSERT INTO {total.later} ({columns}) {added}")

    def forget(self) -> None:
        """Empty the temporary tables."""
        names = [self._names[what] for what in ("rows", "events", "images")]
        # Deleted rows still take room, so the count goes on until the next truncation.
        if self._rows <= _LITTLE:
            for name in names:
                run(self.connection, f"DELETE FROM {name}")
        else:
            run(self.connection, f"TRUNCATE {', '.join([*names, self._names['arrived']])}")
            self._rows = 0
        self.noted = 0
