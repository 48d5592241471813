"""Notes in staging which rows of the published tables change.

Triggers write the keys of changed rows to `publication_changes`, in the transaction that changes
the rows. So the difference between two snapshots is exact: it is what one of them sees and the
other does not. It needs no clock and no order of commits.

The triggers go when dbt or Spark replaces a table. The next publication makes new ones. It adds the
table up, and copies it whole if it has other rows than the slot.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import psycopg
from psycopg import sql
from psycopg.sql import SQL, Composable, Identifier, Literal

from softcart_assets.migrations import migrate
from softcart_assets.publishing import contents, slots
from softcart_assets.publishing.contents import Point, Rows
from softcart_assets.publishing.slots import Columns
from softcart_assets.publishing.tables import PublishedTable

SCHEMA = "publication_changes"

_MIGRATIONS = Path(__file__).parent / "staging_migrations"

_KEPT_DAYS = 7
"""How long notes are kept for a target that does not come back. A whole copy serves it then."""

_EVENTS = {
    "INSERT": "REFERENCING NEW TABLE AS come",
    "UPDATE": "REFERENCING OLD TABLE AS gone NEW TABLE AS come",
    "DELETE": "REFERENCING OLD TABLE AS gone",
    "TRUNCATE": "",
}
"""What a trigger of each kind sees of the rows."""

# The sums are added up apart from the keys. They prove that the keys are complete.
_FUNCTION = """
BEGIN
  IF TG_OP = 'TRUNCATE' THEN
    INSERT INTO {schema}._statements VALUES ({name}, pg_current_xact_id(), NULL, NULL);
    RETURN NULL;
  END IF;
  IF TG_OP <> 'INSERT' THEN
    INSERT INTO {notes} SELECT pg_current_xact_id(), {key} FROM gone;
    INSERT INTO {schema}._statements
    SELECT {name}, pg_current_xact_id(), -count(*), -sum({number}) FROM gone HAVING count(*) > 0;
  END IF;
  IF TG_OP <> 'DELETE' THEN
    INSERT INTO {notes} SELECT pg_current_xact_id(), {key} FROM come;
    INSERT INTO {schema}._statements
    SELECT {name}, pg_current_xact_id(), count(*), sum({number}) FROM come HAVING count(*) > 0;
  END IF;
  RETURN NULL;
EXCEPTION WHEN OTHERS THEN
  -- The table has other columns now. That is no reason to stop who writes to it.
  INSERT INTO {schema}._statements VALUES ({name}, pg_current_xact_id(), NULL, NULL);
  RETURN NULL;
