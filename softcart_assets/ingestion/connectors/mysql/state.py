"""Where the log of a MySQL or MariaDB server ends, what it lacks, and which server it is."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pymysql

from softcart_assets.ingestion.connectors.mysql.charsets import Query
from softcart_assets.ingestion.connectors.mysql.gtid import GtidSet
from softcart_assets.ingestion.connectors.mysql.session import Session, log_position, no_log
from softcart_assets.ingestion.errors import IngestionError
from softcart_assets.ingestion.position import Position

_SECONDS = 2.0
"""How long to wait for a moment at which nothing is being committed."""


@dataclass(frozen=True)
class ServerState:
    """Where a server's log ends, and which server it is. `gtids` is empty if it has none."""

    position: Position
    gtids: GtidSet
    server: str


def current_state(session: Session) -> ServerState:
    """Return the present end of the server's log. Raises `IngestionError` if it keeps none."""
    if session.is_mariadb:
        position = log_position(session)
        gtids = session.query(
            f"SELECT BINLOG_GTID_POS({session.literal(position.file)}, {position.offset})"
        )[0][0]
    else:
        position, gtids = _end_with_gtids(session)
    return ServerState(position, GtidSet(gtids or ""), identity(session.query))


def _end_with_gtids(session: Session) -> tuple[Position, str | None]:
    """Return where MySQL's log ends, and the GTIDs of what is in it.

    The GTIDs of one answer lack transactions that are in the log and still being committed. Another
    server would send these again, and old rows would replace newer ones.
    """
    until = time.monotonic() + _SECONDS
    while True:
        before, owned, after = session.several(
            session.log_status, "SELECT @@GLOBAL.gtid_owned <> ''", session.log_status
        )
        if not after:
            raise no_log(session.connection)
        is_complete = owned == [("0",)] and before[0][:2] == after[0][:2]
        if is_complete or time.monotonic() > until:
            file, offset, _, _, gtids = after[0][:5]
            return Position.parse(f"{file}:{offset}"), gtids
        time.sleep(random.uniform(0.0005, 0.01))


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
    """Return file, offset, filters, and on MySQL GTIDs. Nothing if the server keeps no log."""
    rows = session.query(session.log_status)
    return rows[0] if rows else ()


def gaps(session: Session) -> Iterator[str]:
    """Yield why changes may be missing in the server's log, each with what to do.

    A filter and a replica that does not log leave no trace in the log itself: it looks as if
    nothing had changed (PeerDB-io/peerdb#3233, rusuly/MySqlCdc#10).
    """
    only, ignored = _binary_log_status(session)[2:4] or ("", "")
    for option, databases in (("binlog-do-db", only), ("binlog-ignore-db", ignored)):
        if databases:
            # Also if our database passes: a statement such as TRUNCATE counts for the database in
            # use, whichever database it names.
            yield (
                f"the server runs with {option}={databases}, so its binary log lacks changes. "
                f"Remove {option} from its configuration and restart it."
            )
    variables = _variables(session)
    logs_others = variables.get("log_replica_updates") or variables.get("log_slave_updates")
    if logs_others != "OFF":
        return
    if _replicates(session):
        yield (
            "the server is a replica, and its binary log lacks what it gets from its primary "
            "(log_replica_updates=OFF, on MariaDB log_slave_updates=OFF). Name the primary, or set "
            "that to ON in the replica's configuration and restart it."
        )
    if variables.get("wsrep_on") == "ON":
        yield (
            "the server is one of a Galera cluster, and its binary log lacks what the other "
            "servers write (log_slave_updates=OFF). Set that to ON in its configuration and "
            "restart it."
        )


def check_log(session: Session, source: str) -> None:
    """Raise `IngestionError` if changes may be missing in the server's log, see `gaps`."""
    if found := list(gaps(session)):
        connection = session.connection
        raise IngestionError(
            f"Source {source!r}, MySQL at {connection.host}:{connection.port}: "
            + " Also: ".join(found)
        )


def _variables(session: Session) -> dict[str, str | None]:
    rows = session.query(
        "SHOW GLOBAL VARIABLES WHERE variable_name IN ('log_replica_updates', 'log_slave_updates', "
        "'wsrep_on')"
    )
    return {str(name).lower(): value for name, value in rows}


def _replicates(session: Session) -> bool:
    """Return whether the server gets changes from another one."""
    if not session.is_mariadb:
        try:
            return bool(session.query("SHOW REPLICA STATUS"))
        except pymysql.ProgrammingError:  # before MySQL 8.0.22
            return bool(session.query("SHOW SLAVE STATUS"))
    try:
        return bool(session.query("SHOW ALL SLAVES STATUS"))
    except pymysql.OperationalError:
        # This needs a privilege that loads do not need. Everybody may see how many replications
        # run.
        rows = session.query("SHOW GLOBAL STATUS LIKE 'Slaves_running'")
        return bool(rows) and rows[0][1] != "0"


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
