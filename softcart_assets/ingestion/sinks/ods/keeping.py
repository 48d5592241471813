"""Makes the tables of the running totals, and brings them to what raw has.

Everything happens in the transaction of the caller, which also moves the position of raw.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import psycopg

from softcart_assets import locks
from softcart_assets.ingestion.errors import SchemaChanged
from softcart_assets.ingestion.sinks.ods.table import RawRows, TotalTable, latest_function
from softcart_assets.ingestion.sinks.sql import quote
from softcart_assets.lines.model import Latest, RunningTotal, Source


def lock_name(source: str) -> str:
    """Return the name of the advisory lock on the totals of a source.

    Whoever changes totals shares it until the end of the transaction. A build of a total holds it
    alone for the moments in which it begins and ends. So it knows exactly which changes came since.
    """
    return f"softcart ods {source}"


def build_lock_name(total: str) -> str:
    """Return the name of the advisory lock that a build of a total holds as long as it runs."""
    return f"softcart ods build {total}"


def begin_change(connection: psycopg.Connection, source: str) -> None:
    """Keep builds of totals from beginning or ending until the end of the transaction."""
    locks.take(connection, lock_name(source), shared=True, until="transaction")


def totals_of(connection: psycopg.Connection, source: Source, table: str) -> list[TotalTable]:
    """Return the totals over a raw table. Raises `SchemaChanged` if they do not fit its columns."""
    declared = [total for total in source.totals if total.table == table]
    if not declared:
        return []
    raw = RawRows.of(connection, source, table)
    return [TotalTable(total, raw) for total in declared]


def is_declared(source: Source, table: str) -> bool:
    """Return whether anything is kept of a table."""
    return any(each.table == table for each in source.kept)


def make(connection: psycopg.Connection, source: Source, table: str) -> list[TotalTable]:
    """Make what is missing, or was made for another declaration. Returns the totals.

    A new total is computed from raw, in this transaction. Raises `SchemaChanged` if declarations
    do not fit the columns of the raw table.
    """
    raw = RawRows.of(connection, source, table)
    for name, definition in raw.indexes():
        # Asked before, because the statement would lock the table. A raw table that was made anew
        # has lost them.
        if not _exists(connection, f"{quote(source.schema)}.{name}"):
            run(connection, f"CREATE INDEX {name} {definition}")
    made = _made(connection, source)
    for latest in source.latest:
        fingerprint = raw.fingerprint(latest)
        if latest.table == table and made.get(latest.name) != fingerprint:
            for statement in latest_function(raw, latest):
                run(connection, statement)
            _register(connection, source, latest, fingerprint)
    totals = totals_of(connection, source, table)
    for total in totals:
        if made.get(total.name) != total.fingerprint:
            begin_change(connection, source.name)
            _build(connection, total)
    return totals


def _exists(connection: psycopg.Connection, relation: str) -> bool:
    row = connection.execute("SELECT to_regclass(%s) IS NOT NULL", (relation,)).fetchone()
    return bool(row and row[0])


def _made(connection: psycopg.Connection, source: Source) -> dict[str, str]:
    """Return the fingerprint of everything that is made of a source."""
    rows = connection.execute(
        "SELECT name, fingerprint FROM ods._totals WHERE source = %s", (source.name,)
    ).fetchall()
    return dict(rows)


def _register(
    connection: psycopg.Connection, source: Source, made: RunningTotal | Latest, fingerprint: str
) -> None:
    connection.execute(
        "INSERT INTO ods._totals (name, source, table_name, fingerprint, built_at)"
        " VALUES (%s, %s, %s, %s, now()) ON CONFLICT (name) DO UPDATE SET source = EXCLUDED.source,"
        " table_name = EXCLUDED.table_name, fingerprint = EXCLUDED.fingerprint,"
        " built_at = EXCLUDED.built_at",
        (made.name, source.name, made.table, fingerprint),
    )


def _build(connection: psycopg.Connection, total: TotalTable) -> None:
    new = f"ods.{quote(f'_new_{total.name}')}"
    try:
        # A savepoint: a total that cannot be computed must not end the transaction.
        with connection.transaction():
            run(connection, f"DROP TABLE IF EXISTS {new}")
            run(connection, total.create(new))
            run(connection, total.apply(new, total.recount()))
    except (psycopg.ProgrammingError, psycopg.DataError) as error:
        raw = total.raw
        raise SchemaChanged(
            f"raw_{raw.source.name}/{raw.table}: the total {total.name!r} cannot be computed: "
            f"{str(error).strip()}. Correct its conditions ({total.total.declared_at}). Then run "
            f"`softcart resnapshot {raw.source.name}.{raw.table}`."
        ) from error
    switch(connection, total, new)


def switch(connection: psycopg.Connection, total: TotalTable, new: str) -> None:
    """Put a new table in the place of a total's. Readers have the old one until the commit."""
    # Last in the transaction, so that they wait as little as can be.
    run(connection, f"DROP TABLE IF EXISTS {total.relation}")
    run(connection, f"ALTER TABLE {new} RENAME TO {quote(total.name)}")
    for statement in (*total.functions(), *total.comment()):
        run(connection, statement)
    _register(connection, total.raw.source, total.total, total.fingerprint)
    give_up_build(connection, total)


