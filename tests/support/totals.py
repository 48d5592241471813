"""A source with running totals for tests, and a recount of its rows in Python."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from support.ingestion import query, run

from softcart_assets.connections import MySQLConnection, PostgresConnection
from softcart_assets.lines.model import Latest, RunningTotal, Source, Table, Where

CALLS = RunningTotal(
    "calls_out",
    "Outgoing calls.",
    table="calls",
    key="subscriber_id",
    measures={"calls": "*", "seconds": "seconds"},
    where=(Where("direction", "=", "out"),),
    at="started_at",
    identity=("event_id", "direction"),
    windows=("life", "cycle", "day"),
)
CHARGES = RunningTotal(
    "charged",
    "What was charged.",
    table="charges",
    key="subscriber_id",
    measures={"amount": "amount"},
    at="event_at",
    by="currency",
    windows=("life", "cycle", "day"),
)
UNPAID = RunningTotal(
    "unpaid",
    "Open invoices.",
    table="invoices",
    key="account_id",
    measures={"invoices": "*", "amount": "total"},
    where=(Where("state", "in", ("open", "overdue")),),
    by="currency",
)
LAST_CHARGE = Latest(
    "last_charge",
    "The last charge.",
    table="charges",
    key="subscriber_id",
    at="event_at",
    columns=("amount", "currency"),
)
TABLES = (
    "CREATE TABLE calls (id BIGINT PRIMARY KEY, event_id VARCHAR(20), direction VARCHAR(3), "
    "subscriber_id BIGINT, started_at DATETIME(6), seconds INT)",
    "CREATE TABLE charges (id BIGINT PRIMARY KEY, subscriber_id BIGINT, amount DECIMAL(12,2), "
    "currency CHAR(3), event_at DATETIME(6))",
    "CREATE TABLE invoices (id BIGINT PRIMARY KEY, account_id BIGINT, total DECIMAL(12,2), "
    "currency CHAR(3), state VARCHAR(10))",
)
LIFE = datetime.min.replace(tzinfo=UTC)

Sums = dict[tuple[Any, ...], tuple[Any, ...]]
"""Key, bucket and currency of a row of a total → its sums, first the number of rows."""


def totals_source(strategy: str = "cdc", **changed: Any) -> Source:
    """The source `t` with these totals."""
    tables = tuple(
        Table(name, "", ("id",), strategy, ())  # type: ignore[arg-type]
        for name in ("calls", "charges", "invoices")
    )
    declared = {"totals": (CALLS, CHARGES, UNPAID), "latest": (LAST_CHARGE,)} | changed
    return Source("t", "mysql", "", tables, prefix="SOFTCART_SHOP", owner="team:t", **declared)


def make_tables(mysql: MySQLConnection) -> None:
    run(mysql, *TABLES)


def rows_at_source(mysql: MySQLConnection, table: str) -> list[dict[str, Any]]:
    with mysql.connect() as connection, connection.cursor() as cursor:
        cursor.execute(f"SELECT * FROM {table} ORDER BY id")
        names = [each[0] for each in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def bucket_of(moment: datetime) -> datetime:
    return moment.replace(minute=moment.minute // 15 * 15, second=0, microsecond=0, tzinfo=UTC)


def counting(
    rows: Iterable[dict[str, Any]],
    total: RunningTotal,
    counts: Callable[[dict[str, Any]], bool],
) -> Iterator[dict[str, Any]]:
    """The rows that count: of each event the first one, if it passes the filter."""
    seen: set[tuple[Any, ...]] = set()
    for row in sorted(rows, key=lambda row: row["id"]):
        event = tuple(row[name] for name in total.identity)
        if event and event[0] is not None:
            if event in seen:
                continue
            seen.add(event)
        if counts(row) and row[total.key] is not None:
            yield row


def recount(
    rows: Iterable[dict[str, Any]],
    total: RunningTotal,
    counts: Callable[[dict[str, Any]], bool],
) -> Sums:
    """Count as declared, one row after the other."""
    sums: Sums = {}
    for row in counting(rows, total, counts):
        buckets = [LIFE]
        if total.at and row[total.at] is not None:
            buckets.append(bucket_of(row[total.at]))
        for bucket in buckets:
            own = (row[total.by] or "",) if total.by else ()
            _add(sums, (row[total.key], bucket, *own), total, row)
    return sums


def _add(sums: Sums, key: tuple[Any, ...], total: RunningTotal, row: dict[str, Any]) -> None:
    added: list[Any] = [1, *(1 if c == "*" else row[c] or 0 for c in total.measures.values())]
    before = sums.get(key, [0] * len(added))
    sums[key] = tuple(Decimal(a) + Decimal(b) for a, b in zip(before, added, strict=True))


COUNTS: dict[str, Callable[[dict[str, Any]], bool]] = {
    "calls_out": lambda row: row["direction"] == "out",
    "charged": lambda row: True,
    "unpaid": lambda row: row["state"] in ("open", "overdue"),
}


def kept(postgres: PostgresConnection, total: RunningTotal, schema: str = "ods") -> Sums:
    """The rows of a total, without those for which nothing counts any more."""
    own = [total.by] if total.by else []
    names = ", ".join(
        [
            total.key,
            "CASE WHEN isfinite(bucket) THEN bucket END",
            *own,
            "_rows",
            *total.measures,
        ]
    )
    rows = query(postgres, f"SELECT {names} FROM {schema}.{total.name} WHERE _rows <> 0")
    size = 2 + len(own)
    return {
        (row[0], row[1].astimezone(UTC) if row[1] else LIFE, *row[2:size]): tuple(
            map(Decimal, row[size:])
        )
        for row in rows
    }


def assert_exact(mysql: MySQLConnection, postgres: PostgresConnection, source: Source) -> None:
    """Every total is what its rows at the source give."""
    for total in source.totals:
        rows = rows_at_source(mysql, total.table)
        assert kept(postgres, total) == recount(rows, total, COUNTS[total.name]), total.name


def midnight(day: datetime, zone: str) -> datetime:
    """When a day begins in a zone, in UTC. Python takes the first of two midnights."""
    local = day.replace(hour=0, minute=0, second=0, microsecond=0, fold=0, tzinfo=ZoneInfo(zone))
    return local.astimezone(UTC)


def limits(cycle_day: int, zone: str, moment: datetime) -> dict[str, tuple[datetime, datetime]]:
    """Begin and end of the day and of the billing period that hold a moment."""
    today = moment.astimezone(ZoneInfo(zone)).replace(tzinfo=None)
    first = today.replace(day=cycle_day)
    if today.day < cycle_day:
        first = (today.replace(day=1) - timedelta(days=1)).replace(day=cycle_day)
    after = (first.replace(day=1) + timedelta(days=31)).replace(day=cycle_day)
    return {
        "day": (midnight(today, zone), midnight(today + timedelta(days=1), zone)),
        "cycle": (midnight(first, zone), midnight(after, zone)),
    }


def assert_windows_exact(
    mysql: MySQLConnection,
    postgres: PostgresConnection,
    source: Source,
    cycle_day: int,
    zone: str,
    moments: Sequence[datetime],
) -> None:
    """Every window of every key at these moments is what the rows at the source give."""
    for total in source.totals:
        if not total.at:
            continue
        rows = list(counting(rows_at_source(mysql, total.table), total, COUNTS[total.name]))
        expected: Sums = {}
        for moment in moments:
            for window, (starts, ends) in limits(cycle_day, zone, moment).items():
                for row in rows:
                    at = row[total.at]
                    if at is not None and starts <= at.replace(tzinfo=UTC) < ends:
                        own = (row[total.by] or "",) if total.by else ()
                        key = (row[total.key], moment, window, starts, ends, *own)
                        _add(expected, key, total, row)
        found = query(
            postgres,
            f"SELECT k, m, w.* FROM unnest(%s::bigint[]) k, unnest(%s::timestamptz[]) m, "
            f"ods.{total.name}_windows(k, %s, %s, m) w WHERE w.window <> 'life'",
            list({row[total.key] for row in rows}),
            list(moments),
            cycle_day,
            zone,
        )
        size = 6 if total.by else 5
        assert {row[:size]: row[size:] for row in found} == {
            key: sums[1:] for key, sums in expected.items()
        }, total.name


def later(**how: float) -> datetime:
    return datetime(2026, 3, 1) + timedelta(**how)
