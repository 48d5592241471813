"""Checks what the user of a MySQL source may do, and how its server writes the binary log."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing, suppress

import MySQLdb

from softcart_assets.connections import MySQLConnection
from softcart_assets.findings import Finding
from softcart_assets.ingestion.connectors.mysql.session import Session
from softcart_assets.ingestion.connectors.mysql.state import gaps

READER_PRIVILEGES = {
    "SELECT": "SELECT",
    "REPLICATION SLAVE": "REPLICATION SLAVE",
    # MariaDB's name for the second of them is the newer one.
    "REPLICATION CLIENT": "REPLICATION CLIENT|BINLOG MONITOR",
    "RELOAD": "RELOAD",
}
"""The privileges that the user of a source needs, with the spellings in `SHOW GRANTS`."""

BINARY_LOG = {
    "log_bin": "ON",
    "binlog_format": "ROW",
    "binlog_row_image": "FULL",
    "binlog_row_metadata": "FULL",
}
"""The settings that change data capture needs at the source."""


def examine(connection: MySQLConnection) -> Iterator[Finding]:
    """Connect, and check the user's privileges and the binary log's settings."""
    who = f"{connection.prefix}: {connection.user}"
    with connection.connect() as client:
        cursor = client.cursor()
        cursor.execute("SELECT VERSION()")
        yield Finding("ok", f"{who} reaches MySQL {cursor.fetchone()[0]}")
        cursor.execute("SHOW GRANTS")
        grants = "\n".join(grant for (grant,) in cursor.fetchall())
        missing = [
            name for name, pattern in READER_PRIVILEGES.items() if not re.search(pattern, grants)
        ]
        if missing and "ALL PRIVILEGES ON *.*" not in grants:
            # Without SELECT no load works. Without the others, loads of some strategies do.
            is_blind = "SELECT" in missing and "ALL PRIVILEGES" not in grants
            yield Finding(
                "blocks" if is_blind else "note",
                f"{who} lacks {', '.join(missing)}. `.env.example` lists what a reader needs.",
            )
        try:
            cursor.execute("SHOW GLOBAL VARIABLES WHERE Variable_name IN %s", [tuple(BINARY_LOG)])
        except MySQLdb.Error as error:
            text = f"the binary log's settings cannot be read: {error.args[-1]}"
            yield Finding("note", f"{connection.prefix}: {text}")
            return
        actual = dict(cursor.fetchall())
    wrong = [f"{name}={value}" for name, value in BINARY_LOG.items() if actual.get(name) != value]
    if wrong:
        text = f"change data capture needs the server to run with {', '.join(wrong)}."
        yield Finding("note", f"{connection.prefix}: {text}")
    else:
        yield Finding("ok", f"{connection.prefix}: binary log with whole rows and column names")
    # Without REPLICATION CLIENT, which is noted above, nobody may see it.
    with closing(Session(connection)) as session, suppress(MySQLdb.OperationalError):
        for gap in gaps(session):
            yield Finding("blocks", f"{connection.prefix}: {gap}")
