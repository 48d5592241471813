"""Audit of a history: the last version of each row is the row that raw has.

A load writes raw and its history in one transaction. So each write to raw has a version that is as
new, and only what was written since the last audit has to be compared.
"""

from __future__ import annotations

from dataclasses import dataclass

from softcart_assets.audits.model import AuditResult, Details
from softcart_assets.connections import PostgresConnection
from softcart_assets.ingestion.sinks.raw import RawTable
from softcart_assets.ingestion.sinks.sql import listed
from softcart_assets.lines.model import Source, Table


@dataclass(frozen=True)
class Seen:
    """How far an audit has read. `tables`: the two tables as PostgreSQL knows them: others of the
    same names were not read yet. `raw`, `history`: their last `_version`.
    """

    tables: str = ""
    raw: int = -1
    history: int = -1


def ends_in_raw(
    staging: PostgresConnection, source: Source, table: Table, passed: Seen | None = None
) -> tuple[AuditResult, Seen]:
    """The last version of each row equals the row in raw, also in being deleted or not.

    Each row of raw has a version, and each version a row. `passed`: how far an earlier audit has
    read that passed. None: everything is read. Also returns how far this one has read.
    """
    with staging.connect() as session:
        raw = RawTable(session, source, table)
        tables = session.execute(
            "SELECT concat_ws(' ', to_regclass(%s)::oid, to_regclass(%s)::oid)",
            [raw.name, raw.history],
        ).fetchone()
        assert tables
        if " " not in tables[0]:
            missing: Details = {"state": "raw or its history does not exist"}
            return AuditResult("ends_in_raw", table.name, False, missing), Seen()
        # Compiling a query about many columns would take longer than running it.
        session.execute("SET LOCAL jit = off")
        start = passed if passed and passed.tables == tables[0] else Seen(tables[0])
        row = session.execute(_question(raw, start)).fetchone()
    assert row
    compared, wrong, sample, raw_until, history_until = row
    details: Details = {
        "rows compared": compared,
        "rows that differ": wrong,
        # Numbers of ours: keys may tell who somebody is.
        "_version of some of them in raw": sample or [],
        "read": "what changed since the last audit" if start.raw >= 0 else "everything",
    }
    result = AuditResult("ends_in_raw", table.name, not wrong, details)
    return result, Seen(tables[0], max(start.raw, raw_until), max(start.history, history_until))


def _question(raw: RawTable, start: Seen) -> bytes:
    """One query, so that all of it sees one state of both tables."""
    types = {c.name: c.target_type for c in raw.columns(relation=raw.history)}
    # After a change of type that some old value does not survive, the history has texts.
    names = [c.name for c in raw.columns() if types.get(c.name) == c.target_type]
    names.append("_deleted")
    key = listed(raw.key)
    return f"""
        WITH versions AS (
          SELECT DISTINCT ON ({key}) * FROM {raw.history} WHERE _version > {start.history}
          ORDER BY {key}, _version DESC
        ), written AS (
          SELECT {key} FROM {raw.name} WHERE _version > {start.raw} UNION SELECT {key} FROM versions
        ), compared AS (
          SELECT r._version, r._version IS NULL OR v._version IS NULL
                 OR ROW({listed(names, "r")}) IS DISTINCT FROM ROW({listed(names, "v")}) AS is_wrong
          FROM written LEFT JOIN {raw.name} r USING ({key}) LEFT JOIN versions v USING ({key})
        )
        SELECT count(*), count(*) FILTER (WHERE is_wrong),
               (array_agg(_version) FILTER (WHERE is_wrong AND _version IS NOT NULL))[:5],
               (SELECT coalesce(max(_version), -1) FROM {raw.name}),
               (SELECT coalesce(max(_version), -1) FROM {raw.history})
        FROM compared
    """.encode()
