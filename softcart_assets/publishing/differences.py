"""Writes only the changed rows to a table of a slot, and proves that it is right afterwards.

The rows that were added and removed stay in tables of their own until the publication ends. Audits
read these instead of the whole table.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

import psycopg
from psycopg import sql
from psycopg.sql import SQL, Identifier

from softcart_assets.publishing import contents
from softcart_assets.publishing.changes import Difference
from softcart_assets.publishing.contents import Rows
from softcart_assets.publishing.copying import copy_rows

ADDED = "production_added"
REMOVED = "production_removed"


class DoesNotFit(Exception):
    """The changed rows do not lead to the table that they should. The message says why."""


@contextmanager
def room(session: psycopg.Connection) -> Iterator[None]:
    """Make a place for added and removed rows, and drop it afterwards."""
    clear = SQL("DROP SCHEMA IF EXISTS {}, {} CASCADE").format(
        Identifier(ADDED), Identifier(REMOVED)
    )
    # A killed publication left it.
    session.execute(clear)
    for schema in (ADDED, REMOVED):
        session.execute(SQL("CREATE SCHEMA {}").format(Identifier(schema)))
    try:
        yield
    finally:
        # If the connection is lost, the next publication does it.
        with suppress(psycopg.Error):
            session.execute(clear)


def apply(
    staging: psycopg.Connection,
    target: psycopg.Connection,
    name: str,
    columns: Sequence[str],
    found: Difference,
    tables: tuple[sql.Composable, sql.Composable],
    rows: tuple[Rows, Rows],
    is_in_staging: bool,
) -> int:
    """Write the rows of `found` in a transaction of the caller's. Returns how many were written.

    `tables`: the table to read and the slot's table. The first is in production unless
    `is_in_staging`. `rows`: those of the slot's table before and afterwards. Raises `DoesNotFit` if
    it would have others.
    """
    source, slot = tables
    added, removed = Identifier(ADDED, name), Identifier(REMOVED, name)
    names, key = _names(columns), _names(found.key)
    for table in (added, removed):
        # A line that is held gets its tables a second time.
        target.execute(SQL("DROP TABLE IF EXISTS {}").format(table))
        target.execute(
            SQL("CREATE UNLOGGED TABLE {} AS SELECT {} FROM {} WITH NO DATA").format(
                table, names, slot
            )
        )
    target.execute(
        SQL("CREATE TEMP TABLE _keys ON COMMIT DROP AS SELECT {} FROM {} WITH NO DATA").format(
            key, slot
        )
    )
    keys = SQL("SELECT DISTINCT * FROM ({}) noted").format(found.keys)
    copy_rows(staging, keys, target, Identifier("_keys"), found.key)
    target.execute("ANALYZE _keys")
    if is_in_staging:
        changed = SQL("SELECT {} FROM {} WHERE ({}) IN ({})").format(names, source, key, found.keys)
        copy_rows(staging, changed, target, added, columns)
    else:
        target.execute(
            SQL("INSERT INTO {} SELECT {} FROM {} JOIN _keys USING ({})").format(
                added, names, source, key
            )
        )
    target.execute(
        SQL(
            "WITH gone AS (DELETE FROM {} t USING _keys k WHERE {} RETURNING t.*)"
            " INSERT INTO {} SELECT {} FROM gone"
        ).format(
            slot,
            SQL(" AND ").join(
                SQL("t.{0} = k.{0}").format(Identifier(column)) for column in found.key
            ),
            removed,
            names,
        )
    )
    gone = contents.count(target, removed, columns)
    try:
        # What the table got, not what it was given: a trigger may have changed it.
        row = target.execute(
            SQL(
                "WITH come AS (INSERT INTO {} ({}) SELECT {} FROM {} RETURNING {})"
                " SELECT count(*), coalesce(sum({}), 0) FROM come"
            ).format(slot, names, names, added, names, contents.number_of(columns))
        ).fetchone()
    except psycopg.errors.UniqueViolation:
        raise DoesNotFit("its key is not unique any more") from None
    assert row
    come = Rows(*row)
    before, after = rows
    reached = before.minus(gone).plus(come)
    if reached != after:
        raise DoesNotFit(
            f"its changed rows lead to {reached.count:,} rows with the sum {reached.number}, not to"
            f" {after.count:,} rows with the sum {after.number}"
        )
    return gone.count + come.count


def _names(columns: Sequence[str]) -> sql.Composed:
    return SQL(", ").join(map(Identifier, columns))
