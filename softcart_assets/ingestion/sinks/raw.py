"""One raw table in PostgreSQL: its columns, taking rows in, merging what differs, its history.

Everything happens inside the transaction that the caller has open on the connection given. Rows come as typed Arrow
batches; where they come from is not known here.
"""

from __future__ import annotations

import itertools
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import psycopg
import pyarrow as pa
from psycopg import sql
from psycopg.types.string import TextLoader

from softcart_assets.ingestion.codec import COPY_HEADER, COPY_TRAILER, copy_rows
from softcart_assets.ingestion.errors import SchemaChanged, TargetFailed, UnsupportedColumn
from softcart_assets.ingestion.position import Position, ordered
from softcart_assets.ingestion.proof import digest
from softcart_assets.ingestion.proof.digest import POSTGRES, Checksums, Segments
from softcart_assets.ingestion.types import Batch, Column, Kind, widens
from softcart_assets.lines.model import Source, Table

OWN_COLUMNS = {
    "_deleted": "boolean NOT NULL",
    "_loaded_at": "timestamptz NOT NULL",
    "_position": "text NOT NULL",
}
"""What the engine adds to every raw table."""
_RESERVED = {
    *OWN_COLUMNS,
    "_version",
    "_committed_at",
    "_operation",
    "_load_id",
    "_month",
    "load_date",
    "_is_new",
} | {
    "_held_entry",
    "_held_released",
    "_held_seen",
    "tableoid",
    "xmin",
    "xmax",
    "cmin",
    "cmax",
    "ctid",
}
_NAME_BYTES = 63
"""PostgreSQL cuts longer names off."""
_FETCH_ROWS = 20_000
_FETCH_BLOCKS = 64
"""Pages of the temporary table of keys to fetch, of 8 kB each: 10,000 keys or so."""

quote = POSTGRES.quote


@dataclass(frozen=True)
class Counts:
    """Row versions of a merge. A row that was marked deleted and is back counts as inserted."""

    inserted: int = 0
    updated: int = 0
    deleted: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.inserted + other.inserted,
            self.updated + other.updated,
            self.deleted + other.deleted,
        )

    def __bool__(self) -> bool:
        return bool(self.inserted or self.updated or self.deleted)


