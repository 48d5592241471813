"""One raw table in PostgreSQL: it takes rows in, merges what differs and keeps the history.

Everything happens in the transaction that the caller has open on the given connection. Rows come as
typed Arrow batches. This module does not know where they come from.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

import psycopg
import pyarrow as pa
from psycopg import sql
from psycopg.types.string import TextLoader

from softcart_assets.ingestion.errors import SchemaChanged
from softcart_assets.ingestion.position import Position, ordered
from softcart_assets.ingestion.proof import digest
from softcart_assets.ingestion.proof.digest import Checksums
from softcart_assets.ingestion.proof.postgres import POSTGRES
from softcart_assets.ingestion.sinks.copying import copy_batches
from softcart_assets.ingestion.sinks.raw_schema import (
    NEXT_VERSION,
    OWN_COLUMNS,
    VERSION,
    RawSchema,
)
from softcart_assets.ingestion.sinks.sql import as_text, listed, literal, quote, typed
from softcart_assets.ingestion.types import Batch, Column, Kind

_FETCH_ROWS = 20_000


@dataclass(frozen=True)
class Counts:
    """Row versions of a merge. A row that was marked as deleted and came back counts as
    inserted.
    """

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


class RawTable(RawSchema):
    """The rows of a raw table, used over a connection with an open transaction.

    Temporary tables hold what is to be merged. `incoming`: rows as the source has them. `changes`:
    what they change. `held`: keys and cursors of the rows in quarantine.
    """

    def now(self) -> datetime:
        """Return the transaction's time, which is the rows' `_loaded_at`."""
        moment: datetime = self._one("SELECT now()")[0]
        return moment

    def is_empty(self) -> bool:
        """Return whether the table has no row at all, including deleted ones."""
        return not self._one(f"SELECT EXISTS (SELECT FROM {self.name})")[0]

    def analyze(self) -> None:
        """Give the planner figures of the table's rows. Nothing depends on them but speed."""
        self._run(f"ANALYZE {self.name}")

    def copy(
        self, into: str, columns: Sequence[Column], batches: Iterable[Batch]
    ) -> Generator[Batch]:
        """`copy_batches` over this table's connection."""
        return copy_batches(self.connection, into, columns, batches)

    def fill(
        self, columns: Sequence[Column], batches: Iterable[Batch], position: str
    ) -> Generator[Batch]:
        """Copy the batches into the empty table. They are yielded as by `copy`."""
        has_key = bool(self._primary_key())
        # The same for all rows: as defaults they cost nothing on the way.
        defaults = {
            "_deleted": "false",
            "_loaded_at": "now()",
            "_position": literal(position),
            VERSION: literal(self._one(f"SELECT {NEXT_VERSION}")[0]),
        }
        for name, value in defaults.items():
            self._run(f"ALTER TABLE {self.name} ALTER COLUMN {name} SET DEFAULT {value}")
        yield from self.copy(self.name, columns, batches)
        self._filled(columns, has_key=has_key)

    def adopt(self, columns: Sequence[Column], part: str) -> bool:
        """Replace this empty table by a complete part table.

        Returns False if something depends on this table, such as a view.
        """
        try:
            # A savepoint: if the DROP fails, the load goes on in the same transaction.
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
        """Add the key and the first versions to a table that has just got all its rows."""
        for name in OWN_COLUMNS:
            self._run(f"ALTER TABLE {self.name} ALTER COLUMN {name} DROP DEFAULT")
        self._run(f"ALTER TABLE {self.name} ALTER COLUMN {VERSION} SET DEFAULT {NEXT_VERSION}")
        if self.key and not has_key:
            # Sorting the keys is a third of a first load. The default of 64 MB spills to disk. A
            # server that gives more keeps it.
            self._run(
                "SELECT set_config(name, greatest(setting::bigint, 256 * 1024)::text, true)"
                " FROM pg_settings WHERE name = 'maintenance_work_mem'"
            )
            self._run(f"ALTER TABLE {self.name} ADD PRIMARY KEY ({listed(self.key)})")
        if self.history:
            names = listed([*(c.name for c in columns), *OWN_COLUMNS])
            self._run(f"INSERT INTO {self.history} ({names}) SELECT {names} FROM {self.name}")
            self._keep_versions()

    def stage(self, columns: Sequence[Column]) -> None:
        """Create the temporary tables `incoming` (rows as the source has them) and `changes` (what
        they change).
        """
        definitions = ", ".join(f"{quote(c.name)} {c.target_type}" for c in columns)
        self._run("DROP TABLE IF EXISTS pg_temp.incoming, pg_temp.changes")
        self._run(f"CREATE TEMP TABLE incoming ({definitions}) ON COMMIT DROP")
        self._run(
            f"CREATE TEMP TABLE changes ({definitions}, _deleted boolean, _is_new boolean) ON "
            "COMMIT DROP"
        )

    def find_changes(
        self,
        columns: Sequence[Column],
        *,
        missing_is_deleted: bool,
        incoming: str = "pg_temp.incoming",
    ) -> Counts:
        """Fill `changes` with the rows of `incoming` that are new to raw or differ from it.

        With `missing_is_deleted`, also add raw's rows that are not in `incoming`, as deleted. Rows
        that this load rejected (`held`) are not deleted.
        """
        self._run(f"ANALYZE {incoming}")
        names = [c.name for c in columns]
        into = f"INSERT INTO pg_temp.changes ({listed(names)}, _deleted, _is_new)"
        row = {alias: f"ROW({listed(names, alias)})" for alias in "ir"}
        if not self.key:
            rows = listed(names)
            is_same = self._one(
                # EXCEPT ALL counts how often a row occurs. Plain EXCEPT would not see a lost
                # duplicate.
                f"SELECT NOT EXISTS ((SELECT {rows} FROM {incoming} EXCEPT ALL SELECT {rows} FROM "
                f"{self.name}) UNION ALL "
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
            # All rows go and all come again: without a key, nobody can say which of two identical
            # rows is gone.
            deleted = self.connection.execute(f"DELETE FROM {self.name}").rowcount
            return Counts(inserted, 0, deleted)
        first = quote(self.key[0])
        self._run(
            f"{into} SELECT {listed(names, 'i')}, false, r.{first} IS NULL OR r._deleted"
            f" FROM {incoming} i LEFT JOIN {self.name} r ON {self.same_key('i', 'r')}"
            # Only rows that differ are written. An UPDATE with equal values would cost as much as a
            # real one, and the history would get a version without a change.
            f" WHERE r.{first} IS NULL OR r._deleted OR {row['r']} IS DISTINCT FROM {row['i']}"
        )
        if missing_is_deleted:
            self._run(
                f"{into} SELECT {listed(names, 'r')}, true, false FROM {self.name} r WHERE NOT "
                "r._deleted"
                f" AND NOT EXISTS (SELECT FROM {incoming} i WHERE {self.same_key('i', 'r')})"
                " AND NOT EXISTS (SELECT FROM pg_temp.held h WHERE h._held_seen AND "
                f"{self.same_key('h', 'r')})"
            )
        return Counts(
            *self._one(
                "SELECT count(*) FILTER (WHERE _is_new), count(*) FILTER (WHERE NOT _is_new AND "
                "NOT _deleted),"
                " count(*) FILTER (WHERE _deleted) FROM pg_temp.changes"
            )
        )

    def find_own(self, columns: Sequence[Column], since: Position | None = None) -> None:
        """Fill `changes` with raw's own rows, deleted ones included.

        All of them, or those with a later position than `since`.
        """
        self.stage(columns)
        names = listed([c.name for c in columns])
        where = ""
        if since:
            later = sql.SQL(" WHERE {} > {}").format(
                ordered(sql.SQL("_position")), ordered(sql.Literal(since))
            )
            where = later.as_string()
        self._run(
            f"INSERT INTO pg_temp.changes ({names}, _deleted, _is_new) SELECT {names}, _deleted, "
            f"false FROM {self.name}{where}"
        )

    def refuse_shared_keys(self, incoming: str, *, is_all: bool) -> None:
        """Raise `SchemaChanged` if rows of a relation that was merged share a key.

        `is_all`: it has all rows that can be carried. Otherwise it has few.
        """
        if not self.key or (is_all and self._is_complete(incoming)):
            return
        key = listed(self.key)
        shared = self.connection.execute(
            f"SELECT {key} FROM {incoming} GROUP BY {key} HAVING count(*) > 1 LIMIT 1".encode()
        ).fetchone()
        if shared:
            values = ", ".join(map(str, shared))
            raise SchemaChanged(
                f"{self.asset}: the declared key ({', '.join(self.key)}) is no longer unique at "
                f"the source: several rows have ({values}). Declare a unique key, or none. Then "
                f"drop the raw table (DROP TABLE {', '.join(self._relations)} CASCADE in the "
                "staging warehouse), load again and rebuild the models."
            )

    def _is_complete(self, incoming: str) -> bool:
        """Return whether raw has as many rows as a relation that was merged. Fewer have met."""
        # Counting costs a fraction of looking for the key that rows share.
        rows, current = self._one(
            f"SELECT (SELECT count(*) FROM {incoming}), (SELECT count(*) FROM {self.name} r "
            "WHERE NOT _deleted AND NOT EXISTS (SELECT FROM pg_temp.held h WHERE h._held_seen AND "
            f"{self.same_key('h', 'r')}))"
        )
        return bool(rows == current)

    def apply_changes(
        self, columns: Sequence[Column], position: str, *, committed_at: str | None = None
    ) -> None:
        """Bring `changes` into the table and its history.

        `committed_at`: SQL for the time when a row of `changes` was committed.
        """
        names = listed([c.name for c in columns])
        select = f"SELECT {names}, _deleted, now(), {literal(position)}"
        own = ", ".join(OWN_COLUMNS)
        # A column that the source no longer has is NULL in each new version, here as in the
        # history.
        names_of_raw = {c.name: None for c in [*columns, *self.columns()]}
        values = [
            *(quote(name) for name in names_of_raw if name not in self.key),
            *OWN_COLUMNS,
            # Its default has made a new number for the row of `changes`.
            VERSION,
        ]
        conflict = (
            f" ON CONFLICT ({listed(self.key)}) DO UPDATE SET "
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
                f"INSERT INTO {self.history} ({names}, {own}{name}) {select}{value} FROM "
                "pg_temp.changes"
            )
            self._keep_versions()

    def changed_rows(self, columns: Sequence[Column]) -> Iterator[tuple[pa.RecordBatch, pa.Array]]:
        """Yield the rows of `changes` as batches, with an array that marks the deletions."""
        # A cursor on the server: otherwise the client would hold all rows in memory.
        with self.connection.cursor(name="changed_rows") as cursor:
            # As text: parsed by Python and written again, a number such as 1.10 would lose its last
            # digit.
            cursor.adapters.register_loader("jsonb", TextLoader)
            cursor.execute(
                f"SELECT {listed([c.name for c in columns])}, _deleted FROM pg_temp.changes"
            )
            while rows := cursor.fetchmany(_FETCH_ROWS):
                *values, deleted = zip(*rows, strict=True)
                arrays = [
                    # An interval comes as a timedelta. Its Arrow type is a number of microseconds.
                    pa.array(v, pa.duration("us")).cast(pa.int64())
                    if c.kind is Kind.TIME
                    else pa.array(v, c.arrow_type)
                    for c, v in zip(columns, values, strict=True)
                ]
                batch = pa.RecordBatch.from_arrays(arrays, names=[c.name for c in columns])
                yield batch, pa.array(deleted, pa.bool_())

    def latest_cursor(self, relation: str, column: Column, known: str | None) -> str | None:
        """Return the greatest cursor of `relation` and `known`, as text in UTC."""
        value = f"greatest(max({quote(column.name)}), {typed(literal(known), column)})"
        latest: str | None = self._one(f"SELECT {as_text(value, column)} FROM {relation}")[0]
        return latest

    def rows(self) -> int:
        """The number of current rows."""
        return int(self._one(f"SELECT count(*) FROM {self.name} WHERE NOT _deleted")[0])

    def hold(self, columns: Sequence[Column], open_entries: str) -> None:
        """Create the temporary table `held` with the keys and cursors of the quarantined rows.

        `open_entries`: query of the open entries, see `Recorder.entries`.
        """
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

    def held_in(self, relation: str) -> list[int]:
        """Return the quarantine entries of earlier loads whose rows are in `relation`.

        These entries are not held any more.
        """
        rows = self.connection.execute(
            # Entries that this load itself has found unfit stay.
            f"DELETE FROM pg_temp.held h USING {relation} i WHERE {self.same_key('h', 'i')} AND "
            "NOT h._held_seen RETURNING _held_entry"
        )
        return [row[0] for row in rows]

    def checksums(
        self, columns: Sequence[Column], relation: str | None = None, *, held: bool | None = None
    ) -> tuple[int, Checksums]:
        """Return the number of current rows and the checksum of each column, of the table or
        another relation. `held`: only of rows that are in `held`, or are not.
        """
        conditions = [] if relation else ["NOT _deleted"]
        if held is not None:
            exists = f"EXISTS (SELECT FROM pg_temp.held h WHERE {self.same_key('h', 'r')})"
            conditions.append(exists if held else f"NOT {exists}")
        rows = f" FROM {relation or self.name} r"
        if conditions:
            rows += f" WHERE {' AND '.join(conditions)}"
        return digest.checksums_by(
            lambda sums: self._one(f"SELECT {sums}{rows}"), POSTGRES, columns, self.key
        )

    def any_held(self) -> bool:
        """Return whether rows are in `held`."""
        return bool(self._one("SELECT EXISTS (SELECT FROM pg_temp.held)")[0])
