"""What a flush has staged for a table, and what becomes of changes that cannot be carried."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import psycopg
from psycopg import sql

from softcart_assets.ingestion.captured import CapturedTable
from softcart_assets.ingestion.changes import DELETE
from softcart_assets.ingestion.position import Position, ordered
from softcart_assets.ingestion.quarantine import Recorder, identity_of
from softcart_assets.ingestion.sinks.raw import Counts, RawTable
from softcart_assets.ingestion.sinks.sql import literal, quote, typed
from softcart_assets.ingestion.sinks.statements import same_key, text
from softcart_assets.ingestion.types import Rejected


@dataclass(frozen=True)
class Rejection:
    """A change that cannot be carried.

    `sequence`: its place in the flush. `position`: None if it is not committed yet.
    """

    sequence: int
    operation: int
    position: Position | None
    row: Rejected


@dataclass
class Staged:
    """What the current flush has staged for one table, in a temporary table of its own."""

    table: CapturedTable
    raw: RawTable
    relation: str
    is_staged: bool = False
    pieces: int = 0
    rows: int = 0
    garbage: int = 0
    """Rows in the temporary table that are deleted and still take room."""
    counts: Counts = field(default_factory=Counts)
    open_counts: Counts = field(default_factory=Counts)
    rejected: list[Rejection] = field(default_factory=list)

    def forget(self) -> None:
        """Forget everything that is staged."""
        self.is_staged = False
        self.pieces = self.rows = 0
        self.counts = self.open_counts = Counts()
        self.rejected = []

    @property
    def name(self) -> sql.Composed:
        """Return the temporary table's name."""
        return sql.SQL("pg_temp.{}").format(sql.Identifier(self.relation))


def quarantine(
    connection: psycopg.Connection, source: str, staged: Staged, position: Position
) -> None:
    """Update the quarantine with the changes of a flush.

    It closes the entries of rows that came in a good version or were deleted, and records the rows
    that cannot be carried.
    """
    table, key = staged.table, staged.table.table.key
    recorder = Recorder(connection, source, table.name, str(position), str(position))
    # Good versions first: a row that was mended and is bad again in the same flush ends as an open
    # entry.
    if table.open_entries and staged.rows and key:
        _close_overtaken(connection, staged, recorder, position)
    for each in _last_rejected(staged.rejected):
        # A row of the open transaction is committed where the flush ends.
        at = each.position or position
        recorder.position = str(at)
        alike = recorder.alike(identity_of(each.row))
        if each.row.key is not None and _is_superseded(
            connection, staged, each.row.key, each.sequence, at, alike
        ):
            continue
        if each.operation == DELETE:
            # One entry for one deletion: rows without a key may be alike.
            recorder.close(alike[:1], "deleted")
        else:
            recorder.record([each.row])
    table.open_entries = recorder.open_entries()


def _close_overtaken(
    connection: psycopg.Connection, staged: Staged, recorder: Recorder, position: Position
) -> None:
    """Close the entries of rows that this flush brings in a good version or deletes."""
    by_name = {column.name: column for column in staged.table.columns}
    keys = text(
        ", ".join(
            f"{typed(f'q.key[{n}]', by_name[name])} AS {quote(name)}"
            for n, name in enumerate(staged.table.table.key, start=1)
        )
    )
    rows = connection.execute(
        sql.SQL(
            # Joined at the server: there may be a hundred thousand entries, and a few changes.
            "WITH h AS (SELECT q.id AS _held_entry, q.position AS _position, {} FROM"
            " ingestion.quarantine q WHERE q.source = {} AND q.table_name = {}"
            " AND q.closed_at IS NULL AND q.key IS NOT NULL)"
            # The last change of a row in the flush decides whether its entry was mended or deleted.
            " SELECT DISTINCT ON (h._held_entry) h._held_entry, s._operation FROM h"
            " JOIN {} s ON {} WHERE {} > {} ORDER BY h._held_entry, s._sequence DESC"
        ).format(
            keys,
            sql.Literal(recorder.source),
            sql.Literal(recorder.table),
            staged.name,
            same_key(staged.table.table.key, "h", "s"),
            ordered(sql.SQL("coalesce(s._position, {})").format(sql.Placeholder())),
            # The log may be read again after a snapshot. A change older than the entry does not
            # settle it.
            ordered(sql.SQL("h._position")),
        ),
        (position,),
    ).fetchall()
    recorder.close([entry for entry, operation in rows if operation != DELETE], "mended")
    recorder.close([entry for entry, operation in rows if operation == DELETE], "deleted")


def _is_superseded(
    connection: psycopg.Connection,
    staged: Staged,
    key: Sequence[str],
    sequence: int,
    position: Position,
    entries: Sequence[int],
) -> bool:
    """Return whether a later version of the row exists: in this flush, in raw or in `entries` of
    the quarantine.
    """
    by_name = {c.name: c for c in staged.table.columns}
    is_row = text(
        " AND ".join(
            f"{quote(name)} = {typed(literal(value), by_name[name])}"
            for name, value in zip(staged.table.table.key, key, strict=True)
        )
    )
    row = connection.execute(
        sql.SQL(
            "SELECT EXISTS (SELECT FROM {} s WHERE {} AND s._sequence > {}) OR"
            " EXISTS (SELECT FROM {} WHERE {} AND {} > {}) OR"
            # Of rows that were read later than the log is at, as in the parts of a first copy.
            " EXISTS (SELECT FROM ingestion.quarantine WHERE id = ANY({}::bigint[]) AND {} > {})"
        ).format(
            staged.name,
            is_row,
            sql.Literal(sequence),
            text(staged.raw.name),
            is_row,
            ordered(sql.SQL("_position")),
            ordered(sql.Literal(position)),
            list(entries),
            ordered(sql.SQL("position")),
            ordered(sql.Literal(position)),
        ),
        (),
    ).fetchone()
    return bool(row and row[0])


def _last_rejected(rejected: Sequence[Rejection]) -> Iterator[Rejection]:
    """Return the last rejection of each key, and all rejections without a key."""
    last = {each.row.key: each.sequence for each in rejected if each.row.key is not None}
    return (
        each for each in rejected if each.row.key is None or last[each.row.key] == each.sequence
    )
