"""Reads MySQL and MariaDB: columns and rows, as of one position of the binary log.

Rows leave as typed Arrow batches. This module does not decide what becomes of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import chain, islice

import pyarrow as pa

from softcart_assets.connections import MySQLConnection
from softcart_assets.ingestion.connectors.mysql import ranges
from softcart_assets.ingestion.connectors.mysql.dialect import MYSQL, mysql_value
from softcart_assets.ingestion.connectors.mysql.moment import open_moment
from softcart_assets.ingestion.connectors.mysql.session import Session, explained
from softcart_assets.ingestion.connectors.mysql.tables import (
    TRANSACTIONAL_ENGINES,
    catalog_rows,
    check_key,
    is_cascaded_into,
    logs_cascades,
    unique_keys,
)
from softcart_assets.ingestion.connectors.mysql.types import target_type
from softcart_assets.ingestion.errors import MissingTable, UnsupportedColumn
from softcart_assets.ingestion.proof import digest
from softcart_assets.ingestion.proof.digest import Checksums, Digest, Segments
from softcart_assets.ingestion.types import Batch, Column, Kind, parse_rows
from softcart_assets.lines.model import Source, Table

_BATCH_ROWS = 20_000
_BATCH_BYTES = 4 << 20
"""The greatest number of rows in a batch. It ends earlier if it has these bytes."""
_KEYS_A_QUERY = 500


@contextmanager
def snapshot(
    source: Source,
    connection: MySQLConnection,
    wanted: int,
    epoch: int = 0,
    *,
    may_lock: bool = True,
) -> Iterator[list[MySQLReader]]:
    """Open up to `wanted` readers that see the same moment. They know its position in the binary
    log.

    `epoch`: the epoch of that position, see `Position`. `may_lock`: whether writers of the source's
    tables may be held up while the snapshots open, if there is no other way to know the position.
    Raises what `open_moment` does.
    """
    with ExitStack() as stack, explained(connection, f"database `{connection.database}`"):

        def session() -> Session:
            opened = Session(connection)
            stack.callback(opened.close)
            return opened

        tables = [table.at_source for table in source.tables]
        sessions = [session() for _ in range(wanted)]
        moment = open_moment(sessions, tables, may_lock=may_lock)
        for each in sessions:
            if each not in moment.sessions:
                # Its snapshot would keep the server from clearing away old rows.
                each.close()
        stated = str(moment.position.in_epoch(epoch))
        yield [
            MySQLReader(source, each, stated, is_exact=moment.is_exact) for each in moment.sessions
        ]


class MySQLReader:
    """Reads one database as of one moment.

    `is_exact`: the position is exactly that of the rows. Otherwise no rows must be read.
    """

    dialect = MYSQL

    def __init__(
        self, source: Source, session: Session, position: str, *, is_exact: bool = True
    ) -> None:
        self.source, self.is_exact = source, is_exact
        self._position = position
        self.session = session
        self.connection = session.connection

    def position(self, table: Table) -> str:
        """The snapshot's binary log position."""
        return self._position

    def reset(self) -> None:
        """Make the reader ready for another table after a failure."""
        self.session.reset()

    def columns(self, table: Table, known: Sequence[Column]) -> list[Column]:
        """Return the table's columns in their order, including generated and invisible ones.

        Raises `MissingTable` or `UnsupportedColumn`. Raises `SchemaChanged` if the declared key of
        a captured table is not unique: the log would not show that two rows share it.
        """
        source = self.source
        asset = f"{source.schema}/{table.name}"
        with explained(self.connection, asset):
            rows = catalog_rows(
                self.session,
                asset,
                "SELECT column_name, column_type, is_nullable, numeric_precision, numeric_scale"
                f" FROM information_schema.columns WHERE table_schema = DATABASE()"
                f" AND table_name = {self.session.literal(table.at_source)} ORDER BY "
                "ordinal_position",
            )
        if not rows:
            raise MissingTable(
                f"{asset}: MySQL database `{self.connection.database}` has no "
                f"table `{table.at_source}` that "
                f"user {self.connection.user!r} may see. Create it or grant SELECT on it, check "
                f"{self.connection.prefix}_DATABASE, or take the table out of its declaration in "
                f"source {source.name!r}."
            )
        columns = []
        for name, source_type, is_nullable, precision, scale in rows:
            assert name is not None
            assert source_type is not None
            target = target_type(
                source_type, *(int(digits) if digits else None for digits in (precision, scale))
            )
            if target is None:
                raise UnsupportedColumn(
                    f"{asset}: column `{name}` has type {source_type}, which "
                    "cannot be carried exactly. "
                    "Convert it at the source, or declare a view without it."
                )
            columns.append(Column(name, source_type, target, is_nullable == "YES"))
        if table.strategy == "cdc" and {*table.key} <= {column.name for column in columns}:
            with explained(self.connection, asset):
                keys = unique_keys(self.session, asset, table.at_source) or {}
            check_key(table, asset, keys.values())
        return columns

    def warnings(self, table: Table) -> list[str]:
        """Return what keeps the table from being as of the stated position, if anything."""
        asset = f"{self.source.schema}/{table.name}"
        found = []
        with explained(self.connection, asset):
            rows = catalog_rows(
                self.session,
                asset,
                "SELECT engine FROM information_schema.tables WHERE table_schema = DATABASE()"
                f" AND table_name = {self.session.literal(table.at_source)}",
            )
            # A view has no engine, and no foreign keys.
            engine = rows[0][0] if rows else None
            has_cascades = (
                table.strategy == "cdc"
                and engine is not None
                and not logs_cascades(self.session)
                and is_cascaded_into(self.session, table.at_source)
            )
        if engine is not None and engine not in TRANSACTIONAL_ENGINES:
            found.append(
                f"engine {engine} has no snapshots: rows written during the load may be in it or "
                "not"
            )
        if has_cascades:
            found.append(
                "a foreign key's cascades change rows without a trace in the binary log: declare "
                "strategy 'snapshot', or run "
                f"`softcart reconcile {self.source.name}.{table.name} --repair` after them"
            )
        return found

    def expected_rows(self, table: Table) -> int | None:
        """The server's estimate of the number of rows."""
        rows = self.query(
            table,
            "SELECT table_rows FROM information_schema.tables WHERE table_schema = DATABASE()"
            f" AND table_name = {self.session.literal(table.at_source)}",
        )
        return int(rows[0][0]) if rows and rows[0][0] else None

    def batches(
        self, table: Table, columns: Sequence[Column], where: str | None = None
    ) -> Iterator[Batch]:
        """Yield the rows as batches, streamed. `where` is SQL."""
        select = ", ".join(map(mysql_value, columns))
        sql = f"SELECT {select} FROM {MYSQL.quote(table.at_source)}" + (
            f" WHERE {where}" if where else ""
        )
        with explained(self.connection, f"{self.source.schema}/{table.name}"):
            reader = self.session.read(sql, columns)
            while (found := reader.read(_BATCH_ROWS, _BATCH_BYTES)) is not None:
                rows, unfit = found
                raw = [pa.array(values, pa.binary()) for values in zip(*unfit, strict=True)]
                # Only rows with a bad value go through the slow parser, which names the column and
                # the reason.
                rejected = (
                    parse_rows(columns, raw, table.key, table.cursor).rejected if unfit else []
                )
                yield Batch(rows, rejected)
            self.session.finished()

    def ranges(self, table: Table, columns: Sequence[Column], workers: int) -> list[str | None]:
        """Return conditions that cut the table into key ranges, see `ranges`."""
        rows = self.expected_rows(table) or 0
        with explained(self.connection, f"{self.source.schema}/{table.name}"):
            return ranges.conditions(self.session, table, columns, rows, workers)

    def rows_past(
        self, table: Table, columns: Sequence[Column], cursor_value: str
    ) -> Iterator[Batch]:
        """Yield the rows whose cursor lies past a value, given as PostgreSQL text.

        With microseconds, two changes of a row never share a cursor, so equal cursors need no
        second look. With coarser times they may, so the last minute is read again.
        """
        cursor = next(c for c in columns if c.name == table.cursor)
        name, value = MYSQL.quote(cursor.name), self.session.literal(cursor_value)
        if cursor.source_type in ("datetime(6)", "timestamp(6)"):
            condition = f"{name} > {value}"
        elif cursor.target_type.startswith("timestamp"):
            condition = f"{name} >= {value} - INTERVAL 1 MINUTE"
        else:
            condition = f"{name} >= {value}"
        yield from self.batches(table, columns, condition)

    def all_rows(
        self, table: Table, columns: Sequence[Column]
    ) -> tuple[Sequence[Column], Iterator[Batch]]:
        """Return the columns, unchanged, and every row."""
        return columns, self.batches(table, columns)

    def rows_of(
        self, table: Table, columns: Sequence[Column], keys: Iterable[tuple[str, ...]]
    ) -> tuple[Sequence[Column], Iterator[Batch]]:
        """Return the columns, unchanged, and the rows with these keys.

        Each key is the PostgreSQL text of its columns.
        """
        conditions = self.any_of(table, columns, keys)
        return columns, chain.from_iterable(
            self.batches(table, columns, where) for where in conditions
        )

    def query(self, table: Table, sql: str) -> list[tuple[str | None, ...]]:
        """The result of a query about the table, as text."""
        with explained(self.connection, f"{self.source.schema}/{table.name}"):
            return self.session.query(sql)

    def shown(self, column: Column) -> str:
        """Return SQL for a key column's value as text, in the form that `any_of` takes."""
        value = mysql_value(column)
        return f"CONCAT('\\\\x', LOWER(HEX({value})))" if column.kind is Kind.BYTES else value

    def any_of(
        self, table: Table, columns: Sequence[Column], keys: Iterable[tuple[str, ...]]
    ) -> Iterator[str]:
        """Yield conditions that together hold for the rows with these keys.

        They are no row constructors, for which MariaDB uses no index.
        """
        by_name = {c.name: c for c in columns}

        def equals(name: str, value: str) -> str:
            match by_name[name].kind:
                case Kind.BYTES:
                    return f"{MYSQL.quote(name)} = x'{value[2:]}'"
                case Kind.TIME:
                    return f"{mysql_value(by_name[name])} = {value}"
                case _:
                    return f"{MYSQL.quote(name)} = {self.session.literal(value)}"

        remaining = iter(keys)
        while some := list(islice(remaining, _KEYS_A_QUERY)):
            yield " OR ".join(f"({' AND '.join(map(equals, table.key, key))})" for key in some)

    def segments(self, table: Table, columns: Sequence[Column], rows: int) -> Segments:
        """Return how to divide a table of about `rows` rows for comparison."""
        by_name = {c.name: c for c in columns}
        key, cursor = tuple(by_name[name] for name in table.key), by_name[table.cursor or ""]
        if not digest.is_whole(key[0]):
            return Segments.of_about_a_thousand_rows(key, cursor, rows)
        name = mysql_value(key[0])
        [(low, high)] = self.query(
            table, f"SELECT MIN({name}), MAX({name}) FROM {MYSQL.quote(table.at_source)}"
        )
        with explained(self.connection, f"{self.source.schema}/{table.name}"):
            is_indexed = ranges.is_indexed(self.session, table, key[0].name)
        return Segments.of_about_a_thousand_rows(
            key, cursor, rows, (int(low or 0), int(high or 0)), is_indexed=is_indexed
        )

    def digests(
        self, table: Table, segments: Segments, part: Segments, number: int
    ) -> dict[int, Digest]:
        """Return the digest of each segment that has rows in a part."""
        # Groups of a single number take MySQL half the time of groups by an expression.
        group = str(number) if segments == part else segments.expression(MYSQL)
        rows = self.query(
            table,
            f"SELECT {group}, {segments.digest(MYSQL)} FROM {MYSQL.quote(table.at_source)}"
            f" WHERE {part.where(MYSQL, [number])} GROUP BY 1",
        )
        return {int(each or 0): (int(count or 0), int(total or 0)) for each, count, total in rows}

    def pairs(self, table: Table, segments: Segments, differing: Sequence[int]) -> Iterator[Batch]:
        """Yield key and cursor of every row in the segments."""
        columns = [c for c in segments.key if c != segments.cursor] + [segments.cursor]
        # A statement of thousands of conditions could exceed what the server takes
        # (max_allowed_packet).
        for start in range(0, len(differing), 200):
            yield from self.batches(
                table, columns, segments.where(MYSQL, differing[start : start + 200])
            )

    def checksums(
        self, table: Table, columns: Sequence[Column], where: str | None = None
    ) -> tuple[int, Checksums]:
        """Return the number of rows and the checksum of each column, computed by the server."""
        rows = f" FROM {MYSQL.quote(table.at_source)}" + (f" WHERE {where}" if where else "")
        return digest.checksums_by(
            lambda sums: self.query(table, f"SELECT {sums}{rows}")[0], MYSQL, columns, table.key
        )
