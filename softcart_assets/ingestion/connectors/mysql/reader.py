"""Reading MySQL and MariaDB: columns, a consistent snapshot at a binary log position, rows, what the log says changed.

Here belongs everything that is MySQL's own. Rows leave as typed Arrow batches; what becomes of them is not decided here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from itertools import chain, islice, pairwise

import MySQLdb
import pyarrow as pa

from softcart_assets.connections import MySQLConnection, ServerUnreachable
from softcart_assets.ingestion.codec import TextReader
from softcart_assets.ingestion.errors import (
    IngestionError,
    MissingGrant,
    MissingTable,
    SchemaChanged,
    SourceLost,
    UnsupportedColumn,
)
from softcart_assets.ingestion.position import NOWHERE, Position
from softcart_assets.ingestion.proof import digest
from softcart_assets.ingestion.proof.digest import MYSQL, Checksums, Segments
from softcart_assets.ingestion.types import Batch, Column, Kind, parse_rows
from softcart_assets.lines.model import Source, Table

_BATCH_ROWS = 20_000
_BATCH_BYTES = 4 << 20
"""A batch has so many rows, or with fewer these bytes."""
_KEYS_A_QUERY = 500
_RANGE_ROWS = 100_000, 1_000_000
"""Rows of a key range, at least and at most: a range costs some milliseconds, and is what a kill may cost."""
_CUT_BY_WALKING = {
    "char",
    "varchar",
    "binary",
    "varbinary",
    "decimal",
    "date",
    "datetime",
    "timestamp",
}

TRANSACTIONAL_ENGINES = {"InnoDB", "RocksDB", "ROCKSDB"}
"""Engines whose tables can be read as of one moment."""

_LONG_TEXTS = {"text", "mediumtext", "longtext"}
_LONG_BYTES = {
    *(
        "blob",
        "mediumblob",
        "longblob",
        "vector",
        "geometry",
        "point",
        "linestring",
        "polygon",
        "multipoint",
    ),
    *("multilinestring", "multipolygon", "geometrycollection", "geomcollection"),
}
_TEXT_TYPES = {"char", "varchar", "tinytext", "enum", "set", "uuid", "inet4", "inet6"} | _LONG_TEXTS
_BYTES_TYPES = {"binary", "varbinary", "tinyblob"} | _LONG_BYTES
_PLAIN_TYPES = {
    "tinyint": "smallint",
    "smallint": "smallint",
    "mediumint": "integer",
    "int": "integer",
    "bigint": "bigint",
    "tinyint unsigned": "smallint",
    "smallint unsigned": "integer",
    "mediumint unsigned": "integer",
    "int unsigned": "bigint",
    "bigint unsigned": "numeric(20,0)",
    "float": "double precision",
    "double": "double precision",
    "date": "date",
    "datetime": "timestamp",
    "timestamp": "timestamptz",
    "time": "interval",
    "year": "smallint",
    "json": "jsonb",
}


def target_type(source_type: str, precision: int | None, scale: int | None) -> str | None:
    """The PostgreSQL type that holds every value of a MySQL type (as `COLUMN_TYPE` writes it); None if there is none."""
    name = re.split(r"[ (]", source_type, maxsplit=1)[0]
    if name in _TEXT_TYPES:
        return "text"
    if name in _BYTES_TYPES:
        return "bytea"
    if name == "decimal":
        return f"numeric({precision},{scale})"
    if name == "bit":
        return "numeric(20,0)" if precision == 64 else "bigint"
    is_integer = name.endswith("int")
    return _PLAIN_TYPES.get(
        f"{name} unsigned" if is_integer and "unsigned" in source_type else name
    )


@contextmanager
def explained(connection: MySQLConnection, what: str) -> Iterator[None]:
    """Say what a MySQL error means, with the table and what to do."""
    try:
        yield
    except MySQLdb.Error as error:
        code, text = (*error.args, "", "")[:2]
        database, user = connection.database, connection.user
        if code in (1142, 1143):
            raise MissingGrant(
                f"{what}: MySQL user {user!r} may not read it ({text}). Run GRANT SELECT ON `{database}`.* TO {user!r}."
            ) from None
        if code in (1044, 1045, 1227):
            raise MissingGrant(
                f"{what}: MySQL user {user!r} lacks a privilege ({text}). "
                f"Run GRANT RELOAD, REPLICATION CLIENT, REPLICATION SLAVE ON *.* TO {user!r}."
            ) from None
        if code in (1054, 1146, 1412):
            raise SchemaChanged(
                f"{what}: the table was altered while it was read ({text}). Run the load again."
            ) from None
        raise SourceLost(
            f"{what}: MySQL at {connection.host}:{connection.port} failed ({code}: {text}). Nothing of it was committed; "
            f"run the load again. If it persists, check the server and {connection.prefix}_HOST, _PORT."
        ) from None


class Session:
    """One connection, neutral in its settings, that gives values as the bytes MySQL sends."""

    def __init__(self, connection: MySQLConnection) -> None:
        self.connection = connection
        self._db = connection.connect(conv={}, use_unicode=False)
        self._reader: TextReader | None = None
        self.is_mariadb = "MariaDB" in self._db.get_server_info()
        # A slow target must not make the server hang up, and no setting of the server may bend values or our syntax.
        self.query(
            "SET SESSION sql_mode = '', net_write_timeout = 3600, wait_timeout = 86400, "
            + ("max_statement_time = 0" if self.is_mariadb else "max_execution_time = 0")
        )

    def close(self) -> None:
        """Close it; MySQL's end of the snapshot."""
        with suppress(MySQLdb.Error):
            self._db.close()

    def query(self, sql: str | bytes) -> list[tuple[str | None, ...]]:
        """Run a statement; its rows as text.

        Bytes that are no characters, as statements in the binary log may have, become escapes.
        """
        self._db.query(sql.encode() if isinstance(sql, str) else sql)
        result = self._db.store_result()
        rows = result.fetch_row(maxrows=0) if result else ()
        return [
            tuple(None if v is None else v.decode(errors="backslashreplace") for v in row)
            for row in rows
        ]

    def read(self, sql: str, columns: Sequence[Column]) -> TextReader:
        """Run a query; a reader of its rows, which are not held on our side."""
        self._db.query(sql.encode())
        self._reader = TextReader(self._db, columns)
        return self._reader

    def finished(self) -> None:
        """All rows were read."""
        self._reader = None

    def reset(self) -> None:
        """Cut off a query whose rows were not all read, so that the next one can be run."""
        if self._reader:
            with suppress(MySQLdb.Error, ServerUnreachable):
                with closing(self.connection.connect()) as killer:
                    killer.query(f"KILL QUERY {self._db.thread_id()}")
                self._reader.close()
            self._reader = None

    def literal(self, value: str) -> str:
        """A text as SQL."""
        return self._db.string_literal(value.encode()).decode()


