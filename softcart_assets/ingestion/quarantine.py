"""Rows that raw could not take: how they are recorded, listed, closed and erased.

`types` and the connectors parse values and decide whether a row is fit. To replay rows is a load,
see `load.replay`.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import psycopg
from psycopg import sql
from psycopg.rows import class_row

from softcart_assets.connections import PostgresConnection
from softcart_assets.ingestion.errors import UnknownEntry
from softcart_assets.ingestion.position import ordered
from softcart_assets.ingestion.types import Rejected

_OPEN = "(source, table_name, identity) WHERE closed_at IS NULL"
"""Only open entries conflict: a row that was mended and is bad again gets a new entry, and the old
one stays as history.
"""
_RENEWED = (
    "UPDATE SET column_name = EXCLUDED.column_name, reason = EXCLUDED.reason, row = EXCLUDED.row,"
    " cursor_value = EXCLUDED.cursor_value, position = EXCLUDED.position, load_id ="
    " EXCLUDED.load_id"
)


@dataclass(frozen=True)
class QuarantinedRow:
    """A row that is not in raw: where it comes from, why it is out, and since when.

    `row` is the whole row, with values as text.
    """

    id: int
    source: str
    table_name: str
    key: list[str] | None
    column_name: str
    reason: str
    row: dict[str, str | None]
    position: str
    quarantined_at: datetime
    closed_at: datetime | None
    closed_because: str | None
    erased_at: datetime | None


class Recorder:
    """Records the rejected rows of one load. A row with an open entry is not recorded a second
    time.

    `relation`: where `record` writes entries, if that is not the quarantine.
    """

    def __init__(
        self,
        connection: psycopg.Connection,
        source: str,
        table: str,
        load_id: str,
        position: str,
        relation: str = "ingestion.quarantine",
    ) -> None:
        self.connection, self.relation = connection, relation
        self.source, self.table, self.load_id, self.position = source, table, load_id, position
        self.new = 0
        self._seen: Counter[str] = Counter()

    def record(self, rejected: Sequence[Rejected], *, only_new: bool = False) -> None:
        """Record rejected rows.

        With `only_new`, open entries stay as they are. It is meant for rows of which only a part is
        known.
        """
        if not rejected:
            return
        conflict = "NOTHING" if only_new else _RENEWED
        with self.connection.cursor() as cursor:
            cursor.executemany(
                # Rejected rows that leave no trace were asked for in dlt-hub/dlt#1980.
                f"INSERT INTO {self.relation} AS q (source, table_name, identity, key, "
                "cursor_value, column_name, reason,"
                " row, position, load_id, quarantined_at) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, "
                f"%s, %s, now()) ON CONFLICT {_OPEN} DO {conflict}"
                # `now()` is the transaction's start, so it tells an entry of this load from an
                # older one.
                " RETURNING quarantined_at = now()",
                [
                    (
                        self.source,
                        self.table,
                        self._numbered(each),
                        list(each.key) if each.key else None,
                        each.cursor,
                        each.column,
                        each.reason,
                        json.dumps(each.row),
                        self.position,
                        self.load_id,
                    )
                    for each in rejected
                ],
                returning=True,
            )
            for result in cursor.results():
                self.new += sum(is_new for (is_new,) in result)

    def make(self) -> None:
        """Create the relation like the quarantine, unless it is there."""
        statement = f"CREATE TABLE IF NOT EXISTS {self.relation} (LIKE ingestion.quarantine"
        self.connection.execute(f"{statement} INCLUDING ALL)".encode())

    def take_in(self, relation: str, *, with_key: bool) -> None:
        """Bring a relation's entries into the quarantine: those with a key, or the others.

        An open entry with a later position stays as it is.
        """
        row = self.connection.execute("SELECT to_regclass(%s) IS NULL", (relation,)).fetchone()
        if row and row[0]:  # all rows were fit
            return
        names = (
            "source, table_name, identity, key, cursor_value, column_name, reason, row, position,"
            " load_id"
        )
        new, old = (ordered(sql.SQL(f"{t}.position")).as_string() for t in ("EXCLUDED", "q"))
        self.connection.execute(
            f"INSERT INTO ingestion.quarantine AS q ({names}, quarantined_at)"
            f" SELECT {names}, now() FROM {relation} WHERE (key IS NOT NULL) = {with_key}"
            f" ON CONFLICT {_OPEN} DO {_RENEWED} WHERE {old} < {new}".encode()
        )

    def _numbered(self, rejected: Rejected) -> str:
        """Return what identifies an entry.

        Rows without a key may be identical. A running number gives each copy an entry of its own.
        """
        identity = identity_of(rejected)
        if rejected.key is not None:
            return identity
        self._seen[identity] += 1
        return f"{identity}#{self._seen[identity]}"

    def entries(self, released: Sequence[int]) -> str:
        """Return the query of the table's open entries.

        It tells for each entry whether it is to be tried again, and whether this load found it
        unfit.
        """
        return (
            sql.SQL(
                "SELECT id AS entry, key, cursor_value, id = ANY({}::bigint[]) AS is_released, "
                "load_id = {} AS is_seen"
                " FROM ingestion.quarantine WHERE source = {} AND table_name = {} AND closed_at IS "
                "NULL"
            )
            .format(list(released), self.load_id, self.source, self.table)
            .as_string()
        )

    def close(self, ids: Sequence[int], because: str, released: Sequence[int] = ()) -> int:
        """Close entries and return their number. Entries among `released` are closed as
        replayed.
        """
        return self.connection.execute(
            "UPDATE ingestion.quarantine SET closed_at = now(), is_counted = false,"
            " closed_because = CASE WHEN id = ANY(%s::bigint[]) THEN 'replayed' ELSE %s END WHERE "
            "id = ANY(%s)",
            (list(released), because, list(ids)),
        ).rowcount

    def unseen(self) -> list[int]:
        """Return the open entries that this load did not meet."""
        rows = self.connection.execute(
            "SELECT id FROM ingestion.quarantine WHERE source = %s AND table_name = %s AND "
            "closed_at IS NULL AND load_id <> %s",
            (self.source, self.table, self.load_id),
        )
        return [row[0] for row in rows]

    def alike(self, identity: str) -> list[int]:
        """Return the open entries of an identity, the last recorded first.

        Further rows without a key are numbered on from there.
        """
        rows = self.connection.execute(
            "SELECT id, CASE WHEN key IS NULL THEN split_part(identity, '#', 2)::integer ELSE 0 "
            "END FROM ingestion.quarantine"
            " WHERE source = %s AND table_name = %s AND closed_at IS NULL AND (identity = %s OR "
            "key IS NULL"
            " AND split_part(identity, '#', 1) = %s) ORDER BY 2 DESC",
            (self.source, self.table, identity, identity),
        ).fetchall()
        # Numbers start behind the open entries. Otherwise a new copy would overwrite the entry of
        # another.
        self._seen[identity] = rows[0][1] if rows else 0
        return [entry for entry, _ in rows]

    def positions(self) -> list[tuple[int, str]]:
        """The open entries, each with the position that its row was read at."""
        return self.connection.execute(
            "SELECT id, position FROM ingestion.quarantine WHERE source = %s AND table_name = %s "
            "AND closed_at IS NULL",
            (self.source, self.table),
        ).fetchall()

    def take_over(self, positions: Sequence[str]) -> None:
        """Treat open entries of earlier loads as met by this one.

        `positions`: where those loads have read rows that this load does not read again.
        """
        self.connection.execute(
            "UPDATE ingestion.quarantine SET load_id = %s WHERE source = %s AND table_name = %s "
            "AND closed_at IS NULL AND position = ANY(%s)",
            (self.load_id, self.source, self.table, list(positions)),
        )

    def open_entries(self) -> int:
        """Return the number of open entries."""
        row = self.connection.execute(
            "SELECT count(*) FROM ingestion.quarantine WHERE source = %s AND table_name = %s AND "
            "closed_at IS NULL",
            (self.source, self.table),
        ).fetchone()
        assert row
        return int(row[0])

    def any_without_key(self) -> bool:
        """Return whether an open entry has no key by which to find its row."""
        row = self.connection.execute(
            "SELECT EXISTS (SELECT FROM ingestion.quarantine WHERE source = %s AND table_name = %s "
            "AND closed_at IS NULL AND key IS NULL)",
            (self.source, self.table),
        ).fetchone()
        return bool(row and row[0])

    def open(self) -> tuple[int, list[tuple[str, ...]]]:
        """Return the number of open entries, and the keys of those that have one."""
        rows = self.connection.execute(
            "SELECT key FROM ingestion.quarantine WHERE source = %s AND table_name = %s AND "
            "closed_at IS NULL",
            (self.source, self.table),
        ).fetchall()
        return len(rows), [tuple(key) for (key,) in rows if key]


def identity_of(rejected: Rejected) -> str:
    """Return what identifies a row: its key, or a hash of the whole row, which identical rows
    share.
    """
    if rejected.key is not None:
        return json.dumps(rejected.key)
    return hashlib.sha256(json.dumps(rejected.row).encode()).hexdigest()


def count_changed(connection: psycopg.Connection, source: str, table: str) -> int:
    """Return the number of a table's entries that were recorded or closed since the last call, and
    mark them as counted.
    """
    uncounted = "ingestion.quarantine WHERE (source, table_name) = (%s, %s) AND NOT is_counted"
    row = connection.execute(
        # Found by the torture (seed 600120): times do not tell. To a clock that was set back, old
        # entries are new for each load, and to one that ran ahead, new ones are old.
        # An entry that somebody reads again or erases at this moment is counted, and once more by
        # the next load. Whoever locks several must not wait for another who does.
        "WITH marked AS (UPDATE ingestion.quarantine SET is_counted = true WHERE id IN"
        f" (SELECT id FROM {uncounted} FOR UPDATE SKIP LOCKED))"
        # A statement sees the rows of before its own updates.
        f" SELECT count(*) FROM {uncounted}".encode(),
        (source, table, source, table),
    ).fetchone()
    assert row
    return int(row[0])


_ENTRY = (
    "SELECT id, source, table_name, key, column_name, reason, row, position, quarantined_at, "
    "closed_at, closed_because,"
    " erased_at FROM ingestion.quarantine"
)


def list_quarantine(
    staging: PostgresConnection,
    source: str | None = None,
    table: str | None = None,
    *,
    closed: bool = False,
) -> list[QuarantinedRow]:
    """Return the rows in quarantine, newest first: of all sources, of one, or of one table.

    With `closed`, return the closed entries instead.
    """
    with staging.connect() as connection:
        # A warehouse that was never loaded has no bookkeeping yet. For a reader, that is an empty
        # list.
        if not _exists(connection):
            return []
        cursor = connection.cursor(row_factory=class_row(QuarantinedRow))
        return cursor.execute(
            f"{_ENTRY} WHERE (source = %s OR %s::text IS NULL) AND (table_name = %s OR %s::text IS "
            "NULL)"
            " AND (closed_at IS NOT NULL) = %s ORDER BY id DESC".encode(),
            (source, source, table, table, closed),
        ).fetchall()


def show(staging: PostgresConnection, entry: int) -> QuarantinedRow:
    """Return one quarantined row by its number, open or closed. Raises `UnknownEntry`."""
    with staging.connect() as connection:
        found = None
        if _exists(connection):
            cursor = connection.cursor(row_factory=class_row(QuarantinedRow))
            found = cursor.execute(f"{_ENTRY} WHERE id = %s".encode(), (entry,)).fetchone()
    if found is None:
        raise UnknownEntry(
            f"There is no quarantined row {entry}. `softcart quarantine list` shows the numbers."
        )
    return found


def entries_with(
    staging: PostgresConnection, source: str, column: str, value: str, table: str | None = None
) -> list[QuarantinedRow]:
    """Return a source's entries, open and closed, whose row has `value` (as text) in a column or
    top-level field. A broken line of a file has it if it has it anywhere.
    """

    def holds(row: QuarantinedRow) -> bool:
        if row.row.get(column) == value:
            return True
        if row.column_name == "line" and "_line" in row.row and column not in row.row:
            # It has no columns. Rather one entry too many: a person's values must not stay. A
            # quote within a field is written twice.
            line = row.row.get("line") or ""
            return value in line or value in line.replace('""', '"')
        try:
            # A document is kept as a whole. A person's data may be in any of its fields.
            found = json.loads(row.row.get("document") or "null")
        except ValueError:
            return False
        return (
            isinstance(found, dict)
            and column in found
            and value in (str(found[column]), json.dumps(found[column]))
        )

    entries = [
        *list_quarantine(staging, source, table),
        *list_quarantine(staging, source, table, closed=True),
    ]
    return [row for row in entries if holds(row)]


def erase(staging: PostgresConnection, entries: Sequence[int], by: str) -> list[int]:
    """Erase the values of entries for good: row, key and cursor. Returns the numbers of the
    entries.

    Table, time, column and reason stay, with the person who erased (`by`).

    An open entry is closed. If the row is still at the source, the next load records it again. So
    erase it there first.
    """
    with staging.connect() as connection:
        if not _exists(connection):
            return []
        rows = connection.execute(
            # The identity goes, too: it contains the key, or a hash by which known values could be
            # found again.
            "UPDATE ingestion.quarantine SET identity = 'erased ' || id, key = NULL, cursor_value "
            "= NULL, row = '{}', erased_at = now(),"
            " is_counted = is_counted AND closed_at IS NOT NULL,"
            " erased_by = %s, closed_at = coalesce(closed_at, now()), closed_because = "
            "coalesce(closed_because, 'erased')"
            " WHERE id = ANY(%s) AND erased_at IS NULL RETURNING id",
            (by, list(entries)),
        ).fetchall()
    return sorted(entry for (entry,) in rows)


@dataclass(frozen=True)
class QuarantineSummary:
    """The number of a table's rows in quarantine, and the reasons: column, reason, rows. Commonest
    first.

    It contains no values.
    """

    rows: int
    reasons: list[tuple[str, str, int]]


def summarize(
    staging: PostgresConnection, source: str, table: str, most: int = 5
) -> QuarantineSummary:
    """Summarise a table's open entries, with the commonest reasons."""
    with staging.connect() as connection:
        if not _exists(connection):
            return QuarantineSummary(0, [])
        reasons = connection.execute(
            "SELECT column_name, reason, count(*) FROM ingestion.quarantine WHERE source = %s AND "
            "table_name = %s"
            " AND closed_at IS NULL GROUP BY 1, 2 ORDER BY 3 DESC, 1, 2",
            (source, table),
        ).fetchall()
    return QuarantineSummary(sum(count for *_, count in reasons), reasons[:most])


def _exists(connection: psycopg.Connection) -> bool:
    row = connection.execute("SELECT to_regclass('ingestion.quarantine')").fetchone()
    return bool(row and row[0])
