"""Adds up what changes of raw's rows bring to the running totals over it.

What a change brings is the difference between what raw has after it and what raw had before it. So
the totals are always those of raw's rows. Before rows are merged, their old images are taken from
raw, afterwards the new ones. Both are found by indexes, and their differences are added up per row
of a total.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import psycopg

from softcart_assets.ingestion.changes import Changes
from softcart_assets.ingestion.codec.copying import COPY_HEADER, COPY_TRAILER, copy_rows
from softcart_assets.ingestion.sinks.ods import keeping
from softcart_assets.ingestion.sinks.ods.keeping import run
from softcart_assets.ingestion.sinks.ods.table import RawRows, TotalTable
from softcart_assets.ingestion.sinks.sql import listed, quote
from softcart_assets.ingestion.types import Column

MANY = 100_000
"""After so many changes that no log tells, a table is counted anew as a whole."""
_LITTLE = 5_000
"""Up to this many rows, temporary tables are emptied by deletion. For more, truncating is
cheaper.
"""


@contextmanager
def by_index(connection: psycopg.Connection) -> Iterator[None]:
    """Have rows found by an index, however few the planner takes a table to have.

    A plan is kept. One that reads a new table as a whole would be kept while the table grows.
    """
    connection.execute("SET LOCAL enable_seqscan = off")
    yield
    connection.execute("SET LOCAL enable_seqscan = on")


class Feed:
    """What a flush or a load has noted of one raw table, in temporary tables of its own.

    `arrived`: keys and events of the rows of one piece. `rows`, `events`: what was noted in this
    flush, each once: events, and keys of rows that are no part of an event. `images`: the columns
    that count, of the rows that counted before (`_sign` -1) and that count now (1).
    """

    def __init__(
        self,
        connection: psycopg.Connection,
        totals: Sequence[TotalTable],
        number: int,
    ) -> None:
        self.connection, self.totals, self.number = connection, totals, number
        self.raw: RawRows = totals[0].raw
        self.noted = 0
        """Changes since they were brought into the totals."""
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

    def can_note(self, names: Iterable[str]) -> bool:
        """Return whether changes with these columns tell which rows and events they concern."""
        return {column.name for column in self._copied} <= {*names}

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
        self._note_arrived(len(changes.rows))

    def note_found(self, count: int) -> None:
        """Note the rows of `pg_temp.changes`, see `RawTable`. `count`: their number."""
        names = listed([column.name for column in self._copied])
        into = f"INSERT INTO {self._names['arrived']} ({names})"
        run(self.connection, f"{into} SELECT {names} FROM pg_temp.changes")
        self._note_arrived(count)

    def _note_arrived(self, count: int) -> None:
        with by_index(self.connection):
            run(self.connection, self._noting())
        run(self.connection, f"DELETE FROM {self._names['arrived']}")
        self.noted += count
        self._rows += count

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
            f"SELECT r.* FROM {keys} k CROSS JOIN LATERAL (SELECT {columns} FROM {self.raw.rows} o"
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
            f" CROSS JOIN LATERAL (SELECT {columns} FROM {raw.rows} o WHERE NOT o._deleted AND"
            f" {raw.alike} OFFSET 0) o ORDER BY {event}, {raw.order(raw.key, 'o')}) e"
        )

    def apply(self) -> None:
        """Bring the differences between the images into the totals."""
        used, names = listed(self.raw.used), self._names
        now = self._single(names["rows"])
        if self.raw.identity:
            now += f" UNION ALL {self._of_events(names['events'])}"
        with by_index(self.connection):
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