def log_position(session: Session) -> Position:
    """The end of the binary log, or inside a snapshot of MariaDB its position; of this server, whatever came before it."""
    if session.is_mariadb:
        status = {row[0]: row[1] for row in session.query("SHOW STATUS LIKE 'binlog_snapshot_%'")}
        file, position = status.get("Binlog_snapshot_file"), status.get("Binlog_snapshot_position")
    else:
        try:
            rows = session.query("SHOW BINARY LOG STATUS")
        except MySQLdb.ProgrammingError:  # before MySQL 8.2
            rows = session.query("SHOW MASTER STATUS")
        file, position = rows[0][:2] if rows else (None, None)
    if not file or not position:
        raise IngestionError(
            f"MySQL at {session.connection.host}:{session.connection.port} keeps no binary log, so no position can be "
            f"stated. Set log_bin (and binlog_format=ROW) on the server that {session.connection.prefix}_HOST names."
        )
    return Position.parse(f"{file}:{position}")


@contextmanager
def snapshot(
    source: Source, connection: MySQLConnection, wanted: int, epoch: int = 0
) -> Iterator[list[MySQLReader]]:
    """Up to `wanted` readers that see one and the same moment, whose binary log position they know.

    `epoch`: that of the position, if earlier ones are of another server.

    MariaDB tells a snapshot's position without any lock; readers that opened at another one, because somebody wrote
    in between, are dropped. MySQL needs writers held for the moment of opening (FLUSH TABLES WITH READ LOCK).
    """
    with ExitStack() as stack, explained(connection, f"database `{connection.database}`"):

        def session() -> Session:
            opened = Session(connection)
            stack.callback(opened.close)
            return opened

        sessions = [session() for _ in range(wanted)]
        with ExitStack() as lock:
            if not sessions[0].is_mariadb:
                guard = session()
                guard.query("SET SESSION lock_wait_timeout = 15")
                guard.query("FLUSH TABLES WITH READ LOCK")
                lock.callback(guard.query, "UNLOCK TABLES")
            for each in sessions:
                each.query("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ")
                each.query("START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY")
            position = log_position(sessions[0])
            if sessions[0].is_mariadb:
                sessions = [each for each in sessions if log_position(each) == position]
        stated = str(position.in_epoch(epoch))
        yield [MySQLReader(source, each, stated) for each in sessions]