END
"""


@dataclass(frozen=True)
class Capture:
    """The notes of one table. `id`: they go on without a gap as long as it stays the same.

    `key`: the columns by which rows are noted. `dropped_until`: the snapshot whose changes may be
    gone from the notes.
    """

    id: str
    key: tuple[str, ...]
    dropped_until: str


@dataclass(frozen=True)
class Difference:
    """The rows of a table that differ between two snapshots.

    `keys`: a query for their keys, maybe several times. `noted`: how many it returns. `rows`: by
    how much the later snapshot has more.
    """

    key: tuple[str, ...]
    keys: sql.Composed
    noted: int
    rows: Rows


def set_up(session: psycopg.Connection) -> None:
    """Upgrade the schema of the notes to this release, or create it."""
    migrate(session, SCHEMA, _MIGRATIONS)


def watch(
    session: psycopg.Connection, tables: Sequence[PublishedTable], tell: Callable[[str], None]
) -> None:
    """Note changes of these tables from now on. `session` is an autocommit connection to staging.

    A table in which somebody writes meanwhile is left as it is, for the next publication.
    """
    set_up(session)
    shapes = slots.read_shapes(session, "|".join({table.schema for table in tables}), kinds="r")
    watched: dict[str, str] = dict(
        session.execute(
            SQL("SELECT table_name, columns FROM {}").format(Identifier(SCHEMA, "_tables"))
        ).fetchall()
    )
    captures = read_captures(session, tables)
    steps: dict[str, Callable[[], None]] = {
        name: partial(_forget, session, name)
        for name in watched.keys() - {table.name for table in tables}
    }
    for table in tables:
        columns = shapes.get(table.schema, {}).get(table.name, ())
        found = captures.get(table.name)
        is_right = found and found.key == table.key and watched[table.name] == repr(columns)
        # An audit tells that a key is missing.
        if not is_right and set(table.key) <= {column for column, _ in columns}:
            steps[table.name] = partial(_watch, session, table, columns)
    until = time.monotonic() + slots.PATIENCE_SECONDS
    for name, step in steps.items():
        # A table that is replaced just now is for the snapshot or the next publication to see.
        with suppress(psycopg.errors.UndefinedTable):
            if not slots.with_short_locks(session, until, step):
                tell(f"{name}: its changes are not noted yet, because somebody writes to it")


def _watch(session: psycopg.Connection, table: PublishedTable, columns: Columns) -> None:
    _forget(session, table.name)
    there = Identifier(table.schema, table.name)
    notes = Identifier(SCHEMA, f"of_{table.name}")
    key = SQL(", ").join(map(Identifier, table.key))
    settings = [
        SQL("SET {} = {}").format(Identifier(setting), Literal(value))
        for setting, value in contents.SETTINGS.items()
    ]
    body = SQL(_FUNCTION).format(
        schema=Identifier(SCHEMA),
        name=Literal(table.name),
        notes=notes,
        key=key,
        number=contents.number_of([column for column, _ in columns]),
    )
    session.execute(
        SQL(
            "CREATE TABLE {} AS SELECT pg_current_xact_id() AS _xid, {} FROM {} WITH NO DATA"
        ).format(notes, key, there)
    )
    session.execute(
        # Whoever writes to the table need not be allowed to write the notes.
        SQL(
            "CREATE FUNCTION {}() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER"
            " SET search_path = pg_catalog, pg_temp {} AS {}"
        ).format(notes, SQL(" ").join(settings), Literal(body.as_string(session)))
    )
    for event, rows in _EVENTS.items():
        # This waits for those who have written to the table and did not commit yet.
        session.execute(
            SQL(
                "CREATE TRIGGER {} AFTER {} ON {} {} FOR EACH STATEMENT EXECUTE FUNCTION {}()"
            ).format(Identifier(f"softcart_{event.lower()}"), SQL(event), there, SQL(rows), notes)
        )
    session.execute(
        SQL(
            "INSERT INTO {} (table_name, table_id, key, columns, dropped_until)"
            " VALUES (%s, %s::regclass, %s, %s, pg_current_snapshot())"
        ).format(Identifier(SCHEMA, "_tables")),
        [table.name, there.as_string(session), list(table.key), repr(columns)],
    )


def _forget(session: psycopg.Connection, name: str) -> None:
    """Remove the triggers of a table and its notes."""
    notes = Identifier(SCHEMA, f"of_{name}")
    session.execute(SQL("DROP FUNCTION IF EXISTS {} CASCADE").format(notes))
    session.execute(SQL("DROP TABLE IF EXISTS {}").format(notes))
    for table in ("_tables", "_statements"):
        session.execute(
            SQL("DELETE FROM {} WHERE table_name = %s").format(Identifier(SCHEMA, table)), [name]
        )


def read_captures(
    session: psycopg.Connection, tables: Sequence[PublishedTable]
) -> dict[str, Capture]:
    """The notes of those tables that have all triggers, by name.

    The id also names the server, the branch of its history and the database. After a restore, equal
    numbers of transactions mean others.
    """
    return {
        name: Capture(capture, tuple(key), dropped_until)
        for name, capture, key, dropped_until in session.execute(
            """
            SELECT t.table_name,
                   concat_ws('/', (SELECT system_identifier FROM pg_control_system()),
                             left(pg_walfile_name(pg_current_wal_lsn()), 8),
                             (SELECT oid FROM pg_database WHERE datname = current_database()),
                             t.capture),
                   t.key, t.dropped_until::text
            FROM publication_changes._tables t
            JOIN unnest(%s::text[], %s::text[]) published (schema, name)
              ON t.table_name = published.name
                 AND t.table_id = to_regclass(format('%%I.%%I', published.schema, published.name))
            WHERE 4 = (SELECT count(*) FROM pg_trigger g
                       WHERE g.tgrelid = t.table_id AND g.tgenabled IN ('O', 'A')
                         AND g.tgfoid = to_regproc(format('publication_changes.%%I',
                                                          'of_' || t.table_name)))
            """,
            [[table.schema for table in tables], [table.name for table in tables]],
        )
    }


def difference(
    session: psycopg.Connection, name: str, capture: Capture, old: str, new: str
) -> Difference | None:
    """What differs between two snapshots, None if the notes do not say it.

    `session` sees the later of the two.
    """
    row = session.execute(
        SQL(
            """
            SELECT (SELECT count(*) FROM {notes} WHERE {differs}),
                   coalesce(bool_or(row_count IS NULL), false),
                   coalesce(sum(row_count), 0)::bigint, coalesce(sum(number), 0),
                   {reaches_old} AND {reaches_new}
            FROM {statements} WHERE table_name = {name} AND {differs}
            """
        ).format(
            notes=Identifier(SCHEMA, f"of_{name}"),
            statements=Identifier(SCHEMA, "_statements"),
            name=Literal(name),
            differs=_differs(old, new),
            reaches_old=_contains(Literal(old), Literal(capture.dropped_until)),
            reaches_new=_contains(Literal(new), Literal(capture.dropped_until)),
        )
    ).fetchone()
    assert row
    noted, is_truncated, rows, number, is_complete = row
    if is_truncated or not is_complete:
        return None
    keys = SQL("SELECT {} FROM {} WHERE {}").format(
        SQL(", ").join(map(Identifier, capture.key)),
        Identifier(SCHEMA, f"of_{name}"),
        _differs(old, new),
    )
    return Difference(capture.key, keys, noted, Rows(rows, number))


def _differs(old: str, new: str) -> sql.Composed:
    return SQL(
        "pg_visible_in_snapshot(_xid, {}::pg_snapshot)"
        " <> pg_visible_in_snapshot(_xid, {}::pg_snapshot)"
    ).format(Literal(old), Literal(new))


def _contains(snapshot: Composable, earlier: Composable) -> sql.Composed:
    """Whether a snapshot sees all transactions that the other one sees."""
    return SQL(
        "(pg_snapshot_xmax({earlier}::pg_snapshot) <= pg_snapshot_xmax({snapshot}::pg_snapshot)"
        " AND NOT EXISTS (SELECT FROM pg_snapshot_xip({snapshot}::pg_snapshot) running"
        "  WHERE pg_visible_in_snapshot(running, {earlier}::pg_snapshot)))"
    ).format(snapshot=snapshot, earlier=earlier)


def drop_notes(
    session: psycopg.Connection, captures: Mapping[str, Capture], points: Mapping[str, Point]
) -> None:
    """Delete the notes of changes that each table's snapshot in `points` sees, and that of no other
    target needs.
    """
    for name, point in points.items():
        capture = captures.get(name)
        if capture is None or capture.id != point.capture:
            continue
        with session.transaction():
            snapshot = _bound(session, name, point)
            if snapshot is None:
                continue
            moved = session.execute(
                # Another production database may be ahead, with later notes already deleted.
                SQL(
                    "UPDATE {} SET dropped_until = %s::pg_snapshot WHERE table_name = %s"
                    " AND dropped_until::text = %s AND {}"
                ).format(
                    Identifier(SCHEMA, "_tables"),
                    _contains(Literal(snapshot), Literal(capture.dropped_until)),
                ),
                [snapshot, name, capture.dropped_until],
            )
            if moved.rowcount:
                seen = SQL("pg_visible_in_snapshot(_xid, {}::pg_snapshot)").format(
                    Literal(snapshot)
                )
                session.execute(
                    SQL("DELETE FROM {} WHERE {}").format(Identifier(SCHEMA, f"of_{name}"), seen)
                )
                session.execute(
                    SQL("DELETE FROM {} WHERE table_name = %s AND {}").format(
                        Identifier(SCHEMA, "_statements"), seen
                    ),
                    [name],
                )


def keep_notes(session: psycopg.Connection, target: str, points: Mapping[str, Point]) -> None:
    """Keep the notes of changes that each table's snapshot does not see, for `_KEPT_DAYS`.

    It takes the place of what the target has asked for before.
    """
    set_up(session)
    with session.transaction(), session.cursor() as cursor:
        needed = Identifier(SCHEMA, "_needed")
        cursor.execute(SQL("DELETE FROM {} WHERE target = %s").format(needed), [target])
        cursor.executemany(
            SQL("INSERT INTO {} VALUES (%s, %s, %s, %s)").format(needed),
            [(target, name, point.capture, point.snapshot) for name, point in points.items()],
        )


def _bound(session: psycopg.Connection, name: str, point: Point) -> str | None:
    """The snapshot whose changes nobody needs: that of the point, or an earlier one of a target.

    None if neither of two sees all that the other one sees.
    """
    bound = point.snapshot
    needed = SQL(
        "SELECT snapshot::text FROM {} WHERE table_name = %s AND capture = %s"
        " AND asked_at > now() - make_interval(days => {})"
    ).format(Identifier(SCHEMA, "_needed"), _KEPT_DAYS)
    for (other,) in session.execute(needed, [name, point.capture]).fetchall():
        row = session.execute(
            SQL("SELECT {}, {}").format(
                _contains(Literal(other), Literal(bound)), _contains(Literal(bound), Literal(other))
            )
        ).fetchone()
        if row == (False, False):
            return None
        if row and not row[0]:
            bound = other
    return bound
