"""Where the log of a MySQL or MariaDB server ends, and which server it is."""

from __future__ import annotations

from dataclasses import dataclass

import MySQLdb

from softcart_assets.ingestion.connectors.mysql.charsets import Query
from softcart_assets.ingestion.connectors.mysql.gtid import GtidSet
from softcart_assets.ingestion.connectors.mysql.session import Session, log_position
from softcart_assets.ingestion.position import Position


@dataclass(frozen=True)
class ServerState:
    """Where a server's log ends, and which server it is.

    `gtids` is empty if it has none. `files` are its log files in order, with their sizes in bytes.
    """

    position: Position
    gtids: GtidSet
    server: str
    files: list[tuple[str, int]]


def current_state(session: Session) -> ServerState:
    """Return the present end of the server's log.

    Inside a snapshot of MariaDB, or under MySQL's lock, it is the snapshot's position.
    """
    position = log_position(session)
    if session.is_mariadb:
        gtids = session.query(
            f"SELECT BINLOG_GTID_POS({session.literal(position.file)}, {position.offset})"
        )[0][0]
    else:
        # Both from one row, which is of one moment.
        status = _binary_log_status(session)
        position, gtids = Position.parse(f"{status[0]}:{status[1]}"), status[4]
    files = [(str(row[0]), int(row[1] or 0)) for row in session.query("SHOW BINARY LOGS")]
    return ServerState(position, GtidSet(gtids or ""), identity(session.query), files)


def bytes_behind(session: Session, position: Position) -> int:
    """Return the number of bytes of log between a position of this server and the end.

    It is the whole log if the position's file is gone.
    """
    files = [(str(row[0]), int(row[1] or 0)) for row in session.query("SHOW BINARY LOGS")]
    names = [name for name, _ in files]
    # The server lists its files in their order, which is not that of their names.
    is_there = position.file in names
    sizes = [size for _, size in files[names.index(position.file) if is_there else 0 :]]
    return max(sum(sizes) - position.offset, 0) if is_there else sum(sizes)


def _binary_log_status(session: Session) -> tuple[str | None, ...]:
    try:
        return session.query("SHOW BINARY LOG STATUS")[0]
    except MySQLdb.ProgrammingError:  # before MySQL 8.2
        return session.query("SHOW MASTER STATUS")[0]


def identity(query: Query) -> str:
    """Return what tells this server, with this log, from every other one."""
    found = {
        str(name).lower(): str(value)
        for name, value in query(
            "SHOW GLOBAL VARIABLES WHERE variable_name IN ('server_uuid', 'server_uid', "
            "'server_id')"
        )
    }
    # MariaDB has only lately something that differs between servers of the same number.
    return found.get("server_uuid") or " ".join(
        filter(None, (found["server_id"], found.get("server_uid")))
    )