def give_up_build(connection: psycopg.Connection, total: TotalTable) -> None:
    """End a build of a total that is not finished. It will see that it has to begin again."""
    connection.execute("DELETE FROM ods._builds WHERE name = %s", (total.name,))
    run(connection, f"DROP TABLE IF EXISTS {total.later}")


def restate(
    connection: psycopg.Connection,
    source: Source,
    table: str,
    *,
    is_changed: bool = True,
    bring: Callable[[Sequence[TotalTable]], bool] | None = None,
) -> None:
    """Bring all totals of a raw table to what it has, however it got there.

    Only rows that differ are written. `is_changed`: whether raw has changed. If not, only what is
    missing is made. `bring`: brings what has changed into totals, if it knows that. Otherwise all
    is counted again. Raises `SchemaChanged` if the totals do not fit the columns of the raw table.
    """
    forget_undeclared(connection, source)
    if not is_declared(source, table):
        return
    made = _made(connection, source)
    totals = make(connection, source, table)
    if not (is_changed and totals):
        return
    begin_change(connection, source.name)
    # A total that was just made has everything.
    are_known = all(made.get(total.name) == total.fingerprint for total in totals)
    if bring and are_known and bring(totals):
        return
    for total in totals:
        run(connection, total.apply(total.relation, total.differences()))
        # It has counted rows of before, and nobody can tell it which of them have changed.
        if building(connection, [total]):
            give_up_build(connection, total)


def building(connection: psycopg.Connection, totals: Sequence[TotalTable]) -> set[str]:
    """Return the names of the totals that are being built anew. Builds of killed processes end."""
    rows = connection.execute(
        "SELECT name FROM ods._builds WHERE name = ANY(%s)", ([total.name for total in totals],)
    ).fetchall()
    found = {name for (name,) in rows}
    for total in totals:
        if total.name in found and not locks.sessions(connection, build_lock_name(total.name)):
            give_up_build(connection, total)
            found.discard(total.name)
    return found


def forget_undeclared(connection: psycopg.Connection, source: Source) -> None:
    """Drop what is not declared any more of a source."""
    names = [each.name for each in source.kept]
    _forget(connection, "source = %s AND name <> ALL(%s)", (source.name, names))


def forget_sources(connection: psycopg.Connection, declared: Sequence[str]) -> None:
    """Drop what was kept of all sources but those that are declared."""
    if _exists(connection, "ods._totals"):
        _forget(connection, "source <> ALL(%s)", (declared,))


def _forget(connection: psycopg.Connection, condition: str, values: Sequence[object]) -> None:
    rows = connection.execute(
        f"DELETE FROM ods._totals WHERE {condition} RETURNING name".encode(), values
    ).fetchall()
    for (name,) in rows:
        connection.execute("DELETE FROM ods._builds WHERE name = %s", (name,))
        relations = ", ".join(f"ods.{quote(f'{each}{name}')}" for each in ("", "_later_", "_new_"))
        run(connection, f"DROP TABLE IF EXISTS {relations}")
        for function in connection.execute(
            "SELECT oid::regprocedure::text FROM pg_proc WHERE pronamespace = 'ods'::regnamespace"
            " AND proname = ANY(%s)",
            ([name, f"{name}_between", f"{name}_windows"],),
        ).fetchall():
            run(connection, f"DROP FUNCTION {function[0]}")


def run(connection: psycopg.Connection, statement: str) -> None:
    """Run a statement without values."""
    connection.execute(statement.encode())
