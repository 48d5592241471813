"""Compares a raw table with its source by keys and cursors, without moving the rows that are
equal.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal

from softcart_assets.ingestion.proof.carried import CarriedSums, known_salt
from softcart_assets.ingestion.proof.digest import Checksums, Digest, Segments
from softcart_assets.ingestion.proof.postgres import POSTGRES
from softcart_assets.ingestion.proof.statements import ASK_EVERY
from softcart_assets.ingestion.sinks.raw import Counts, RawTable
from softcart_assets.ingestion.sinks.sql import as_text, listed, literal, quote, typed
from softcart_assets.ingestion.types import Column

_FETCH_BLOCKS = 64
"""Pages of the temporary table of keys to fetch, of 8 kB each: 10,000 keys or so."""


class Pairs:
    """The source's pairs of key and cursor, in the temporary table `at_source`, next to raw's own.

    Call `hold` of the raw table before, so that the keys of its quarantined rows are known.
    """

    def __init__(self, raw: RawTable, segments: Segments) -> None:
        self.raw, self.segments, self._connection = raw, segments, raw.connection
        # A cursor may be part of the key. It must not be selected twice.
        self.columns = list(dict.fromkeys([*segments.key, segments.cursor]))

    def carried(self, now: datetime) -> Digest | None:
        """Return the digest of raw's current rows, if it is known without reading them.

        The segments take the random numbers that it was made with. These hold for a day.
        """
        source, table = self.raw.source.name, self.raw.table.name
        salt = known_salt(self._connection, source, table)
        if len(salt) != len(self.segments.salt) or self.raw.any_held():
            return None
        segments = replace(self.segments, salt=tuple(salt))
        found = self._sums(segments).read()
        # Another day, other numbers: they show what chance may have hidden.
        if not found or not found.read_at or not timedelta(0) <= now - found.read_at <= ASK_EVERY:
            return None
        self.segments = segments
        count, total = map(int, found.sums)
        return count, total

    def carry(self) -> dict[int, Digest]:
        """Return the digest of each part of raw, and let the sum of all follow each write.

        With rows in quarantine nothing follows, as these count with what they have at the source.
        """
        parts = self.segments.parts()
        if self.raw.any_held():
            return self.digests(parts, "true")
        sums = self._sums(self.segments)
        # Before the rows are read: nobody else can write any more.
        sums.follow()
        then = sums.read()
        assert then
        found = self.digests(parts, "true")
        sums.complete(then, [Decimal(each) for each in total(found)], self.raw.now())
        return found

    def _sums(self, segments: Segments) -> CarriedSums:
        key = self.raw.source.name, self.raw.table.name
        sums = segments.sums(POSTGRES)
        return CarriedSums(self._connection, key, self.raw.name, sums, segments.salt)

    def digests(self, segments: Segments, where: str) -> dict[int, Digest]:
        """Return the digest of each segment of raw's current rows that meet a condition, with
        quarantined rows included.
        """
        rows = self._connection.execute(
            f"SELECT {segments.select(POSTGRES)} FROM ({self._live()}) live WHERE {where} GROUP BY "
            "1".encode()
        )
        return {int(each): (count, int(total)) for each, count, total in rows}

    def _live(self) -> str:
        """Return the query of key and cursor of the rows that raw knows of the source."""
        raw, pair = self.raw, listed(column.name for column in self.columns)
        rows = f"SELECT {pair} FROM {raw.name} r WHERE NOT _deleted"
        if not self.raw.any_held():
            # The usual case. Temporary tables would keep PostgreSQL from working in parallel.
            return rows
        return (
            # A quarantined row counts with the key and cursor that it had at the source. Otherwise
            # its segment would differ in every load. Released rows are left out, so that they do
            # differ and are read.
            f"{rows} AND NOT EXISTS (SELECT FROM pg_temp.held h WHERE {raw.same_key('h', 'r')})"
            f" UNION ALL SELECT {pair} FROM pg_temp.held WHERE NOT _held_released"
        )

    def stage(self) -> None:
        """Create the temporary table `at_source`, to be filled with the source's pairs."""
        definitions = ", ".join(f"{quote(c.name)} {c.target_type}" for c in self.columns)
        self._run(f"CREATE TEMP TABLE at_source ({definitions}) ON COMMIT DROP")

    def add_without_cursor(self, key: tuple[str, ...]) -> None:
        """Add a key to `at_source` whose cursor cannot be carried."""
        values = (typed(literal(text), c) for text, c in zip(key, self.segments.key, strict=False))
        self._run(
            f"INSERT INTO pg_temp.at_source ({listed(self.raw.key)}) VALUES ({', '.join(values)})"
        )

    def keys_to_fetch(self) -> Iterator[list[tuple[str, ...]]]:
        """Yield, in portions, the keys (as text) of the rows that raw does not have at the source's
        cursor.

        Before asking for the next portion, the caller stages the rows of the last one in
        `incoming`. `at_source` then takes over their cursors, as rows may have changed since their
        pairs were read.
        """
        key, cursor = self.raw.key, quote(self.segments.cursor.name)
        by_name = {c.name: c for c in self.segments.key}
        keys = ", ".join(as_text(f"f.{quote(name)}", by_name[name]) for name in key)
        pair = listed(dict.fromkeys([*key, self.segments.cursor.name]))
        # Temporary tables are never analysed by autovacuum. Without figures, PostgreSQL picks
        # nested loops.
        self._run("ANALYZE pg_temp.at_source")
        self._run(
            f"CREATE TEMP TABLE to_fetch ON COMMIT DROP AS SELECT {listed(key, 's')}"
            f" FROM pg_temp.at_source s LEFT JOIN ({self._live()}) live ON "
            f"{self.raw.same_key('s', 'live')}"
            # IS DISTINCT FROM, since a cursor may be NULL.
            f" WHERE live.{quote(key[0])} IS NULL OR live.{cursor} IS DISTINCT FROM s.{cursor}"
        )
        # By pages of the table: reading on by an offset would take time that grows with its square.
        for block in itertools.count(0, _FETCH_BLOCKS):
            some = f"f.ctid >= '({block},0)'::tid AND f.ctid < '({block + _FETCH_BLOCKS},0)'::tid"
            rows = self._connection.execute(
                f"SELECT {keys} FROM pg_temp.to_fetch f WHERE {some}".encode()
            ).fetchall()
            if not rows:
                return
            yield rows
            self._run(
                # A row that was deleted meanwhile is not in `incoming`. So it leaves `at_source`,
                # and `find_deleted` finds it gone.
                f"DELETE FROM pg_temp.at_source s USING pg_temp.to_fetch f WHERE {some}"
                f" AND {self.raw.same_key('s', 'f')}"
            )
            self._run(f"INSERT INTO pg_temp.at_source ({pair}) SELECT {pair} FROM pg_temp.incoming")

    def find_deleted(self, columns: Sequence[Column], differing: Sequence[int]) -> Counts:
        """Fill `changes` with raw's rows of some segments that are no longer at the source.

        Rows that this load rejected are at the source, though they are not in `at_source`.
        """
        names, raw = [c.name for c in columns], self.raw
        done = self._connection.execute(
            f"INSERT INTO pg_temp.changes ({listed(names)}, _deleted, _is_new)"
            f" SELECT {listed(names, 'r')}, true, false FROM {raw.name} r WHERE NOT r._deleted"
            f" AND {self._in(differing)}"
            f" AND NOT EXISTS (SELECT FROM pg_temp.at_source s WHERE {raw.same_key('s', 'r')})"
            " AND NOT EXISTS (SELECT FROM pg_temp.held h WHERE h._held_seen AND "
            f"{raw.same_key('h', 'r')})".encode()
        )
        return Counts(deleted=done.rowcount)

    def held_not_at_source(self, differing: Sequence[int]) -> list[int]:
        """Return the quarantine entries of rows of some segments that are no longer at the
        source.
        """
        rows = self._connection.execute(
            f"SELECT _held_entry FROM pg_temp.held h WHERE {self._in(differing)} AND NOT "
            "h._held_seen"
            " AND NOT EXISTS (SELECT FROM pg_temp.at_source s WHERE "
            f"{self.raw.same_key('s', 'h')})".encode()
        )
        return [row[0] for row in rows]

    def checksums(self) -> tuple[int, Checksums]:
        """Return the checksums of the source's pairs, for a source that cannot be asked for
        checksums.
        """
        return self.raw.checksums(self.columns, "pg_temp.at_source", held=False)

    def _in(self, segments: Sequence[int]) -> str:
        return f"{self.segments.expression(POSTGRES)} = ANY ({literal([int(s) for s in segments])})"

    def _run(self, statement: str) -> None:
        self._connection.execute(statement.encode())


def total(digests: Mapping[int, Digest]) -> Digest:
    """Return the digest of the rows of several segments."""
    return sum(count for count, _ in digests.values()), sum(each for _, each in digests.values())
