"""Audits of a raw table: it equals its source, few rows are missing, size and age are plausible.

Each function queries the staging database about one table and returns an `AuditResult`. It does not
read the source: loads store what the source states. `softcart_assets.publishing.suite` has the
audits of published tables.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from psycopg import sql

from softcart_assets.audits.model import AuditResult
from softcart_assets.connections import PostgresConnection
from softcart_assets.ingestion.proof.verify import compare, current_rows
from softcart_assets.ingestion.quarantine import summarize
from softcart_assets.lines.model import Limit, Source, Table

LOADS_OF_HISTORY = 20
"""How many loads say what number of rows is usual. One unusual load does not move their median."""
MAX_AGE = timedelta(hours=26)
"""A day, and two hours for the nightly load itself."""
CLOCK_TOLERANCE = timedelta(minutes=5)
"""By how much the clocks of the warehouse and of this machine may differ."""


def equals_source(
    staging: PostgresConnection, source: Source, table: Table, now: datetime | None = None
) -> AuditResult:
    """Row count and every column's checksum are what the source states. What changed since it was
    asked was added from its log. `is_open`: it states nothing, or was not asked within `MAX_AGE`.
    """
    found = compare(source, staging, table.name)
    stated = found.statement
    is_recent = stated.was_asked_within(MAX_AGE, now or datetime.now(UTC))
    is_different = found.is_stated and not found.is_equal
    if not found.is_stated:
        state = f"not asked: {stated.lost_because}"
    elif is_different:
        state = "different"
    elif not is_recent:
        # Equal, but changes that the log did not tell are in neither. Only the source knows.
        state = "not asked within its interval"
    else:
        state = "equal" if found.compared else "equal in the number of rows, no column was stated"
    details = {
        "state": state,
        "position": found.position,
        "source asked at": stated.asked_at.isoformat() if stated.asked_at else "never",
        "source asked at position": stated.asked_position,
        "allowed age": str(MAX_AGE),
        "rows at the source": stated.rows,
        "rows in raw": found.raw_rows,
        "raw read whole at": found.raw_read_at.isoformat() if found.raw_read_at else "not read",
        "rows in quarantine": found.quarantined_rows,
        "columns compared": len(found.compared),
        "columns not stated": found.unstated,
        "differing columns": list(found.differing),
    }
    is_open = not found.is_stated or not is_recent
    return AuditResult("equals_source", table.name, not is_different, details, is_open=is_open)


def volume_plausible(staging: PostgresConnection, source: Source, table: Table) -> AuditResult:
    """The number of rows is plausible, compared with the median of the last loads."""
    rows = current_rows(staging, source, table)
    with staging.connect() as session:
        median = session.execute(
            "SELECT percentile_disc(0.5) WITHIN GROUP (ORDER BY rows_total)"
            " FROM (SELECT rows_total FROM ingestion.loads"
            " WHERE source = %s AND table_name = %s ORDER BY number DESC LIMIT %s) AS latest",
            [source.name, table.name, LOADS_OF_HISTORY],
        ).fetchone()
    # Without earlier loads there is nothing to compare with, and any number of rows passes.
    usual = median[0] if median and median[0] else 0
    least, most = usual * (1 - table.max_drop.value), usual * table.max_growth.value
    details = {
        "rows": rows,
        "median of last loads": usual,
        "allowed": f"from {least:,.0f} to {most:,.0f}",
        "max_drop": _limit(table.max_drop),
        "max_growth": _limit(table.max_growth),
    }
    passed = least <= rows and (rows <= most or not usual)
    return AuditResult("volume_plausible", table.name, passed, details)


def _limit(limit: Limit) -> str:
    """A limit for people: its value, its reason and where to change it."""
    return f"{limit.value}: {limit.reason} It is declared at {limit.declared_at}."


def quarantine_small(staging: PostgresConnection, source: Source, table: Table) -> AuditResult:
    """Few rows are in quarantine, at most the share that the table's declaration allows."""
    with staging.connect() as session:
        row = session.execute(
            "SELECT count(*) FROM ingestion.quarantine WHERE source = %s AND table_name = %s AND"
            " closed_at IS NULL",
            [source.name, table.name],
        ).fetchone()
    assert row
    rows, (quarantined,) = current_rows(staging, source, table), row
    summary = summarize(staging, source.name, table.name)
    details = {
        "rows in raw": rows,
        "rows in quarantine": quarantined,
        "max_quarantined": _limit(table.max_quarantined),
        "reasons": [f"{column}: {why} ({count} rows)" for column, why, count in summary.reasons],
    }
    # Compared as a product: an empty table without entries has no share.
    passed = quarantined <= (rows + quarantined) * table.max_quarantined.value
    return AuditResult("quarantine_small", table.name, passed, details)


def fresh(
    staging: PostgresConnection, source: Source, table: Table, now: datetime | None = None
) -> AuditResult:
    """The table was loaded within `MAX_AGE`. A load without changes counts too.

    A time that is still to come tells no age. It is of a clock that ran ahead, so it does not pass.
    """
    with staging.connect() as session:
        row = session.execute(
            "SELECT loaded_at FROM ingestion.loads WHERE source = %s AND table_name = %s"
            " ORDER BY number DESC LIMIT 1",
            [source.name, table.name],
        ).fetchone()
    loaded = row[0] if row else None
    age = (now or datetime.now(UTC)) - loaded if loaded else None
    details = {"loaded at": loaded.isoformat() if loaded else "never", "allowed age": str(MAX_AGE)}
    passed = age is not None and -CLOCK_TOLERANCE <= age <= MAX_AGE
    return AuditResult("fresh", table.name, passed, details)


def latest_day_present(
    staging: PostgresConnection, source: Source, table: Table, now: datetime | None = None
) -> AuditResult:
    """Yesterday (UTC) has rows, by the `daily` column of the table."""
    assert table.daily, f"{table.name} declares no daily column"
    expected = ((now or datetime.now(UTC)) - timedelta(days=1)).date()
    with staging.connect() as session:
        row = session.execute(
            sql.SQL(
                "SELECT max({day})::date, count(*) FILTER (WHERE {day}::date = %s) FROM {table} "
                "WHERE NOT _deleted"
            ).format(
                day=sql.Identifier(table.daily), table=sql.Identifier(source.schema, table.name)
            ),
            [expected],
        ).fetchone()
    latest, rows = row or (None, 0)
    details = {
        "expected day": expected.isoformat(),
        "rows of that day": rows,
        "latest day": str(latest),
    }
    return AuditResult("latest_day_present", table.name, rows > 0, details)
