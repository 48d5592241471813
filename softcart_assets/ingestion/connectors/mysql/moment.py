"""Opens snapshots of which the position in the binary log is known exactly.

MariaDB tells a snapshot's position. MySQL tells only where its log ends, and a transaction is in
the log a moment before other sessions see it. So a snapshot may lack the end of the log, even if
the log has not grown meanwhile. `performance_schema.log_status` has the same gap. The position is
known if nothing was being committed when the snapshot was opened. That needs no lock.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass

import pymysql

from softcart_assets.connections import MySQLConnection
from softcart_assets.ingestion.connectors.mysql.dialect import MYSQL
from softcart_assets.ingestion.connectors.mysql.session import Session, log_position
from softcart_assets.ingestion.errors import MissingGrant, SourceLost
from softcart_assets.ingestion.position import Position

_SECONDS = 2.0
"""How long to look for a moment at which nothing is being committed."""
_LOCK_SECONDS = 1
"""How long to wait for a lock. Writers wait behind us, so it is the least that MySQL takes."""
_SNAPSHOT = "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY"


@dataclass(frozen=True)
class Moment:
    """Sessions with snapshots of one moment, and its position in the binary log.

    `is_exact`: the snapshots show exactly what the log tells up to the position. Otherwise they
    may lack its last transactions, or have later ones.
    """

    sessions: Sequence[Session]
    position: Position
    is_exact: bool = True


def open_moment(sessions: Sequence[Session], tables: Sequence[str], *, may_lock: bool) -> Moment:
    """Open a snapshot in as many of the sessions as see one moment, at least in one.

    If MySQL's transactions leave no such moment, the tables are locked until the snapshots are
    open. Without `may_lock`, the moment is not exact then. Raises `SourceLost` if the lock would
    have to wait, `MissingGrant`, or `IngestionError` if the server keeps no binary log.
    """
    for each in sessions:
        # WITH CONSISTENT SNAPSHOT has an effect in this isolation level only.
        each.query("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ")
    position = log_position(sessions[0])
    commits = commits_query(sessions[0])
    if commits is not None and (found := _without_lock(sessions, commits)):
        return found
    if not may_lock:
        return Moment(sessions, position, is_exact=False)
    with _locked(sessions[0].connection, tables, can_see_commits=commits is not None):
        for each in sessions:
            each.query(_SNAPSHOT)
        # Transactions that change these tables keep us from the lock until all sessions see them.
        # Those of other tables do not matter to readers of these.
        return Moment(sessions, log_position(sessions[0]))


def commits_query(session: Session) -> str | None:
    """Return a query that tells (1 or 0) whether any transaction is being committed.

    None: this server, or this user, cannot know. MariaDB's snapshots do not depend on it.
    """
    if session.is_mariadb:
        return "SELECT 0"
    if session.query("SELECT @@GLOBAL.gtid_mode = 'ON'")[0][0] == "1":
        # A transaction owns its GTID from before it is in the log until all sessions see it.
        return "SELECT @@GLOBAL.gtid_owned <> ''"
    # Every commit takes this lock, for the same time. FLUSH TABLES WITH READ LOCK waits for it, but
    # holds up all writers meanwhile.
    seen = "SELECT EXISTS (SELECT 1 FROM performance_schema.metadata_locks"
    query = f"{seen} WHERE object_type = 'COMMIT')"
    try:
        is_seen = session.query(
            "SELECT @@performance_schema AND EXISTS (SELECT 1 FROM"
            " performance_schema.setup_instruments WHERE name = 'wait/lock/metadata/sql/mdl'"
            " AND enabled = 'YES')"
        )
        # Locks for which there was no room are not in the list.
        lost = session.query("SHOW GLOBAL STATUS LIKE 'Performance_schema_metadata_lock_lost'")
        session.query(query)
    except pymysql.MySQLError:
        return None
    return query if is_seen[0][0] == "1" and lost and lost[0][1] == "0" else None


def _without_lock(sessions: Sequence[Session], commits: str) -> Moment | None:
    """Open snapshots again and again until all see one moment, or the time is up."""
    at: dict[Session, Position] = {}
    latest: Position | None = None
    until = time.monotonic() + _SECONDS
    while True:
        for each in sessions:
            if (latest is None or at.get(each) != latest) and (found := _open(each, commits)):
                at[each] = latest = found
        agreed = [each for each in sessions if latest and at.get(each) == latest]
        if len(agreed) == len(sessions) or time.monotonic() > until:
            return Moment(agreed, latest) if latest else None
        # Not in step with somebody who commits at regular times.
        time.sleep(random.uniform(0.0005, 0.01))


def _open(session: Session, commits: str) -> Position | None:
    """Open a snapshot. Returns its position, None if that is not known."""
    if session.is_mariadb:
        session.query(_SNAPSHOT)
        return log_position(session)
    # In one message, so that as little as possible happens between them. What was in the log before
    # is committed if nothing is being committed after it. What is not in the log at the end was not
    # committed before.
    before, owned, _, after = session.several(
        session.log_status, commits, _SNAPSHOT, session.log_status
    )
    if before[0][:2] != after[0][:2] or owned != [("0",)]:
        return None
    return Position.parse(f"{after[0][0]}:{after[0][1]}")


@contextmanager
def _locked(
    connection: MySQLConnection, tables: Sequence[str], *, can_see_commits: bool
) -> Iterator[None]:
    """Keep these tables from changing."""
    where = f"Database `{connection.database}` at {connection.host}:{connection.port}"
    # Its end gives up the locks.
    with closing(Session(connection)) as guard:
        # A missing table fails when it is read, and the others go on.
        names = guard.query(
            "SELECT table_name FROM information_schema.tables WHERE table_schema = DATABASE()"
            f" AND table_name IN ({', '.join(map(guard.literal, tables))})"
        )
        # With autocommit, InnoDB's own lock is not taken, which would wait longer.
        guard.query(f"SET SESSION lock_wait_timeout = {_LOCK_SECONDS}, autocommit = 1")
        try:
            if names:
                locks = ", ".join(f"{MYSQL.quote(str(name))} READ" for (name,) in names)
                guard.query(f"LOCK TABLES {locks}")
        except pymysql.OperationalError as error:
            code, text = error.args
            if code == 1205:
                raise SourceLost(
                    f"{where}: no position was found for its rows. Transactions were being "
                    f"committed all the time, or {connection.user!r} may not see them "
                    "(`softcart doctor` tells), and another transaction that changes the tables "
                    f"was open for more than {_LOCK_SECONDS} s. Run it again when that has ended."
                ) from None
            if code in (1044, 1142):
                raise MissingGrant(
                    f"{where}: MySQL user {connection.user!r} may not lock its tables for the "
                    f"moment at which they are first read ({text}). Run GRANT LOCK TABLES ON "
                    f"`{connection.database}`.* TO {connection.user!r}."
                    + ("" if can_see_commits else f" {how_to_see_commits(connection)}")
                ) from None
            raise
        yield


def how_to_see_commits(connection: MySQLConnection) -> str:
    """Return what makes locks unnecessary."""
    return (
        "No lock is needed on a server with gtid_mode=ON, or with performance_schema=ON after "
        f"GRANT SELECT ON performance_schema.* TO {connection.user!r}."
    )
