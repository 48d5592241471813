"""Finds the tables that changed, without reading the binary log row by row."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import closing

from softcart_assets.connections import MySQLConnection
from softcart_assets.ingestion.connectors.mysql.session import Session, explained, log_position
from softcart_assets.ingestion.connectors.protocol import Changes
from softcart_assets.ingestion.position import NOWHERE, Position
from softcart_assets.lines.model import Source

_PROBE_EVENTS = 50_000
"""The number of events to look through. If there are more, every table counts as changed."""
_PROBE_CHUNK = 5_000


def changed_tables(
    source: Source, connection: MySQLConnection, since: Mapping[str, str]
) -> Changes:
    """Return the end of the binary log, and the tables that it says changed since their positions.

    A table without a position counts as changed. So does a table that was last loaded from an
    earlier server than the latest. Every table does if the log is purged, not row-based, or too
    long to look through. Rows that MySQL does not log are not seen, such as those that a cascade
    deletes.
    """
    positions = {name: Position.parse(text) for name, text in since.items()}
    # Positions of an earlier server say nothing about the log of this one.
    epoch = max((position.epoch for position in positions.values()), default=0)
    here = {name: at.in_epoch(0) for name, at in positions.items() if at.epoch == epoch}
    end, changed = _changed_since(source, connection, here)
    return Changes(
        str(end.in_epoch(epoch)), {name: str(at.in_epoch(epoch)) for name, at in changed.items()}
    )


def _changed_since(
    source: Source, connection: MySQLConnection, since: Mapping[str, Position]
) -> tuple[Position, dict[str, Position]]:
    with (
        explained(connection, f"database `{connection.database}`"),
        closing(Session(connection)) as session,
    ):
        end = log_position(session)
        changed = {t.name: end for t in source.tables if t.name not in since}
        everything = {t.name: end for t in source.tables}
        names = {t.at_source: t.name for t in source.tables}
        if not since or min(since.values()) >= end:
            # A position past the end: the server was set up anew.
            return end, changed if not since or max(since.values()) == end else everything
        start = min(since.values())
        files = [str(row[0]) for row in session.query("SHOW BINARY LOGS")]
        if start.file not in files:
            return end, everything
        later = files[files.index(start.file) :]
        if not _look_through(session, later, start.offset, names, since, changed):
            return end, everything
        return end, changed


def _look_through(
    session: Session,
    files: Sequence[str],
    start: int,
    names: Mapping[str, str],
    since: Mapping[str, Position],
    changed: dict[str, Position],
) -> bool:
    """Note in `changed` the last change of each table in these files. Returns False if they are too
    long.

    `start`: where to begin in the first file. `names`: the tables' names, by those at the source.
    """
    seen = 0
    for file in files:
        first = Position.parse(f"{file}:4")
        position = start if file == files[0] else 4
        while seen <= _PROBE_EVENTS:
            # In chunks, so that looking ends soon after the limit.
            rows = session.query(
                f"SHOW BINLOG EVENTS IN {session.literal(file)} FROM {position} LIMIT "
                f"{_PROBE_CHUNK}"
            )
            for _, _, event, _, end_position, info in rows:
                at = first._replace(offset=int(end_position or 0))
                for touched in _touched(session.connection.database, [*names], event, info):
                    name = names[touched]
                    if at > since.get(name, NOWHERE):
                        changed[name] = at
            seen += len(rows)
            if len(rows) < _PROBE_CHUNK:
                break
            position = int(rows[-1][4] or 0)
    return seen <= _PROBE_EVENTS


def _touched(
    database: str, tables: Sequence[str], event: str | None, info: str | None
) -> Sequence[str]:
    """Return the tables that an event of the binary log may have changed."""
    info = info or ""
    # Before every statement's rows the log describes their table. So rows need not be looked at.
    if event == "Table_map":
        return [name for name in tables if f"({database}.{name})" in info]
    if event == "Transaction_payload":  # compressed, its tables unknown
        return tables
    if event not in ("Query", "Query_compressed"):
        return []
    used, statement = re.fullmatch(r"(?:use `((?:[^`]|``)*)`; )?(.*)", info, re.DOTALL).groups()  # type: ignore[union-attr]
    if used != database and database not in statement:
        return []
    # DDL names its tables in its text. A name may stand there for another reason: rather one too
    # many.
    if re.match(
        r"\s*(ALTER|CREATE|DROP|RENAME|TRUNCATE|ANALYZE|OPTIMIZE|REPAIR)\b(?!\s+(DATABASE|SCHEMA))",
        statement,
        re.I,
    ):
        return [t for t in tables if re.search(rf"(?<![\w$]){re.escape(t)}(?![\w$])", statement)]
    if re.match(
        r"\s*(BEGIN|COMMIT|ROLLBACK|SAVEPOINT|RELEASE|XA|GRANT|REVOKE|SET)\b", statement, re.I
    ):
        return []
    return tables  # a statement instead of rows: whatever it touched