def cascaded_tables(session: Session) -> set[str]:
    """The database's tables whose rows change or go with those of other tables, by foreign keys."""
    rows = session.query(
        "SELECT table_name FROM information_schema.referential_constraints WHERE constraint_schema = DATABASE()"
        " AND (delete_rule IN ('CASCADE', 'SET NULL') OR update_rule IN ('CASCADE', 'SET NULL'))"
    )
    return {str(name) for (name,) in rows}


def logs_cascades(session: Session) -> bool:
    """Whether such changes reach the binary log: those that MySQL makes itself, from 9.6 on, do; the storage engine's do not."""
    rows = session.query("SHOW VARIABLES LIKE 'innodb_native_foreign_keys'")
    return bool(rows) and rows[0][1] == "OFF"


class MySQLReader:
    """Reads one database as of one moment."""

    def __init__(self, source: Source, session: Session, position: str) -> None:
        self.source = source
        self._position = position
        self.session = session
        self.connection = session.connection

    def position(self, table: Table) -> str:
        """The snapshot's binary log position."""
        return self._position

    def reset(self) -> None:
        """Make it fit for another table after a failure."""
        self.session.reset()

    def columns(self, table: Table, known: Sequence[Column]) -> list[Column]:
        """The table's columns in their order, generated and invisible ones included."""
        source = self.source
        with explained(self.connection, f"{source.schema}/{table.name}"):
            rows = self.session.query(
                "SELECT column_name, column_type, is_nullable, numeric_precision, numeric_scale"
                f" FROM information_schema.columns WHERE table_schema = DATABASE()"
                f" AND table_name = {self.session.literal(table.at_source)} ORDER BY ordinal_position"
            )
        if not rows:
            raise MissingTable(
                f"{source.schema}/{table.name}: MySQL database `{self.connection.database}` has no table `{table.at_source}` that "
                f"user {self.connection.user!r} may see. Create it or grant SELECT on it, check "
                f"{self.connection.prefix}_DATABASE, or take the table out of its declaration in source {source.name!r}."
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
                    f"{source.schema}/{table.name}: column `{name}` has type {source_type}, which cannot be carried exactly. "
                    "Convert it at the source, or declare a view without it."
                )
            columns.append(Column(name, source_type, target, is_nullable == "YES"))
        return columns

    def warnings(self, table: Table) -> list[str]:
        """What keeps the table from being as of the stated position, if anything."""
        engine = self.session.query(
            "SELECT engine FROM information_schema.tables WHERE table_schema = DATABASE()"
            f" AND table_name = {self.session.literal(table.at_source)}"
        )[0][0]
        found = []
        if engine is not None and engine not in TRANSACTIONAL_ENGINES:
            found.append(
                f"engine {engine} has no snapshots: rows written during the load may be in it or not"
            )
        if (
            table.strategy == "cdc"
            and table.at_source in cascaded_tables(self.session)
            and not logs_cascades(self.session)
        ):
            found.append(
                "a foreign key's cascades change rows without the binary log saying so: declare strategy 'snapshot', or run "
                f"`softcart reconcile {self.source.name}.{table.name} --repair` after them"
            )
        return found

    def expected_rows(self, table: Table) -> int | None:
        """The server's estimate of the number of rows."""
        rows = self.session.query(
            "SELECT table_rows FROM information_schema.tables WHERE table_schema = DATABASE()"
            f" AND table_name = {self.session.literal(table.at_source)}"
        )
        return int(rows[0][0]) if rows and rows[0][0] else None

    def batches(
        self, table: Table, columns: Sequence[Column], where: str | None = None
    ) -> Iterator[Batch]:
        """The rows as batches, streamed; `where` is SQL."""
        select = ", ".join(map(digest.mysql_value, columns))
        sql = f"SELECT {select} FROM {MYSQL.quote(table.at_source)}" + (
            f" WHERE {where}" if where else ""
        )
        with explained(self.connection, f"{self.source.schema}/{table.name}"):
            reader = self.session.read(sql, columns)
            while (found := reader.read(_BATCH_ROWS, _BATCH_BYTES)) is not None:
                rows, unfit = found
                raw = [pa.array(values, pa.binary()) for values in zip(*unfit, strict=True)]
                rejected = (
                    parse_rows(columns, raw, table.key, table.cursor).rejected if unfit else []
                )
                yield Batch(rows, rejected)
            self.session.finished()

    def ranges(self, table: Table, columns: Sequence[Column], hands: int) -> list[str | None]:
        """Conditions that cut the table into key ranges of about equal size, some for each of so many hands.

        One (None: all rows) where that would not pay or no index serves: a small table, one without a key.
        Whole numbers are cut by the server's estimates of the rows in a range, so that gaps and clusters do no harm; other keys
        by walking along the index. Types whose order in an index is not that of their comparison are not cut.
        """
        rows = self.expected_rows(table) or 0
        size = min(max(rows // (4 * hands), _RANGE_ROWS[0]), _RANGE_ROWS[1])
        leading = next((c for c in columns if table.key and c.name == table.key[0]), None)
        if rows < 2 * size or leading is None or not self._is_indexed(table, leading.name):
            return [None]
        type_ = re.split(r"[ (]", leading.source_type)[0]
        if type_.endswith("int"):
            return list(self._cut_numbers(table, leading, size))
        if type_ in _CUT_BY_WALKING:
            return list(self._cut_by_walking(table, leading, size))
        return [None]

    def _is_indexed(self, table: Table, column: str) -> bool:
        literal = self.session.literal
        return bool(
            self.session.query(
                "SELECT 1 FROM information_schema.statistics WHERE table_schema = DATABASE() AND seq_in_index = 1"
                f" AND index_type = 'BTREE' AND table_name = {literal(table.at_source)} AND column_name = {literal(column)} LIMIT 1"
            )
        )

    def _cut_numbers(self, table: Table, key: Column, size: int) -> Iterator[str]:
        """Conditions on a whole number; the first and the last are open, so that together they hold for every row."""
        name, relation = MYSQL.quote(key.name), MYSQL.quote(table.at_source)
        lowest, highest = self.session.query(f"SELECT MIN({name}), MAX({name}) FROM {relation}")[0]
        if lowest is None or highest is None:
            yield "TRUE"
            return
        explain = "EXPLAIN" if self.session.is_mariadb else "EXPLAIN FORMAT=TRADITIONAL"

        def pieces(low: int, high: int) -> Iterator[tuple[int, int]]:
            """(highest key, about how many rows) of pieces that have no more than `size` rows."""
            plan = self.session.query(
                f"{explain} SELECT 1 FROM {relation} WHERE {name} BETWEEN {low} AND {high}"
            )[0]
            rows = int(plan[8 if self.session.is_mariadb else 9] or 0)
            if rows <= size or low == high:
                yield high, rows
                return
            middle = (low + high) // 2
            yield from pieces(low, middle)
            yield from pieces(middle + 1, high)

        found = list(pieces(int(lowest), int(highest)))
        # Of wide ranges the server thinks there are about twice the rows that there are.
        total = sum(rows for _, rows in found)
        share = min((self.expected_rows(table) or total) / total, 1) if total else 1
        ends: list[int] = []
        filled, last = 0.0, int(lowest)
        for end, estimate in found:
            rows = estimate * share
            if filled and filled + rows > size:
                ends.append(last)
                filled = 0
            filled, last = filled + rows, end
        yield from _between(name, [str(end) for end in ends], is_nullable=key.nullable)

    def _cut_by_walking(self, table: Table, key: Column, size: int) -> Iterator[str]:
        name, relation = MYSQL.quote(key.name), MYSQL.quote(table.at_source)
        selected = f"HEX({name})" if key.kind is Kind.BYTES else name
        ends: list[str] = []
        while True:
            after = f" WHERE {name} > {ends[-1]}" if ends else ""
            found = self.session.query(
                f"SELECT {selected} FROM {relation}{after} ORDER BY {name} LIMIT 1 OFFSET {size}"
            )
            if not found or found[0][0] is None:
                break
            ends.append(
                f"x'{found[0][0]}'" if key.kind is Kind.BYTES else self.session.literal(found[0][0])
            )
        yield from _between(name, ends, is_nullable=key.nullable)

    def rows_past(
        self, table: Table, columns: Sequence[Column], cursor_value: str
    ) -> Iterator[Batch]:
        """The rows whose cursor lies past a value, given as PostgreSQL text.

        Rows of the very same cursor need no second look where it has microseconds, as two changes of a row never share one.
        With coarser times they do: the last minute is read again.
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
        """Every row, and the columns, which stay the same."""
        return columns, self.batches(table, columns)

    def rows_of(
        self, table: Table, columns: Sequence[Column], keys: Iterable[tuple[str, ...]]
    ) -> tuple[Sequence[Column], Iterator[Batch]]:
        """The rows with these keys, each key as its columns' PostgreSQL text, and the columns, which stay the same."""
        conditions = self.any_of(table, columns, keys)
        return columns, chain.from_iterable(
            self.batches(table, columns, where) for where in conditions
        )

    def any_of(
        self, table: Table, columns: Sequence[Column], keys: Iterable[tuple[str, ...]]
    ) -> Iterator[str]:
        """Conditions that together hold for the rows with these keys; not row constructors, whose index MariaDB overlooks."""
        by_name = {c.name: c for c in columns}

        def equals(name: str, value: str) -> str:
            match by_name[name].kind:
                case Kind.BYTES:
                    return f"{MYSQL.quote(name)} = x'{value[2:]}'"
                case Kind.TIME:
                    return f"{digest.mysql_value(by_name[name])} = {value}"
                case _:
                    return f"{MYSQL.quote(name)} = {self.session.literal(value)}"

        remaining = iter(keys)
        while some := list(islice(remaining, _KEYS_A_QUERY)):
            yield " OR ".join(f"({' AND '.join(map(equals, table.key, key))})" for key in some)

    def segments(self, table: Table, columns: Sequence[Column], rows: int) -> Segments:
        """How to divide a table of about so many rows for comparison."""
        by_name = {c.name: c for c in columns}
        key, cursor = tuple(by_name[name] for name in table.key), by_name[table.cursor or ""]
        lowest = highest = 0
        if digest.is_whole(key[0]):
            name = digest.mysql_value(key[0])
            found = self.session.query(
                f"SELECT MIN({name}), MAX({name}) FROM {MYSQL.quote(table.at_source)}"
            )[0]
            lowest, highest = (int(value or 0) for value in found)
        return Segments.of_about_a_thousand_rows(key, cursor, rows, lowest, highest)

    def digests(self, table: Table, segments: Segments) -> dict[int, tuple[str, ...]]:
        """The digest of each segment that has rows."""
        with explained(self.connection, f"{self.source.schema}/{table.name}"):
            rows = self.session.query(
                f"SELECT {segments.select(MYSQL)} FROM {MYSQL.quote(table.at_source)} GROUP BY 1"
            )
        return {int(row[0] or 0): tuple(value or "0" for value in row[1:]) for row in rows}

    def pairs(self, table: Table, segments: Segments, differing: Sequence[int]) -> Iterator[Batch]:
        """Key and cursor of every row in the segments."""
        columns = [c for c in segments.key if c != segments.cursor] + [segments.cursor]
        for start in range(0, len(differing), 200):
            yield from self.batches(
                table, columns, segments.where(MYSQL, differing[start : start + 200])
            )

    def checksums(
        self, table: Table, columns: Sequence[Column], without: Iterable[tuple[str, ...]]
    ) -> tuple[int, Checksums]:
        """Number of rows and the checksum of each column, computed by the server; the rows with some keys left out."""
        select = f"SELECT {digest.checksum_select(MYSQL, columns, table.key)} FROM {MYSQL.quote(table.at_source)}"
        with explained(self.connection, f"{self.source.schema}/{table.name}"):
            result = digest.checksums_of(columns, self.session.query(select)[0])
            for where in self.any_of(table, columns, without):
                some = digest.checksums_of(
                    columns, self.session.query(f"{select} WHERE {where}")[0]
                )
                result = digest.minus(result, some)
        return result


def _between(name: str, ends: Sequence[str], *, is_nullable: bool) -> Iterator[str]:
    """Conditions for the ranges up to each end, and for what lies behind the last."""
    if not ends:
        yield "TRUE"
        return
    yield f"({name} <= {ends[0]}{f' OR {name} IS NULL' if is_nullable else ''})"
    for low, high in pairwise(ends):
        yield f"{name} > {low} AND {name} <= {high}"
    yield f"{name} > {ends[-1]}"


_PROBE_EVENTS = 50_000
"""The log is looked through so far; past that, every table counts as changed."""
_PROBE_CHUNK = 5_000


def current_position(connection: MySQLConnection) -> Position:
    """The end of the binary log now."""
    with (
        explained(connection, f"database `{connection.database}`"),
        closing(Session(connection)) as session,
    ):
        return log_position(session)


def changed_tables(
    source: Source, connection: MySQLConnection, since: Mapping[str, str]
) -> tuple[str, dict[str, str]]:
    """The end of the binary log, and the declared tables that it says changed since their positions, with the last change's.

    A table without a position, and every table when the log is purged, not row-based or too long to look through, counts
    as changed; so does one that was last loaded from another server than the latest. What MySQL itself does not log, such as
    rows that a foreign key's cascade deletes, is not seen.
    """
    positions = {name: Position.parse(text) for name, text in since.items()}
    epoch = max((position.epoch for position in positions.values()), default=0)
    here = {
        name: position.in_epoch(0)
        for name, position in positions.items()
        if position.epoch == epoch
    }
    end, changed = _changed_since(source, connection, here)
    return str(end.in_epoch(epoch)), {
        name: str(position.in_epoch(epoch)) for name, position in changed.items()
    }


def _changed_since(
    source: Source, connection: MySQLConnection, since: Mapping[str, Position]
) -> tuple[Position, dict[str, Position]]:
    with (
        explained(connection, f"database `{connection.database}`"),
        closing(Session(connection)) as session,
    ):
        end = log_position(session)
        changed = {t.name: end for t in source.tables if t.name not in since}
        everything = {t.name: end for t in source.tables}
        names = {t.at_source: t.name for t in source.tables}
        if not since or min(since.values()) >= end:
            # A position past the end: the server was set up anew.
            return end, changed if not since or max(since.values()) == end else everything
        start = min(since.values())
        files = [str(row[0]) for row in session.query("SHOW BINARY LOGS")]
        if start.file not in files:
            return end, everything
        seen = 0
        for file in files[files.index(start.file) :]:
            first = Position.parse(f"{file}:4")
            position = start.offset if file == start.file else 4
            while seen <= _PROBE_EVENTS:
                rows = session.query(
                    f"SHOW BINLOG EVENTS IN {session.literal(file)} FROM {position} LIMIT {_PROBE_CHUNK}"
                )
                for _, _, event, _, end_position, info in rows:
                    at = first._replace(offset=int(end_position or 0))
                    for touched in _touched(connection.database, [*names], event, info):
                        name = names[touched]
                        if at > since.get(name, NOWHERE):
                            changed[name] = at
                seen += len(rows)
                if len(rows) < _PROBE_CHUNK:
                    break
                position = int(rows[-1][4] or 0)
        return (end, changed) if seen <= _PROBE_EVENTS else (end, everything)


def _touched(
    database: str, tables: Sequence[str], event: str | None, info: str | None
) -> Sequence[str]:
    """The tables that an event of the binary log may have changed."""
    info = info or ""
    if event == "Table_map":
        return [name for name in tables if f"({database}.{name})" in info]
    if event == "Transaction_payload":  # compressed, its tables unknown
        return tables
    if event not in ("Query", "Query_compressed"):
        return []
    used, statement = re.fullmatch(r"(?:use `((?:[^`]|``)*)`; )?(.*)", info, re.DOTALL).groups()  # type: ignore[union-attr]
    if used != database and database not in statement:
        return []
    if re.match(
        r"\s*(ALTER|CREATE|DROP|RENAME|TRUNCATE|ANALYZE|OPTIMIZE|REPAIR)\b(?!\s+(DATABASE|SCHEMA))",
        statement,
        re.I,
    ):
        return [t for t in tables if re.search(rf"(?<![\w$]){re.escape(t)}(?![\w$])", statement)]
    if re.match(
        r"\s*(BEGIN|COMMIT|ROLLBACK|SAVEPOINT|RELEASE|XA|GRANT|REVOKE|SET)\b", statement, re.I
    ):
        return []
    return tables  # a statement instead of rows: whatever it touched
