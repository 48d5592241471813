"""The definition of one raw table in PostgreSQL: its columns, key and history, and how they
change.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import psycopg

from softcart_assets.ingestion.connectors import connector
from softcart_assets.ingestion.errors import SchemaChanged, UnsupportedColumn
from softcart_assets.ingestion.sinks.sql import literal, quote
from softcart_assets.ingestion.types import Column, widens
from softcart_assets.lines.model import Source, Table
from softcart_assets.views import ViewKept, put_aside

OWN_COLUMNS = {
    "_deleted": "boolean NOT NULL",
    "_loaded_at": "timestamptz NOT NULL",
    "_position": "text NOT NULL",
}
"""What the engine adds to every raw table and its history."""
VERSION = "_version"
"""The number of the write that brought a row: it grows with each write to a table.

What follows raw goes by it and not by `_loaded_at`, because clocks are set back. A history numbers
its rows itself, in a column of the same name.
"""
NEXT_VERSION = "nextval('ingestion.versions')"
# All that raw, history, lake and temporary tables add, and PostgreSQL's system columns: a source's
# column of such a name would be mixed up with ours.
RESERVED = {
    *OWN_COLUMNS,
    VERSION,
    "_committed_at",
    "_operation",
    "_load_id",
    "_month",
    "load_date",
    "_is_new",
    "_sequence",
    "_last",
    "_copies",
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


class RawSchema:
    """The definition of a raw table, used over a connection with an open transaction."""

    def __init__(self, connection: psycopg.Connection, source: Source, table: Table) -> None:
        self.connection = connection
        self.source, self.table = source, table
        self.asset = f"{source.schema}/{table.name}"
        self.key = connector(source.kind).raw_key(table)
        self.name = f"{quote(source.schema)}.{quote(table.name)}"
        self.history = (
            f"{quote(source.schema)}.{quote(table.name + '_history')}" if table.history else None
        )
        self._made_history = False

    def columns(
        self, remembered: Iterable[dict[str, Any]] = (), relation: str | None = None
    ) -> list[Column]:
        """Return the source's columns that the table has. Empty if the table does not exist.

        `remembered`: the columns in the last load's record, because PostgreSQL does not know their
        types at the source. `relation`: another relation whose columns are wanted.
        """
        rows = self.connection.execute(
            "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute"
            # `to_regclass` gives NULL, not an error, for a table that does not exist.
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
            if name not in OWN_COLUMNS and name != VERSION:
                source_type, nullable = known.get(name, ("", True))
                columns.append(Column(name, source_type, short.get(type_) or type_, nullable))
        return columns

    def prepare(
        self, columns: Sequence[Column], known: Sequence[Column]
    ) -> tuple[list[Column], bool]:
        """Make the table fit the source's columns.

        `known`: the columns that the table has. Returns the columns as raw has them, and whether
        any was added. Columns are added and widened. A person has to decide about any other change:
        then `SchemaChanged` is raised.
        """
        self._check_names(columns)
        if not known:
            self._create(self.name, columns, f"{VERSION} bigint NOT NULL DEFAULT {NEXT_VERSION}")
        if self.history and self._one("SELECT to_regclass(%s) IS NULL", (self.history,))[0]:
            self._begin_history(known or columns)
        if not known:
            return list(columns), False
        self._refuse_other_key()
        self._refuse_dropped(columns, known)
        have = {column.name: column for column in known}
        fitting = [self._fitted(column, have.get(column.name)) for column in columns]
        return fitting, any(column.name not in have for column in columns)

    @property
    def _relations(self) -> list[str]:
        return [self.name, *([self.history] if self.history else [])]

    def _begin_history(self, columns: Sequence[Column]) -> None:
        """Create the history. The table's present rows are its first versions."""
        assert self.history
        version = f"{VERSION} bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY"
        self._create(self.history, columns, "_committed_at timestamptz", version)
        self._made_history = True
        names = ", ".join([*(quote(c.name) for c in columns), *OWN_COLUMNS])
        self._run(f"INSERT INTO {self.history} ({names}) SELECT {names} FROM {self.name}")
        self._keep_versions()

    def _refuse_other_key(self) -> None:
        key = self._primary_key()
        if key and key != set(self.key):
            raise SchemaChanged(
                f"{self.asset}: the declared key is ({', '.join(self.key)}), the raw table's "
                f"({', '.join(sorted(key))}). Undo the declaration, or drop the raw table (DROP "
                "TABLE "
                f"{', '.join(self._relations)} CASCADE in the staging warehouse), load again and "
                "rebuild the models."
            )

    def _refuse_dropped(self, columns: Sequence[Column], known: Sequence[Column]) -> None:
        names = {column.name for column in columns}
        gone = [column.name for column in known if column.name not in names]
        # For a captured table, capture knows when the column went, and the table's contract
        # decides.
        if gone and self.table.strategy != "cdc":
            raise SchemaChanged(
                f"{self.asset}: column {', '.join(map(repr, gone))} was dropped at the source. The "
                "raw "
                f"table keeps its values. If that is final, run ALTER TABLE {self.name} DROP "
                "COLUMN "
                f"{quote(gone[0])} in the staging warehouse (drop or change the dbt models that "
                "use it "
                "first) and take it out of the declaration; then load again."
            )

    def _fitted(self, column: Column, old: Column | None) -> Column:
        """Return the source's column as raw has it. It may be added or widened for this."""
        if old is None:
            for relation in self._relations:
                self._run(
                    # Without a default, so PostgreSQL writes no row, however big the table.
                    f"ALTER TABLE {relation} ADD COLUMN {quote(column.name)} {column.target_type}"
                )
            return column
        if widens(column.target_type, old.target_type):
            # Raw keeps the wider type, which older versions in the history may need.
            return replace(column, target_type=old.target_type)
        if widens(old.target_type, column.target_type):
            self._widen(self._relations, column)
            return column
        raise SchemaChanged(
            f"{self.asset}: column {column.name!r} changed its type from "
            f"{old.source_type or old.target_type} to {column.source_type} at the source, and "
            f"{old.target_type} cannot become {column.target_type} without loss. Undo it at the "
            "source, or drop the raw table and what depends on it (DROP TABLE "
            f"{', '.join(self._relations)} CASCADE in the staging warehouse), load again and "
            "rebuild "
            "the models."
        )

    def _check_names(self, columns: Sequence[Column]) -> None:
        tables = [self.table.name, *([f"{self.table.name}_history"] if self.history else [])]
        for name in (*(c.name for c in columns), *tables):
            if name in RESERVED or len(name.encode()) > _NAME_BYTES or "\0" in name:
                raise UnsupportedColumn(
                    f"{self.asset}: the name {name!r} cannot be used in PostgreSQL's raw table "
                    "(reserved, or longer than "
                    f"{_NAME_BYTES} bytes). Rename it at the source, or declare a view that does."
                )

    def _primary_key(self) -> set[str]:
        rows = self.connection.execute(
            "SELECT attname FROM pg_index JOIN pg_attribute ON attrelid = indrelid AND attnum = "
            "ANY(indkey)"
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
        # All relations or none, so that table and history keep the same types.
        with self.connection.transaction():
            for relation in relations:
                with self._without_views(relation, column):
                    self._run(
                        f"ALTER TABLE {relation} ALTER COLUMN {quote(column.name)} TYPE "
                        f"{column.target_type}"
                    )

    @contextmanager
    def _without_views(self, relation: str, column: Column) -> Iterator[None]:
        """Put aside the views that read a column while it changes its type.

        Raises `SchemaChanged` if something else depends on it, or a view cannot be made again.
        """
        try:
            # Our own staging models are such views (airbytehq/airbyte#71347).
            with self.connection.transaction(), put_aside(self.connection, relation, column.name):
                yield
        except (
            psycopg.ProgrammingError,
            psycopg.NotSupportedError,
            psycopg.errors.DependentObjectsStillExist,
            ViewKept,
        ) as error:
            raise SchemaChanged(
                f"{self.asset}: column {column.name!r} became {column.source_type} at the source, "
                f"but the raw column cannot become {column.target_type} while something depends on "
                f"it ({_cause(error)}). Drop that in the "
                f"staging warehouse, {self._again}, and make it anew."
            ) from None

    @property
    def _again(self) -> str:
        """What has to be done when the cause of an error is gone."""
        name = f"{self.asset.removeprefix('raw_').replace('/', '.')}"
        # A captured table has stopped. A load alone leaves it stopped.
        is_captured = self.table.strategy == "cdc"
        return f"run `softcart resnapshot {name}`" if is_captured else "load again"

    def _keep_versions(self) -> None:
        """Have PostgreSQL log the version numbers from now on, if this transaction created the
        history.

        With `wal_level` minimal, changes to a sequence are not logged in the transaction that
        created it. But the sequence believes that some numbers ahead are logged. After a crash it
        would give out the same numbers again.
        """
        if self._made_history:
            self._run(
                # Seen in a run of the torture with kill -9: numbers came twice, and the table
                # stopped.
                f"SELECT setval(pg_get_serial_sequence({literal(self.history)}, '_version'), "
                f"max(_version)) FROM {self.history}"
            )

    def evolve(
        self, columns: Sequence[Column], known: Sequence[Column]
    ) -> tuple[list[Column], bool]:
        """Make the table and its history fit the source's columns, however these have changed.

        Returns the columns as raw has them, and whether some got a type that cannot hold the old
        values.

        Dropped columns stay. If values cannot take a new type, raw's become NULL until they are
        read again, and the history's become text. Raises `SchemaChanged` if something that depends
        on a column keeps it from changing.
        """
        self._check_names(columns)
        have = {column.name: column for column in known}
        fitting, is_retyped = [], False
        for column in columns:
            old = have.get(column.name)
            if old is None:
                for relation in filter(None, (self.name, self.history)):
                    self._run(
                        f"ALTER TABLE {relation} ADD COLUMN IF NOT EXISTS {quote(column.name)} "
                        f"{column.target_type}"
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
        """Change a column's type.

        If its values cannot take the type, the column gets the type `otherwise`, or loses its
        values.
        """
        if relation is None:
            return
        name, type_ = quote(column.name), column.target_type
        alter = f"ALTER TABLE {relation} ALTER COLUMN {name} TYPE"
        with self._without_views(relation, column):
            try:
                with self.connection.transaction():
                    # By way of the text: not all types have a direct cast, and the text shows
                    # exactly which values fit.
                    self._run(f"{alter} {type_} USING {name}::text::{type_}")
            except (psycopg.DataError, psycopg.errors.CannotCoerce):
                self._run(
                    f"{alter} {otherwise} USING {name}::{otherwise}"
                    if otherwise
                    else f"{alter} {type_} USING NULL"
                )

    def same_key(self, left: str, right: str) -> str:
        """Return SQL that compares the keys of two aliases' rows."""
        return " AND ".join(f"{left}.{quote(name)} = {right}.{quote(name)}" for name in self.key)

    def _run(self, statement: str) -> None:
        self.connection.execute(statement)

    def _one(self, query: str, parameters: Sequence[object] | None = None) -> tuple[Any, ...]:
        row = self.connection.execute(query, parameters).fetchone()
        assert row is not None
        return row


def _cause(error: psycopg.Error | ViewKept) -> str:
    if isinstance(error, ViewKept):
        return str(error)
    return error.diag.message_detail or error.diag.message_primary or str(error)