class RawTable:
    """A raw table, reached over a connection with an open transaction."""

    def __init__(self, connection: psycopg.Connection, source: Source, table: Table) -> None:
        self.connection = connection
        self.table = table
        self.asset = f"{source.schema}/{table.name}"
        self.key = key_columns(source, table)
        self.name = f"{quote(source.schema)}.{quote(table.name)}"
        self.history = (
            f"{quote(source.schema)}.{quote(table.name + '_history')}" if table.history else None
        )
        self._made_history = False

    def now(self) -> datetime:
        """The transaction's time, which is the rows' `_loaded_at`."""
        return self._one("SELECT now()")[0]

    def columns(self, remembered: Iterable[dict] = (), relation: str | None = None) -> list[Column]:
        """The source's columns that the table has, none if it does not exist.

        `remembered`: what the last load's record says of them, as PostgreSQL does not know their types at the source.
        `relation`: another one, whose columns are wanted.
        """
        rows = self.connection.execute(
            "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute"
            " WHERE attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped ORDER BY attnum",
            (relation or self.name,),
        ).fetchall()
        short = {
            "timestamp without time zone": "timestamp",
            "timestamp with time zone": "timestamptz",
        }
        known = {
            column["name"]: (column["source_type"], column["nullable"]) for column in remembered
        }
        columns = []
        for name, type_ in rows:
            if name not in OWN_COLUMNS:
                source_type, nullable = known.get(name, ("", True))
                columns.append(Column(name, source_type, short.get(type_) or type_, nullable))
        return columns

    def prepare(
        self, columns: Sequence[Column], known: Sequence[Column]
    ) -> tuple[list[Column], bool]:
        """Make the table fit the source's columns; the columns as raw has them, and whether any was added.

        `known` is what the table has. Columns are added and widened; everything else is for somebody to decide: `SchemaChanged`.
        """
        self._check_names(columns)
        relations = [self.name, *([self.history] if self.history else [])]
        if not known:
            self._create(self.name, columns)
        if self.history and self._one("SELECT to_regclass(%s) IS NULL", (self.history,))[0]:
            version = "_version bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY"
            self._create(self.history, known or columns, "_committed_at timestamptz", version)
            self._made_history = True
            names = ", ".join([*(quote(c.name) for c in known or columns), *OWN_COLUMNS])
            self._run(f"INSERT INTO {self.history} ({names}) SELECT {names} FROM {self.name}")
            self._keep_versions()
        if not known:
            return list(columns), False
        if (key := self._primary_key()) and key != set(self.key):
            raise SchemaChanged(
                f"{self.asset}: the declared key is ({', '.join(self.key)}), the raw table's ({', '.join(sorted(key))}). Undo the "
                f"declaration, or drop the raw table (DROP TABLE {', '.join(relations)} CASCADE in the staging warehouse), load "
                "again and rebuild the models."
            )
        by_name = {column.name: column for column in columns}
        if (
            gone := [c.name for c in known if c.name not in by_name]
        ) and self.table.strategy != "cdc":
            raise SchemaChanged(
                f"{self.asset}: column {', '.join(map(repr, gone))} was dropped at the source. The raw table keeps its values. "
                f"If that is final, run ALTER TABLE {self.name} DROP COLUMN {quote(gone[0])} in the staging warehouse "
                "(drop or change the dbt models that use it first) and take it out of the declaration; then load again."
            )
        have = {column.name: column for column in known}
        fitting, is_added = [], False
        for column in columns:
            old = have.get(column.name)
            if old is None:
                is_added = True
                for relation in relations:
                    self._run(
                        f"ALTER TABLE {relation} ADD COLUMN {quote(column.name)} {column.target_type}"
                    )
            elif widens(column.target_type, old.target_type):
                column = replace(column, target_type=old.target_type)
            elif widens(old.target_type, column.target_type):
                self._widen(relations, column)
            else:
                raise SchemaChanged(
                    f"{self.asset}: column {column.name!r} changed its type from {old.source_type or old.target_type} to "
                    f"{column.source_type} at the source, and {old.target_type} cannot become {column.target_type} without "
                    f"loss. Undo it at the source, or drop the raw table and what depends on it "
                    f"(DROP TABLE {', '.join(relations)} CASCADE in the staging warehouse), load again and rebuild the models."
                )
            fitting.append(column)
        return fitting, is_added

    def _check_names(self, columns: Sequence[Column]) -> None:
        for name in (*(c.name for c in columns), self.table.name + "_history"):
            if name in _RESERVED or len(name.encode()) > _NAME_BYTES or "\0" in name:
                raise UnsupportedColumn(
                    f"{self.asset}: the name {name!r} cannot be used in PostgreSQL's raw table (reserved, or longer than "
                    f"{_NAME_BYTES} bytes). Rename it at the source, or declare a view that does."
                )

    def _primary_key(self) -> set[str]:
        rows = self.connection.execute(
            "SELECT attname FROM pg_index JOIN pg_attribute ON attrelid = indrelid AND attnum = ANY(indkey)"
            " WHERE indisprimary AND indrelid = to_regclass(%s)",
            (self.name,),
        )
        return {name for (name,) in rows}

    def _create(self, relation: str, columns: Sequence[Column], *more: str) -> None:
        definitions = [f"{quote(c.name)} {c.target_type}" for c in columns]
        definitions += [f"{name} {definition}" for name, definition in OWN_COLUMNS.items()]
        self._run(f"CREATE TABLE {relation} ({', '.join([*definitions, *more])})")
        self._run(f"COMMENT ON TABLE {relation} IS {literal(self.table.description)}")

    def _widen(self, relations: Sequence[str], column: Column) -> None:
        try:
            with self.connection.transaction():
                for relation in relations:
                    self._run(
                        f"ALTER TABLE {relation} ALTER COLUMN {quote(column.name)} TYPE {column.target_type}"
                    )
        except psycopg.errors.FeatureNotSupported as error:
            raise SchemaChanged(
                f"{self.asset}: column {column.name!r} grew to {column.source_type} at the source, but the raw column cannot "
                f"grow to {column.target_type} while a view uses it ({error.diag.message_detail}). Drop that view in the staging "
                "warehouse (DROP VIEW … CASCADE), load again, and run dbt, which makes it anew."
            ) from None

    def is_empty(self) -> bool:
        """Whether it has no row at all, deleted ones included."""
        return not self._one(f"SELECT EXISTS (SELECT FROM {self.name})")[0]

    def copy(
        self, into: str, columns: Sequence[Column], batches: Iterable[Batch]
    ) -> Generator[Batch]:
        """`copy_batches` over this table's connection."""
        return copy_batches(self.connection, into, columns, batches)

    def fill(
        self, columns: Sequence[Column], batches: Iterable[Batch], position: str
    ) -> Generator[Batch]:
        """Copy the batches straight into the table, which is empty; they come out as from `copy`."""
        has_key = bool(self._primary_key())
        # The same for all rows: as defaults they cost nothing on the way.
        defaults = {"_deleted": "false", "_loaded_at": "now()", "_position": literal(position)}
        for name, value in defaults.items():
            self._run(f"ALTER TABLE {self.name} ALTER COLUMN {name} SET DEFAULT {value}")
        yield from self.copy(self.name, columns, batches)
        self._filled(columns, has_key=has_key)

    def adopt(self, columns: Sequence[Column], part: str) -> bool:
        """Make a complete part table this table, which is empty; False if something, such as a view, depends on it."""
        try:
            with self.connection.transaction():
                self._run(f"DROP TABLE {self.name}")
        except psycopg.errors.DependentObjectsStillExist:
            return False
        schema, plain = self.asset.split("/", 1)
        self._run(f"ALTER TABLE {part} SET SCHEMA {quote(schema)}")
        self._run(f"ALTER TABLE {quote(schema)}.{part.split('.', 1)[1]} RENAME TO {quote(plain)}")
        self._run(f"COMMENT ON TABLE {self.name} IS {literal(self.table.description)}")
        self._filled(columns, has_key=False)
        return True

    def _filled(self, columns: Sequence[Column], *, has_key: bool) -> None:
        """Finish a table that just got all its rows: key, first versions of its history, statistics."""
        for name in OWN_COLUMNS:
            self._run(f"ALTER TABLE {self.name} ALTER COLUMN {name} DROP DEFAULT")
        if self.key and not has_key:
            self._run("SET LOCAL maintenance_work_mem = '256MB'")
            self._run(f"ALTER TABLE {self.name} ADD PRIMARY KEY ({self._names(self.key)})")
        if self.history:
            names = self._names([*(c.name for c in columns), *OWN_COLUMNS])
            self._run(f"INSERT INTO {self.history} ({names}) SELECT {names} FROM {self.name}")
            self._keep_versions()
        self._run(f"ANALYZE {self.name}")

    def _keep_versions(self) -> None:
        """Have the numbers that are given to versions from now on logged, where this transaction made the history.

        With `wal_level` minimal, what a transaction does to a sequence of its own is not logged; but the sequence believes that
        some numbers ahead are, and a crash would give the same ones out again.
        """
        if self._made_history:
            self._run(
                f"SELECT setval(pg_get_serial_sequence({literal(self.history)}, '_version'), max(_version)) FROM {self.history}"
            )

    def stage(self, columns: Sequence[Column]) -> None:
        """Make the temporary tables `incoming`, for rows as the source has them, and `changes`, for what they change."""
        definitions = ", ".join(f"{quote(c.name)} {c.target_type}" for c in columns)
        self._run("DROP TABLE IF EXISTS pg_temp.incoming, pg_temp.changes")
        self._run(f"CREATE TEMP TABLE incoming ({definitions}) ON COMMIT DROP")
        self._run(
            f"CREATE TEMP TABLE changes ({definitions}, _deleted boolean, _is_new boolean) ON COMMIT DROP"
        )

    def find_changes(
        self,
        columns: Sequence[Column],
        *,
        missing_is_deleted: bool,
        incoming: str = "pg_temp.incoming",
    ) -> Counts:
        """Fill `changes` with the rows of `incoming` that raw does not have alike, and perhaps with the rows of raw that are not
        in `incoming`, nor rejected in this load (`held`), as deleted.
        """
        self._run(f"ANALYZE {incoming}")
        names = [c.name for c in columns]
        into = f"INSERT INTO pg_temp.changes ({self._names(names)}, _deleted, _is_new)"
        row = {alias: f"ROW({self._names(names, alias)})" for alias in "ir"}
        if not self.key:
            rows = self._names(names)
            is_same = self._one(
                f"SELECT NOT EXISTS ((SELECT {rows} FROM {incoming} EXCEPT ALL SELECT {rows} FROM {self.name}) UNION ALL "
                f"(SELECT {rows} FROM {self.name} EXCEPT ALL SELECT {rows} FROM {incoming}))"
            )[0]
            if is_same:
                return Counts()
            inserted = self.connection.execute(
                f"{into} SELECT {rows}, false, true FROM {incoming}"
            ).rowcount
            if (
                not inserted
            ):  # what is told of a table that was emptied, as there is no new row to tell
                self._run(f"{into} SELECT {rows}, true, false FROM {self.name}")
            deleted = self.connection.execute(f"DELETE FROM {self.name}").rowcount
            return Counts(inserted, 0, deleted)
        first = quote(self.key[0])
        self._run(
            f"{into} SELECT {self._names(names, 'i')}, false, r.{first} IS NULL OR r._deleted"
            f" FROM {incoming} i LEFT JOIN {self.name} r ON {self._same_key('i', 'r')}"
            f" WHERE r.{first} IS NULL OR r._deleted OR {row['r']} IS DISTINCT FROM {row['i']}"
        )
        if missing_is_deleted:
            self._run(
                f"{into} SELECT {self._names(names, 'r')}, true, false FROM {self.name} r WHERE NOT r._deleted"
                f" AND NOT EXISTS (SELECT FROM {incoming} i WHERE {self._same_key('i', 'r')})"
                f" AND NOT EXISTS (SELECT FROM pg_temp.held h WHERE h._held_seen AND {self._same_key('h', 'r')})"
            )
        return Counts(
            *self._one(
                "SELECT count(*) FILTER (WHERE _is_new), count(*) FILTER (WHERE NOT _is_new AND NOT _deleted),"
                " count(*) FILTER (WHERE _deleted) FROM pg_temp.changes"
            )
        )

    def find_own(self, columns: Sequence[Column], since: Position | None = None) -> None:
        """Fill `changes` with raw's own rows, deleted ones too: all, or those that stand for a later position."""
        self.stage(columns)
        names = self._names([c.name for c in columns])
        where = ""
        if since:
            later = sql.SQL(" WHERE {} > {}").format(
                ordered(sql.SQL("_position")), ordered(sql.Literal(since))
            )
            where = later.as_string()
        self._run(
            f"INSERT INTO pg_temp.changes ({names}, _deleted, _is_new) SELECT {names}, _deleted, false FROM {self.name}{where}"
        )

    def apply_changes(
        self, columns: Sequence[Column], position: str, *, committed_at: str | None = None
    ) -> None:
        """Bring `changes` into the table and its history. `committed_at`: SQL for when a row of `changes` was committed."""
        names = self._names([c.name for c in columns])
        select = f"SELECT {names}, _deleted, now(), {literal(position)}"
        own = ", ".join(OWN_COLUMNS)
        # A column that the source no longer has is NULL in each new version, here as in the history.
        names_of_raw = {c.name: None for c in [*columns, *self.columns()]}
        values = [*(quote(name) for name in names_of_raw if name not in self.key), *OWN_COLUMNS]
        conflict = (
            f" ON CONFLICT ({self._names(self.key)}) DO UPDATE SET "
            + ", ".join(f"{name} = EXCLUDED.{name}" for name in values)
            if self.key
            else " WHERE NOT _deleted"
        )
        self._run(
            f"INSERT INTO {self.name} ({names}, {own}) {select} FROM pg_temp.changes{conflict}"
        )
        if self.history:
            name, value = (", _committed_at", f", {committed_at}") if committed_at else ("", "")
            self._run(
                f"INSERT INTO {self.history} ({names}, {own}{name}) {select}{value} FROM pg_temp.changes"
            )
            self._keep_versions()

    def changed_rows(self, columns: Sequence[Column]) -> Iterator[tuple[pa.RecordBatch, pa.Array]]:
        """The rows of `changes` as batches, with an array that says which are deletions."""
        with self.connection.cursor(name="changed_rows") as cursor:
            cursor.adapters.register_loader("jsonb", TextLoader)
            cursor.execute(
                f"SELECT {self._names([c.name for c in columns])}, _deleted FROM pg_temp.changes"
            )
            while rows := cursor.fetchmany(_FETCH_ROWS):
                *values, deleted = zip(*rows, strict=True)
                arrays = [
                    # An interval comes as timedelta; its Arrow type is microseconds.
                    pa.array(v, pa.duration("us")).cast(pa.int64())
                    if c.kind is Kind.TIME
                    else pa.array(v, c.arrow_type)
                    for c, v in zip(columns, values, strict=True)
                ]
                batch = pa.RecordBatch.from_arrays(arrays, names=[c.name for c in columns])
                yield batch, pa.array(deleted, pa.bool_())

    def latest_cursor(self, relation: str, column: Column, known: str | None) -> str | None:
        """The greatest cursor of `relation` and `known`, as text in UTC."""
        value = f"greatest(max({quote(column.name)}), {typed(literal(known), column)})"
        return self._one(f"SELECT {as_text(value, column)} FROM {relation}")[0]

    def rows(self) -> int:
        """The number of current rows."""
        return self._one(f"SELECT count(*) FROM {self.name} WHERE NOT _deleted")[0]

    # Comparison with the source. `held` has the quarantined keys; `at_source` the pairs of key and cursor that the source has.

    def hold(self, columns: Sequence[Column], open_entries: str) -> None:
        """Make the temporary table `held` of the quarantined rows' keys and cursors, from a query of open entries."""
        by_name = {c.name: c for c in columns}
        values = [
            f"{typed(f'key[{n}]', by_name[name])} AS {quote(name)}"
            for n, name in enumerate(self.key, start=1)
        ]
        cursor = self.table.cursor
        if cursor in by_name and cursor not in self.key:
            values.append(f"{typed('cursor_value', by_name[cursor])} AS {quote(cursor)}")
        selected = ", ".join(
            [
                "entry AS _held_entry",
                "is_released AS _held_released",
                "is_seen AS _held_seen",
                *values,
            ]
        )
        self._run("DROP TABLE IF EXISTS pg_temp.held")
        self._run(
            f"CREATE TEMP TABLE held ON COMMIT DROP AS SELECT {selected}"
            f" FROM ({open_entries}) entries WHERE key IS NOT NULL"
        )

    def digests(self, segments: Segments) -> dict[int, tuple[str, ...]]:
        """The digest of each segment of what raw holds of the source, the quarantined rows included."""
        rows = self.connection.execute(
            f"SELECT {segments.select(POSTGRES)} FROM ({self._live(segments)}) live GROUP BY 1"
        )
        return {int(row[0]): tuple(str(value or 0) for value in row[1:]) for row in rows}

    def _live(self, segments: Segments) -> str:
        names = self._names(dict.fromkeys([*(c.name for c in segments.key), segments.cursor.name]))
        rows = f"SELECT {names} FROM {self.name} r WHERE NOT _deleted"
        if not self._one("SELECT EXISTS (SELECT FROM pg_temp.held)")[0]:
            return rows  # the usual case; temporary tables would keep PostgreSQL from working in parallel
        return (
            f"{rows} AND NOT EXISTS (SELECT FROM pg_temp.held h WHERE {self._same_key('h', 'r')})"
            f" UNION ALL SELECT {names} FROM pg_temp.held WHERE NOT _held_released"
        )

    def stage_pairs(self, segments: Segments) -> list[Column]:
        """Make the temporary table `at_source`; its columns."""
        columns = list(dict.fromkeys([*segments.key, segments.cursor]))
        definitions = ", ".join(f"{quote(c.name)} {c.target_type}" for c in columns)
        self._run(f"CREATE TEMP TABLE at_source ({definitions}) ON COMMIT DROP")
        return columns

    def add_pair_without_cursor(self, columns: Sequence[Column], key: tuple[str, ...]) -> None:
        """Note in `at_source` a key whose cursor cannot be carried."""
        values = (typed(literal(text), c) for text, c in zip(key, columns, strict=False))
        self._run(
            f"INSERT INTO pg_temp.at_source ({self._names(self.key)}) VALUES ({', '.join(values)})"
        )

    def keys_to_fetch(self, segments: Segments) -> Iterator[list[tuple[str, ...]]]:
        """The keys, as text, of the rows of `at_source` that raw does not have at the same cursor, some thousands at a time.

        When the next ones are asked for, those before have been staged in `incoming`: `at_source` then says of them what
        the rows said, in case they changed or went since their pairs were read.
        """
        cursor = quote(segments.cursor.name)
        by_name = {c.name: c for c in segments.key}
        keys = ", ".join(as_text(f"f.{quote(name)}", by_name[name]) for name in self.key)
        pair = self._names(dict.fromkeys([*self.key, segments.cursor.name]))
        self._run("ANALYZE pg_temp.at_source")
        self._run(
            f"CREATE TEMP TABLE to_fetch ON COMMIT DROP AS SELECT {self._names(self.key, 's')}"
            f" FROM pg_temp.at_source s LEFT JOIN ({self._live(segments)}) live ON {self._same_key('s', 'live')}"
            f" WHERE live.{quote(self.key[0])} IS NULL OR live.{cursor} IS DISTINCT FROM s.{cursor}"
        )
        for block in itertools.count(0, _FETCH_BLOCKS):
            some = f"f.ctid >= '({block},0)'::tid AND f.ctid < '({block + _FETCH_BLOCKS},0)'::tid"
            rows = self.connection.execute(
                f"SELECT {keys} FROM pg_temp.to_fetch f WHERE {some}"
            ).fetchall()
            if not rows:
                return
            yield rows
            self._run(
                f"DELETE FROM pg_temp.at_source s USING pg_temp.to_fetch f WHERE {some} AND {self._same_key('s', 'f')}"
            )
            self._run(f"INSERT INTO pg_temp.at_source ({pair}) SELECT {pair} FROM pg_temp.incoming")

    def find_deleted(
        self, columns: Sequence[Column], segments: Segments, differing: Sequence[int]
    ) -> Counts:
        """Fill `changes` with the rows of raw in the segments that are not in `at_source`, nor rejected in this load."""
        names = [c.name for c in columns]
        done = self.connection.execute(
            f"INSERT INTO pg_temp.changes ({self._names(names)}, _deleted, _is_new)"
            f" SELECT {self._names(names, 'r')}, true, false FROM {self.name} r WHERE NOT r._deleted"
            f" AND {self._in(segments, differing)}"
            f" AND NOT EXISTS (SELECT FROM pg_temp.at_source s WHERE {self._same_key('s', 'r')})"
            f" AND NOT EXISTS (SELECT FROM pg_temp.held h WHERE h._held_seen AND {self._same_key('h', 'r')})"
        )
        return Counts(deleted=done.rowcount)

    def _in(self, segments: Segments, differing: Sequence[int]) -> str:
        return f"{segments.expression(POSTGRES)} = ANY ({literal([int(s) for s in differing])})"

    def held_not_at_source(self, segments: Segments, differing: Sequence[int]) -> list[int]:
        """The quarantine entries of rows in the segments that the source has no longer."""
        rows = self.connection.execute(
            f"SELECT _held_entry FROM pg_temp.held h WHERE {self._in(segments, differing)}"
            f" AND NOT h._held_seen AND NOT EXISTS (SELECT FROM pg_temp.at_source s WHERE {self._same_key('s', 'h')})"
        )
        return [row[0] for row in rows]

    def held_in(self, relation: str) -> list[int]:
        """The quarantine entries of earlier loads whose rows are in `relation`; they are not held any more."""
        rows = self.connection.execute(
            f"DELETE FROM pg_temp.held h USING {relation} i WHERE {self._same_key('h', 'i')} AND NOT h._held_seen RETURNING _held_entry"
        )
        return [row[0] for row in rows]

    def checksums(
        self, columns: Sequence[Column], relation: str | None = None
    ) -> tuple[int, Checksums]:
        """Number of current rows and the checksum of each column, of the table or another relation; what is `held` is left out."""
        conditions = [] if relation else ["NOT _deleted"]
        if self.key and self._one("SELECT EXISTS (SELECT FROM pg_temp.held)")[0]:
            conditions.append(
                f"NOT EXISTS (SELECT FROM pg_temp.held h WHERE {self._same_key('h', 'r')})"
            )
        row = self._one(
            f"SELECT {digest.checksum_select(POSTGRES, columns, self.key)} FROM {relation or self.name} r"
            + (f" WHERE {' AND '.join(conditions)}" if conditions else "")
        )
        return digest.checksums_of(columns, row)

    # Following a source whose columns change.

    def evolve(
        self, columns: Sequence[Column], known: Sequence[Column]
    ) -> tuple[list[Column], bool]:
        """Make the table and its history fit the source's columns, whatever has become of them; the columns as raw has them, and
        whether some have become of a type that does not hold the values of before.

        What was dropped stays. Where values cannot take a new type, raw's become NULL, until they are read from the source
        again, and the history's become text. `SchemaChanged` if a view stands in the way.
        """
        self._check_names(columns)
        have = {column.name: column for column in known}
        fitting, is_retyped = [], False
        for column in columns:
            old = have.get(column.name)
            if old is None:
                for relation in filter(None, (self.name, self.history)):
                    self._run(
                        f"ALTER TABLE {relation} ADD COLUMN IF NOT EXISTS {quote(column.name)} {column.target_type}"
                    )
            elif widens(column.target_type, old.target_type):
                column = replace(column, target_type=old.target_type)
            elif widens(old.target_type, column.target_type):
                self._widen([self.name], column)
                self._retype(column, self.history, otherwise="text")
            else:
                is_retyped = True
                self._retype(column, self.name, otherwise=None)
                self._retype(column, self.history, otherwise="text")
            fitting.append(column)
        return fitting, is_retyped

    def _retype(self, column: Column, relation: str | None, otherwise: str | None) -> None:
        """Give a column another type; if its values cannot take it, the type `otherwise`, or no values."""
        if relation is None:
            return
        name, type_ = quote(column.name), column.target_type
        alter = f"ALTER TABLE {relation} ALTER COLUMN {name} TYPE"
        try:
            with self.connection.transaction():
                self._run(f"{alter} {type_} USING {name}::text::{type_}")
        except (psycopg.DataError, psycopg.errors.CannotCoerce):
            self._run(
                f"{alter} {otherwise} USING {name}::{otherwise}"
                if otherwise
                else f"{alter} {type_} USING NULL"
            )
        except psycopg.errors.FeatureNotSupported as error:
            raise SchemaChanged(
                f"{self.asset}: column {column.name!r} became {column.source_type} at the source, but the raw column cannot "
                f"become {type_} while a view uses it ({error.diag.message_detail}). Drop that view in the staging warehouse "
                f"(DROP VIEW … CASCADE), run `softcart resnapshot {self.asset.replace('raw_', '').replace('/', '.')}`, and run dbt, "
                "which makes it anew."
            ) from None

    def _names(self, names: Iterable[str], alias: str | None = None) -> str:
        return ", ".join(f"{alias}.{quote(name)}" if alias else quote(name) for name in names)

    def _same_key(self, left: str, right: str) -> str:
        return " AND ".join(f"{left}.{quote(name)} = {right}.{quote(name)}" for name in self.key)

    def _run(self, statement: str) -> None:
        self.connection.execute(statement)

    def _one(self, query: str, parameters: Sequence[object] | None = None) -> tuple:
        row = self.connection.execute(query, parameters).fetchone()
        assert row is not None
        return row


