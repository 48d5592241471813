"""Finds the tables that changed, without reading the binary log row by row."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from contextlib import closing

from softcart_assets.connections import MySQLConnection
from softcart_assets.ingestion.connectors.mysql.names import Wanted, ignores_case
from softcart_assets.ingestion.connectors.mysql.session import Session, explained, log_position
from softcart_assets.ingestion.connectors.mysql.state import check_log
from softcart_assets.ingestion.connectors.protocol import Changes
from softcart_assets.ingestion.position import NOWHERE, Position
from softcart_assets.lines.model import Source

_PROBE_EVENTS = 50_000
"""The number of events to look through. If there are more, every table counts as changed."""
_PROBE_CHUNK = 5_000
_XA = re.compile(
    r"(?:use `(?:[^`]|``)*`; )?XA (START|PREPARE|COMMIT|ROLLBACK) (X'\w*',X'\w*',\d+)", re.I
)
"""A decision about an XA transaction, as `SHOW BINLOG EVENTS` writes it, and its name."""


def changed_tables(
    source: Source, connection: MySQLConnection, since: Mapping[str, str]
) -> Changes:
    """Return the end of the binary log, and the tables that it says changed since their positions.

    A table without a position counts as changed. So does a table that was last loaded from an
    earlier server than the latest. Every table does if the log is purged, not row-based, or too
    long to look through. Rows that MySQL does not log are not seen, such as those that a cascade
    deletes. Raises `IngestionError` if the server does not log every change, see `check_log`.
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
        check_log(session, source.name)
        end = log_position(session)
        changed = {t.name: end for t in source.tables if t.name not in since}
        everything = {t.name: end for t in source.tables}
        if not since or min(since.values()) >= end:
            # A position past the end: the server was set up anew.
            return end, changed if not since or max(since.values()) == end else everything
        start = min(since.values())
        files = [str(row[0]) for row in session.query("SHOW BINARY LOGS")]
        if start.file not in files:
            return end, everything
        later = files[files.index(start.file) :]
        tables = {t.name: t.at_source for t in source.tables}
        wanted = Wanted(connection.database, tables, ignores_case(session.query))
        if not _look_through(session, later, start.offset, wanted, since, changed):
            return end, everything
        return end, changed


def _look_through(
    session: Session,
    files: Sequence[str],
    start: int,
    wanted: Wanted,
    since: Mapping[str, Position],
    changed: dict[str, Position],
) -> bool:
    """Note in `changed` the last change of each table in these files. Returns False if they are too
    long.

    `start`: where to begin in the first file.
    """
    seen, events = 0, _Events(wanted)
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
                for name in events.touched(event or "", info or ""):
                    if at > since.get(name, NOWHERE):
                        changed[name] = at
            seen += len(rows)
            if len(rows) < _PROBE_CHUNK:
                break
            position = int(rows[-1][4] or 0)
    return seen <= _PROBE_EVENTS


class _Events:
    """Tells which tables each event of a log may have changed.

    An XA transaction changes them at its commit, which names no table and may come much later than
    its rows (apache/flink-cdc#1239).
    """

    def __init__(self, wanted: Wanted) -> None:
        self._wanted = wanted
        self._latest: set[str] = set()
        """Tables that were touched since the last XA transaction began."""
        self._prepared: dict[str, set[str]] = {}

    def touched(self, event: str, info: str) -> Collection[str]:
        """Return the tables, by their names here."""
        xa = _XA.match(info) if event in ("Query", "Gtid", "XA_prepare") else None
        if xa is None:
            found = _touched(self._wanted, event, info)
            self._latest.update(found)
            return found
        word, xid = xa[1].upper(), xa[2].lower()
        if word == "START":
            self._latest = set()
        # MySQL logs a commit in one phase as an event of this type, behind its rows.
        elif event == "XA_prepare":
            self._prepared[xid], self._latest = self._latest, set()
        else:
            # Prepared before the part of the log that is looked at: its tables are not known.
            tables = self._prepared.pop(xid, self._wanted.tables)
            return tables if word == "COMMIT" else ()
        return ()


def _touched(wanted: Wanted, event: str, info: str) -> Sequence[str]:
    """Return the tables that an event of the binary log may have changed, by their names here."""
    text, database = wanted.fold(info), wanted.fold(wanted.database)
    # Before every statement's rows the log describes their table. So rows need not be looked at.
    if event == "Table_map":
        return [
            name
            for name, at_source in wanted.tables.items()
            if f"({database}.{wanted.fold(at_source)})" in text
        ]
    # Compressed, its tables unknown. Or the server failed to log something: the load will say so.
    if event in ("Transaction_payload", "Incident"):
        return [*wanted.tables]
    if event not in ("Query", "Query_compressed", "Execute_load_query"):
        return []
    used, statement = re.fullmatch(r"(?:use `((?:[^`]|``)*)`; )?(.*)", text, re.DOTALL).groups()  # type: ignore[union-attr]
    if used != database and database not in statement:
        return []
    # DDL names its tables in its text. A name may stand there for another reason: rather one too
    # many.
    if re.match(
        r"\s*(ALTER|CREATE|DROP|RENAME|TRUNCATE|ANALYZE|OPTIMIZE|REPAIR)\b(?!\s+(DATABASE|SCHEMA))",
        statement,
        re.I,
    ):
        return [
            name
            for name, at_source in wanted.tables.items()
            if re.search(rf"(?<![\w$]){re.escape(wanted.fold(at_source))}(?![\w$])", statement)
        ]
    if re.match(
        r"\s*(BEGIN|COMMIT|ROLLBACK|SAVEPOINT|RELEASE|XA|GRANT|REVOKE|SET)\b", statement, re.I
    ):
        return []
    return [*wanted.tables]  # a statement instead of rows: whatever it touched
