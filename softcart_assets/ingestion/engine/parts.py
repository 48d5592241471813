"""The part table: the rows of a big table whose key ranges are copied, kept beside raw.

Each range is copied in a transaction of its own. This transaction also records in
`ingestion.snapshot_ranges` that the range is done. `ranges` turns the complete part table into raw
or merges it. The reader cuts a table into ranges.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import psycopg
from psycopg.types.json import Jsonb

from softcart_assets.ingestion.connectors import connector
from softcart_assets.ingestion.position import Position
from softcart_assets.ingestion.sinks.lake import LakeFile, remove_files
from softcart_assets.ingestion.sinks.raw_schema import NEXT_VERSION, OWN_COLUMNS, VERSION
from softcart_assets.ingestion.sinks.sql import literal, quote
from softcart_assets.ingestion.types import Column
from softcart_assets.lines.model import Source, Table


@dataclass(frozen=True)
class KeyRange:
    """A range of a table's keys, as a condition at the source. None: all rows."""

    number: int
    condition: str | None


@dataclass(frozen=True)
class Copied:
    """What the copied ranges hold.

    `position` is the earliest of the ranges' `positions`, None if there is none.
    """

    position: str | None
    positions: list[str]
    rows: int
    files: list[LakeFile]


class PartTable:
    """The part table of a table, in schema `ingestion`. It survives a kill.

    `control` commits each statement by itself. Threads share it.
    """

    def __init__(
        self, control: psycopg.Connection, source: Source, table: Table, lake_uri: str
    ) -> None:
        self.control = control
        self.key = (source.name, table.name)
        self.raw_key = connector(source.kind).raw_key(table)
        self.lake_uri = lake_uri
        plain = f"part_{source.name}_{table.name}"
        # PostgreSQL cuts longer names off.
        self.plain_name = (
            plain
            if len(plain.encode()) <= 63
            else f"part_{hashlib.sha256(plain.encode()).hexdigest()[:32]}"
        )
        self.name = f"ingestion.{quote(self.plain_name)}"
        self.is_begun = False
        """Whether this load has made the part table, or taken it over."""

    def listed_files(self) -> list[LakeFile]:
        """Return the lake files of the copied ranges."""
        rows = self.control.execute(
            "SELECT files FROM ingestion.snapshot_ranges WHERE source = %s AND table_name = %s",
            self.key,
        ).fetchall()
        return [LakeFile(**file) for (files,) in rows for file in files]

    def begin(
        self,
        columns: Sequence[Column],
        conditions: Sequence[str | None],
        position: str,
        loaded_at: datetime,
        *,
        resume: bool,
    ) -> list[KeyRange]:
        """Create the part table, or with `resume` continue the one of a killed load. Returns the
        ranges to copy.

        Rows copied from now on stand for `position`. A part table with other columns is not
        continued.
        """
        self.is_begun = True
        wanted = [(c.name, c.target_type) for c in columns]
        # Only the beginning has to match: a resumed table may have the engine's columns at its end.
        if not (resume and self._columns()[: len(wanted)] == wanted):
            self.discard()
            # Known to be without NULLs, the rows are not read another time for that when the key
            # is built.
            never_null = dict.fromkeys(self.raw_key, " NOT NULL")
            definitions = ", ".join(
                f"{quote(name)} {type_}{never_null.get(name, '')}" for name, type_ in wanted
            )
            # In this order: where there is a part table, there is the whole list of its ranges.
            self.control.execute(
                "INSERT INTO ingestion.snapshot_ranges (source, table_name, number, condition)"
                " SELECT %s, %s, number, condition FROM unnest(%s::text[]) WITH ORDINALITY AS r "
                "(condition, number)",
                (*self.key, list(conditions)),
            )
            self.control.execute(f"CREATE TABLE {self.name} ({definitions})".encode())
        # The rows of the killed load keep their earlier position. New rows get the present one, so
        # that for each row the log goes on from where it was read.
        elif earlier := self.copied().position:
            self.add_own_columns(earlier, loaded_at)
            self.control.execute(
                f"ALTER TABLE {self.name} ALTER _position SET DEFAULT {literal(position)}".encode()
            )
        rows = self.control.execute(
            "SELECT number, condition FROM ingestion.snapshot_ranges"
            " WHERE source = %s AND table_name = %s AND position IS NULL ORDER BY number",
            self.key,
        )
        return [KeyRange(*row) for row in rows]

    def add_own_columns(self, position: str, loaded_at: datetime) -> None:
        """Add the engine's own columns if the part table lacks them.

        They are the same for all rows of a load. Added as defaults behind the rows, they cost
        nothing: PostgreSQL keeps such values once for the whole table.
        """
        if all(name not in OWN_COLUMNS for name, _ in self._columns()):
            row = self.control.execute(f"SELECT {NEXT_VERSION}").fetchone()
            assert row
            values = {
                "_deleted": "false",
                "_loaded_at": literal(loaded_at),
                "_position": literal(position),
                VERSION: literal(row[0]),
            }
            added = (
                f"ADD {name} {definition} DEFAULT {values[name]}"
                for name, definition in (OWN_COLUMNS | {VERSION: "bigint NOT NULL"}).items()
            )
            self.control.execute(f"ALTER TABLE {self.name} {', '.join(added)}".encode())

    def _columns(self) -> list[tuple[str, str]]:
        """Return names and types as `Column` writes them. Empty if there is no part table."""
        rows = self.control.execute(
            "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute"
            " WHERE attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped ORDER BY attnum",
            (self.name,),
        ).fetchall()
        short = {
            "timestamp without time zone": "timestamp",
            "timestamp with time zone": "timestamptz",
        }
        return [(name, short.get(type_, str(type_))) for name, type_ in rows]

    def record(
        self,
        connection: psycopg.Connection,
        number: int,
        position: str,
        rows: int,
        files: Sequence[LakeFile],
    ) -> None:
        """Record in the range's own transaction that the range is copied."""
        connection.execute(
            "UPDATE ingestion.snapshot_ranges SET position = %s, row_count = %s, files = %s"
            " WHERE source = %s AND table_name = %s AND number = %s",
            (position, rows, Jsonb([vars(file) for file in files]), *self.key, number),
        )

    def copied(self) -> Copied:
        """Return what the copied ranges hold."""
        rows = self.control.execute(
            "SELECT position, row_count FROM ingestion.snapshot_ranges"
            " WHERE source = %s AND table_name = %s AND position IS NOT NULL",
            self.key,
        ).fetchall()
        # The earliest counts: from there on, the log brings every range up to date. Positions are
        # compared as such, because their texts do not sort.
        positions = [position for position, _ in rows]
        earliest = min(positions, key=Position.parse, default=None)
        return Copied(earliest, positions, sum(count for _, count in rows), self.listed_files())

    def forget(self, connection: psycopg.Connection) -> None:
        """Delete the list of ranges, in the transaction that makes their rows raw's."""
        connection.execute(
            "DELETE FROM ingestion.snapshot_ranges WHERE source = %s AND table_name = %s", self.key
        )

    def discard(self) -> None:
        """Remove the part table, its ranges and their lake files."""
        # Files first: as long as the ranges are on record, a killed removal can be repeated.
        for file in self.listed_files():
            folder, _, name = file.path.rpartition("/")
            remove_files(self.lake_uri, folder, name.removesuffix(".parquet").rpartition("-")[0])
        self.control.execute(f"DROP TABLE IF EXISTS {self.name}".encode())
        self.forget(self.control)