def copy_batches(
    connection: psycopg.Connection, into: str, columns: Sequence[Column], batches: Iterable[Batch]
) -> Generator[Batch]:
    """Copy the batches' rows into a table; each batch comes out again when its rows are on their way.

    A batch with rejected rows comes out when the connection is free for other statements. Close it on leaving it early:
    until then the connection is locked and cannot even be rolled back.
    """
    statement = (
        f"COPY {into} ({', '.join(quote(c.name) for c in columns)}) FROM STDIN (FORMAT BINARY)"
    )
    remaining = iter(batches)
    while True:
        last = None
        with connection.cursor() as cursor, cursor.copy(statement.encode()) as copy:
            copy.write(COPY_HEADER)
            for batch in remaining:
                copy.write(copy_rows(columns, batch.rows))
                if batch.rejected:
                    last = batch
                    break
                yield batch
            copy.write(COPY_TRAILER)
        if last is None:
            return
        yield last


def key_columns(source: Source, table: Table) -> tuple[str, ...]:
    """The raw table's key: the declared one, and for MongoDB, where `1` and `"1"` are two, the type of `_id`."""
    return (*table.key, "_id_type") if source.kind == "mongodb" else table.key


def literal(value: object) -> str:
    """A value as SQL."""
    return sql.Literal(value).as_string()


