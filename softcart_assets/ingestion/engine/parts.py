"""The part table: the rows of a big table as far as its key ranges are copied, beside raw.

Each range is copied in a transaction of its own. The transaction also notes in
`ingestion.snapshot_ranges` that the range is done. What becomes of the complete part table (raw
itself, or merged into it) is decided in `ranges`. How a table is cut into ranges is the reader's
affair.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import psycopg
from psycopg.types.json import Jsonb

from softcart_assets.ingestion.position import Position
from softcart_assets.ingestion.sinks.lake import LakeFile, remove_files
from softcart_assets.ingestion.sinks.raw_schema import OWN_COLUMNS
from softcart_assets.ingestion.sinks.sql import literal, quote
from softcart_assets.ingestion.types import Column
from softcart_assets.lines.model import Source, Table


@dataclass(frozen=True)
class KeyRange:
    """A range of a table's keys, as a condition at the source (None: all rows)."""

    number: int
    condition: str | None


@dataclass(frozen=True)
class Copied:
    """What the ranges copied so far hold.

    `position` is the earliest that any of them was read at, None if there is none.
    """

    position: str | None
    rows: int
    files: list[LakeFile]


class PartTable:
    """The rows of a table's ranges as far as they are copied, in schema `ingestion`.

    Survives a kill.

    `control` commits every statement by itself and is shared by threads.
    """

    def __init__(
        self, control: psycopg.Connection, source: Source, table: Table, lake_uri: str
    ) -> None:
        self.control = control
        self.key = (source.name, table.name)
        self.lake_uri = lake_uri
        plain = f"part_{source.name}_{table.name}"
        # PostgreSQL cuts longer names off.
        self.plain_name = (
            plain
            if len(plain.encode()) <= 63
            else f"part_{hashlib.sha256(plain.encode()).hexdigest()[:32]}"
        )
        self.name = f"ingestion.{quote(self.plain_name)}"

    def listed_files(self) -> list[LakeFile]:
        """The lake files of the ranges that are copied."""
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
        """Make the part table, or with `resume` take up one that a killed load left.

        The ranges still to be copied.

        Rows copied from now on stand for `position`. One that has other columns is not taken up.
        """
        wanted = [(c.name, c.target_type) for c in columns]
        if not (resume and self._columns()[: len(wanted)] == wanted):
            self.discard()
            definitions = ", ".join(f"{quote(name)} {type_}" for name, type_ in wanted)
            # In this order: where there is a part table, there is the whole list of its ranges.
            self.control.execute(
                "INSERT INTO ingestion.snapshot_ranges (source, table_name, number, condition)"
                " SELECT %s, %s, number, condition FROM unnest(%s::text[]) WITH ORDINALITY AS r "
                "(condition, number)",
                (*self.key, list(conditions)),
            )
            self.control.execute(f"CREATE TABLE {self.name} ({definitions})".encode())
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
        """Give the rows the engine's own columns, if they lack them.

        The same for all rows of a load, and added as defaults behind the rows: PostgreSQL keeps
        them once for the whole table.
        """
        if all(name not in OWN_COLUMNS for name, _ in self._columns()):
            values = {
                "_deleted": "false",
                "_loaded_at": literal(loaded_at),
                "_position": literal(position),
            }
            added = (
                f"ADD {name} {definition} DEFAULT {values[name]}"
                for name, definition in OWN_COLUMNS.items()
            )
            self.control.execute(f"ALTER TABLE {self.name} {', '.join(added)}".encode())

    def _columns(self) -> list[tuple[str, str]]:
        """Names and types, as `Column` writes them; none if there is no part table."""
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
        """Note in the range's own transaction that it is copied."""
        connection.execute(
            "UPDATE ingestion.snapshot_ranges SET position = %s, row_count = %s, files = %s"
            " WHERE source = %s AND table_name = %s AND number = %s",
            (position, rows, Jsonb([vars(file) for file in files]), *self.key, number),
        )

    def copied(self) -> Copied:
        """What the ranges that are copied hold."""
        rows = self.control.execute(
            "SELECT position, row_count FROM ingestion.snapshot_ranges"
            " WHERE source = %s AND table_name = %s AND position IS NOT NULL",
            self.key,
        ).fetchall()
        earliest = min((position for position, _ in rows), key=Position.parse, default=None)
        return Copied(earliest, sum(count for _, count in rows), self.listed_files())

    def forget(self, connection: psycopg.Connection) -> None:
        """Strike the ranges off, in the transaction that makes their rows raw's."""
        connection.execute(
            "DELETE FROM ingestion.snapshot_ranges WHERE source = %s AND table_name = %s", self.key
        )

    def discard(self) -> None:
        """Remove the part table, its ranges and their lake files."""
        for file in self.listed_files():
            folder, _, name = file.path.rpartition("/")
            remove_files(self.lake_uri, folder, name.removesuffix(".parquet").rpartition("-")[0])
        self.control.execute(f"DROP TABLE IF EXISTS {self.name}".encode())
        self.forget(self.control)
