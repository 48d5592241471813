"""Checks what the user of a MySQL source may do, and how its server writes the binary log."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pymysql

from softcart_assets.connections import MySQLConnection
from softcart_assets.findings import Finding
from softcart_assets.ingestion.connectors.mysql.dialect import MYSQL
from softcart_assets.ingestion.connectors.mysql.dump import Dump
from softcart_assets.ingestion.connectors.mysql.moment import commits_query, how_to_see_commits
from softcart_assets.ingestion.connectors.mysql.session import Session, log_position
from softcart_assets.ingestion.connectors.mysql.state import gaps
from softcart_assets.ingestion.errors import IngestionError
from softcart_assets.lines.model import Source

BINARY_LOG = {
    "log_bin": "ON",
    "binlog_format": "ROW",
    "binlog_row_image": "FULL",
    "binlog_row_metadata": "FULL",
}
"""The settings that change data capture needs at the source."""


def examine(source: Source, connection: MySQLConnection) -> Iterator[Finding]:
    """Connect, and do everything once that loads do. Yields all that does not work, and not just
    the first.

    Raises `ServerUnreachable`.
    """
    prefix = connection.prefix
    with closing(Session(connection)) as session:
        version = session.query("SELECT VERSION()")[0][0]
        yield Finding("ok", f"{prefix}: {connection.user} reaches MySQL {version}")
        yield from _tables(session, source)
        yield from _settings(session, source)
        yield from _log(session)
        if commits_query(session) is None:
            yield Finding(
                "note",
                f"{prefix}: {connection.user} does not see when transactions are committed. So a "
                "first copy locks its tables for an instant (GRANT LOCK TABLES ON "
                f"`{connection.database}`.* TO {connection.user!r}), and later loads do not "
                f"compare raw with the source. {how_to_see_commits(connection)}",
            )


def _tables(session: Session, source: Source) -> Iterator[Finding]:
    """Read no row of each declared table."""
    connection = session.connection
    missing = []
    for table in source.tables:
        try:
            session.query(f"SELECT 1 FROM {MYSQL.quote(table.at_source)} LIMIT 0")
        except pymysql.MySQLError as error:
            if error.args[0] == 1146:
                missing.append(f"`{table.at_source}`")
                continue
            yield Finding(
                "blocks",
                f"{connection.prefix}: {connection.user} may not read `{table.at_source}` "
                f"({error.args[-1]}). Run GRANT SELECT ON `{connection.database}`.* TO "
                f"{connection.user!r}.",
            )
    if missing:
        yield Finding(
            "note",
            f"{connection.prefix}: database `{connection.database}` does not have "
            f"{', '.join(missing)}. Create them, or correct the declaration of source "
            f"{source.name!r}.",
        )


def _settings(session: Session, source: Source) -> Iterator[Finding]:
    prefix = session.connection.prefix
    names = ", ".join(map(session.literal, BINARY_LOG))
    rows = session.query(f"SHOW GLOBAL VARIABLES WHERE variable_name IN ({names})")
    actual = {str(name): value for name, value in rows}
    wrong = [f"{name}={value}" for name, value in BINARY_LOG.items() if actual.get(name) != value]
    if not wrong:
        yield Finding("ok", f"{prefix}: binary log with whole rows and column names")
        return
    is_needed = any(table.strategy == "cdc" for table in source.tables)
    yield Finding(
        "blocks" if is_needed else "note",
        f"{prefix}: change data capture needs the server to run with {', '.join(wrong)}.",
    )


def _log(session: Session) -> Iterator[Finding]:
    """Ask where the log ends, and ask for the log as a replica does."""
    connection = session.connection
    try:
        position = log_position(session)
        session.query("SHOW BINARY LOGS")
    except pymysql.MySQLError as error:
        yield Finding(
            "blocks",
            f"{connection.prefix}: {connection.user} may not see the binary log's position "
            f"({error.args[-1]}). Run GRANT REPLICATION CLIENT, REPLICATION SLAVE ON *.* TO "
            f"{connection.user!r}.",
        )
        return
    except IngestionError as error:
        yield Finding("blocks", f"{connection.prefix}: {error}")
        return
    try:
        with closing(Dump(connection, poll=0.05)) as dump:
            dump.start(position.file, 4, None)
    except IngestionError as error:
        yield Finding("blocks", f"{connection.prefix}: {error}")
    for gap in gaps(session):
        yield Finding("blocks", f"{connection.prefix}: {gap}")