def typed(text: str, column: Column) -> str:
    """SQL that reads a value from its text, in UTC."""
    if column.kind is Kind.TIME:
        return f"({text} || ' microseconds')::interval"
    return f"{text}::{column.target_type}"


def as_text(name: str, column: Column) -> str:
    """SQL for a value as text, in UTC, as `typed` and the source read it."""
    match column.kind:
        case Kind.INSTANT:
            return f"({name} AT TIME ZONE 'UTC')::text"
        case Kind.TIME:
            return f"(extract(epoch FROM {name}) * 1000000)::bigint::text"
        case _:
            return f"{name}::text"


def explain(error: psycopg.Error, asset: str, key: Sequence[str]) -> TargetFailed:
    """What a PostgreSQL error during a load means, and what to do."""
    if isinstance(error, psycopg.errors.UniqueViolation | psycopg.errors.CardinalityViolation):
        what = (
            f"the declared key ({', '.join(key)}) is not unique at the source ({error.diag.message_detail}). Declare the key "
            "that is, or none and strategy 'snapshot'."
        )
    elif isinstance(error, psycopg.errors.NotNullViolation):
        what = f"the declared key ({', '.join(key)}) is NULL in some row. Declare another one."
    elif isinstance(error, psycopg.errors.DiskFull):
        what = "the disk of the staging warehouse is full. Make room, then run the load again."
    elif isinstance(error, psycopg.errors.ProgramLimitExceeded) and key:
        what = (
            f"a value of the declared key ({', '.join(key)}) is longer than PostgreSQL can index ({error.diag.message_primary}). "
            "Declare another key, or none and strategy 'snapshot' or 'cdc'."
        )
    elif isinstance(error, psycopg.OperationalError):
        what = (
            f"the staging warehouse failed ({str(error).strip()}). Run the load again; if it persists, check "
            "SOFTCART_STAGING_HOST, _PORT."
        )
    else:
        what = f"the staging warehouse refused the rows ({str(error).strip()})."
    return TargetFailed(f"{asset}: {what} Nothing of it was committed.")
