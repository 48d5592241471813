"""Running totals: whatever happens to the rows, they are what a recount gives, to the cent."""

from __future__ import annotations

import multiprocessing
import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import dagster as dg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.databases import name_server
from support.ingestion import fill, load_all, query, run
from support.totals import (
    CALLS,
    CHARGES,
    LIFE,
    UNPAID,
    assert_exact,
    assert_windows_exact,
    kept,
    limits,
    make_tables,
    totals_source,
)
from typer.testing import CliRunner

from softcart_assets import cli
from softcart_assets.assembly import Lines
from softcart_assets.components.ods import recounts, total_checks, totals
from softcart_assets.connections import MySQLConnection, PostgresConnection
from softcart_assets.ingestion.capture import resnapshot, stream
from softcart_assets.ingestion.errors import LoadsFailed
from softcart_assets.ingestion.load import LoadRequest
from softcart_assets.ingestion.proof.reconcile import reconcile
from softcart_assets.ingestion.sinks.ods import keeping
from softcart_assets.ingestion.sinks.ods import rebuild as building
from softcart_assets.ingestion.sinks.ods.rebuild import NotBuilt, check, rebuild
from softcart_assets.ingestion.sinks.ods.table import TotalTable
from softcart_assets.lines.model import Line, Source, Table, Where
from softcart_assets.resources import PostgresResource

SOURCE = totals_source()


@pytest.fixture
def tables(mysql: MySQLConnection) -> MySQLConnection:
    make_tables(mysql)
    return mysql


@pytest.fixture
def load(tables: MySQLConnection, postgres: PostgresConnection, lake: str):  # type: ignore[no-untyped-def]
    """Run statements at the source, load, and compare the totals with a recount."""

    def run_and_load(*statements: str, source: Source = SOURCE, **options: object) -> None:
        run(tables, *statements)
        load_all(source, tables, postgres, lake, **options)
        assert_exact(tables, postgres, source)
        for total in source.totals:
            assert check(postgres, source, total).wrong == 0

    return run_and_load


def call(id: int, event: str, subscriber: object, at: str, seconds: int, way: str = "out") -> str:
    return f"INSERT INTO calls VALUES ({id}, '{event}', '{way}', {subscriber}, '{at}', {seconds})"


def charge(id: int, subscriber: int, amount: str, at: str, currency: str = "EUR") -> str:
    return f"INSERT INTO charges VALUES ({id}, {subscriber}, {amount}, '{currency}', '{at}')"


def life(postgres: PostgresConnection, key: int, total: str = "calls_out") -> list[tuple]:
    return [
        row[3:]
        for row in query(postgres, f"SELECT * FROM ods.{total}_windows(%s, 1, 'UTC', now())", key)
        if row[0] == "life"
    ]


def window(
    postgres: PostgresConnection, what: str, key: int, day: int, zone: str, at: str, total: str
) -> list[tuple]:
    rows = query(postgres, f"SELECT * FROM ods.{total}_windows(%s, %s, %s, %s)", key, day, zone, at)
    return [row[3:] for row in rows if row[0] == what]


def test_updates_deletes_and_what_the_log_does_not_tell(
    load, tables: MySQLConnection, postgres: PostgresConnection, lake: str
) -> None:
    load()
    load(
        call(1, "a", 7, "2026-03-01 10:14:59.999999", 60),
        call(2, "b", 7, "2026-03-01 10:15:00", 30),
        call(3, "c", 8, "2026-03-01 10:15:00", 5, "in"),
        call(4, "d", "NULL", "2026-03-01 10:15:00", 5),
        charge(1, 7, "9.99", "2026-03-01"),
        charge(2, 7, "0.01", "2026-03-02", "USD"),
        "INSERT INTO invoices VALUES (1, 5, 20.00, 'EUR', 'open'), (2, 5, 1.5, NULL, 'paid')",
    )
    assert life(postgres, 7) == [(2, 90)]
    # Each part of what a row adds: the filter, the key, the time, the measure, and all at once.
    load("UPDATE calls SET direction = 'out' WHERE id = 3")
    load("UPDATE calls SET subscriber_id = 8 WHERE id = 2")
    load("UPDATE calls SET started_at = '2026-04-01 00:00:00' WHERE id = 1")
    load("UPDATE calls SET seconds = NULL WHERE id = 1", "UPDATE calls SET seconds = 9 WHERE id=2")
    load("UPDATE calls SET id = 50, subscriber_id = 9, seconds = 3, started_at = NULL WHERE id=2")
    load("UPDATE invoices SET state = 'paid' WHERE id = 1", "UPDATE charges SET currency = 'CHF'")
    load("UPDATE invoices SET state = 'overdue', account_id = 6", "DELETE FROM charges WHERE id=1")
    load("DELETE FROM calls WHERE id = 1", call(1, "z", 7, "2026-03-01", 1))
    load("START TRANSACTION", call(60, "y", 7, "2026-03-01", 1), "ROLLBACK")
    load("TRUNCATE calls", call(1, "a", 7, "2026-03-01 10:00:00", 4))
    load(
        "ALTER TABLE calls ADD COLUMN note TEXT DEFAULT 'x'",
        "INSERT INTO calls VALUES (2, 'b', 'out', 7, '2026-03-01', 5, 'n')",
    )
    load(
        "ALTER TABLE calls MODIFY seconds BIGINT, DROP COLUMN note",
        call(3, "c", 7, "2026-03-01", 5),
    )
    load("SET SESSION sql_log_bin = 0", call(9, "q", 7, "2026-03-03", 2), full=True)
    # Re-snapshot, comparison and repair of rows that somebody has damaged.
    run(tables, call(10, "r", 7, "2026-03-03", 2))
    resnapshot(SOURCE, tables, postgres, lake, "calls")
    assert_exact(tables, postgres, SOURCE)
    with postgres.connect() as connection:
        connection.execute("UPDATE raw_t.calls SET seconds = 1000 WHERE id = 10")
        connection.execute("DELETE FROM raw_t.calls WHERE id = 9")
    request = LoadRequest(SOURCE, tables, postgres, lake)
    reconcile(request, "calls", repair=True)
    assert_exact(tables, postgres, SOURCE)


def test_what_raw_does_not_have_does_not_count(
    tables: MySQLConnection, postgres: PostgresConnection, lake: str
) -> None:
    """Rows in quarantine are in no total until they are mended."""
    run(tables, "ALTER TABLE calls MODIFY started_at DATETIME", "SET SESSION sql_mode = ''")
    load_all(SOURCE, tables, postgres, lake)
    run(
        tables,
        call(1, "a", 7, "2026-03-01", 5),
        call(2, "b", 7, "2026-03-01", 7),
    )
    load_all(SOURCE, tables, postgres, lake)
    with tables.connect() as connection:
        connection.query("SET SESSION sql_mode = ''")
        connection.query(
            "UPDATE calls SET started_at = '0000-00-00 00:00:00', seconds = 9 WHERE id = 2"
        )
        connection.commit()
    load_all(SOURCE, tables, postgres, lake)
    assert query(postgres, "SELECT count(*) FROM ingestion.quarantine WHERE closed_at IS NULL") == [
        (1,)
    ]
    for total in SOURCE.totals:
        assert check(postgres, SOURCE, total).wrong == 0
    run(tables, "UPDATE calls SET started_at = '2026-03-05' WHERE id = 2")
    load_all(SOURCE, tables, postgres, lake)
    assert_exact(tables, postgres, SOURCE)


def test_a_duplicate_that_is_not_stored_is_not_debited(load, postgres: PostgresConnection) -> None:
    """cgrates/cgrates#243."""
    load(
        call(5, "e", 7, "2026-03-01 10:00:00", 60),
        call(6, "e", 7, "2026-03-01 10:00:00", 60),
        # The other side of the call is another event.
        call(7, "e", 8, "2026-03-01 10:00:00", 60, "in"),
    )
    load(call(8, "e", 7, "2026-03-01 10:00:00", 60))
    assert life(postgres, 7) == [(1, 60)]
    # One that comes later with a smaller number counts instead.
    load(call(2, "e", 9, "2026-03-01 11:00:00", 61))
    assert (life(postgres, 7), life(postgres, 9)) == ([], [(1, 61)])
    load("DELETE FROM calls WHERE id = 2")
    load("UPDATE calls SET event_id = 'f' WHERE id = 5")
    assert life(postgres, 7) == [(2, 120)]
    load("UPDATE calls SET event_id = NULL WHERE id >= 5")
    assert life(postgres, 7) == [(3, 180)]
    load("DELETE FROM calls")
    assert life(postgres, 7) == []


def test_rating_again_replaces_the_amount(load, postgres: PostgresConnection) -> None:
    """cgrates/cgrates#48: the new price was added on top of the old one."""
    load(charge(1, 7, "10.00", "2026-03-01"), charge(2, 7, "1.05", "2026-03-01"))
    load("UPDATE charges SET amount = 7.50 WHERE id = 1")
    assert life(postgres, 7, "charged") == [("EUR", Decimal("8.55"))]
    # Rated again with another tariff's currency, and then back.
    load("UPDATE charges SET amount = 7.10, currency = 'USD' WHERE id = 1")
    assert life(postgres, 7, "charged") == [("EUR", Decimal("1.05")), ("USD", Decimal("7.10"))]
    load("UPDATE charges SET amount = 7.50, currency = 'EUR' WHERE id = 1")
    assert life(postgres, 7, "charged") == [("EUR", Decimal("8.55"))]


def test_a_correction_counts_in_the_period_of_the_call(
    load, tables: MySQLConnection, postgres: PostgresConnection
) -> None:
    """A correction is a reversal and a new charge, which may be written a period later."""
    load(charge(1, 7, "10.00", "2026-03-31 21:59:59"), charge(2, 7, "1.05", "2026-04-20 09:00:00"))
    load(charge(3, 7, "-10.00", "2026-03-31 21:59:59"), charge(4, 7, "9.99", "2026-03-31 21:59:59"))
    moments = [datetime(2026, month, 15, tzinfo=UTC) for month in (3, 4, 5)]
    assert_windows_exact(tables, postgres, SOURCE, 1, "Europe/Berlin", moments)
    of_march = window(postgres, "cycle", 7, 1, "Europe/Berlin", "2026-03-15Z", "charged")
    assert of_march == [("EUR", Decimal("9.99"))]


def test_late_events_count_in_the_period_of_the_event(
    load, tables: MySQLConnection, postgres: PostgresConnection
) -> None:
    """killbill/killbill-docs#118: late events were ignored without a word."""
    load(call(1, "a", 7, "2026-03-10 10:00:00", 60))
    load(call(2, "b", 7, "2026-04-20 10:00:00", 60))
    load(call(3, "c", 7, "2026-03-10 10:05:00", 5))
    of_march = window(postgres, "cycle", 7, 1, "UTC", "2026-03-31 23:59:59Z", "calls_out")
    of_april = window(postgres, "cycle", 7, 1, "UTC", "2026-04-01 00:00:00Z", "calls_out")
    assert (of_march, of_april) == ([(2, 65)], [(1, 60)])
    moments = [datetime(2026, month, 10, tzinfo=UTC) for month in (2, 3, 4)]
    assert_windows_exact(tables, postgres, SOURCE, 1, "UTC", moments)


def test_a_new_period_begins_with_nothing(
    load, tables: MySQLConnection, postgres: PostgresConnection
) -> None:
    """getlago/lago-api#589: totals of one period were shown in the next."""
    load(charge(1, 7, "5.00", "2026-03-14 22:59:59"), charge(2, 7, "2.00", "2026-03-14 23:00:00"))

    def cycle(at: str) -> list[tuple]:
        return window(postgres, "cycle", 7, 15, "Europe/Berlin", at, "charged")

    assert cycle("2026-03-14 22:59:59.999999Z") == [("EUR", Decimal("5.00"))]
    assert cycle("2026-03-14 23:00:00Z") == [("EUR", Decimal("2.00"))]
    assert cycle("2026-04-14 22:00:00Z") == []
    moments = [datetime(2026, month, 14, 22, 30, tzinfo=UTC) for month in range(1, 6)]
    assert_windows_exact(tables, postgres, SOURCE, 15, "Europe/Berlin", moments)


@pytest.mark.parametrize("zone", ["Asia/Kathmandu", "America/St_Johns", "Pacific/Auckland", "UTC"])
def test_each_call_is_in_one_day_of_every_zone(
    load, tables: MySQLConnection, postgres: PostgresConnection, zone: str
) -> None:
    """BerriAI/litellm#29568: clients outside UTC counted twice."""
    load(*(call(n, f"e{n}", 7, f"2026-03-{1 + n // 4:02} {n % 4 * 6:02}:00", 1) for n in range(20)))
    days = [
        window(postgres, "day", 7, 1, zone, f"2026-03-{day:02} 12:00:00 {zone}", "calls_out")
        for day in range(1, 9)
    ]
    before = window(postgres, "day", 7, 1, zone, f"2026-02-28 12:00:00 {zone}", "calls_out")
    assert sum(row[0] for found in [*days, before] for row in found) == 20
    moments = [datetime(2026, 2, 28, 12, tzinfo=UTC) + timedelta(days=n) for n in range(9)]
    assert_windows_exact(tables, postgres, SOURCE, 1, zone, moments)


def test_an_event_told_again_with_other_values_counts_as_told_first(
    load, postgres: PostgresConnection
) -> None:
    """flexprice/flexprice#612: the same event with another payload was counted in part."""
    load(call(1, "e", 7, "2026-03-01", 60), charge(1, 7, "1.00", "2026-03-01"))
    load(call(2, "e", 8, "2026-03-02", 600))
    assert (life(postgres, 7), life(postgres, 8)) == ([(1, 60)], [])
    # Also if the first one does not pass the filter.
    load("UPDATE calls SET subscriber_id = NULL WHERE id = 1")
    assert (life(postgres, 7), life(postgres, 8)) == ([], [])


def test_a_number_that_moves_to_another_subscriber(load, postgres: PostgresConnection) -> None:
    load(call(1, "a", 7, "2026-03-01", 60), call(2, "b", 7, "2026-03-05", 30))
    # From then on the register resolves the number to 8. The last call was told before it knew.
    load("UPDATE calls SET subscriber_id = 8 WHERE id = 2", call(3, "c", 8, "2026-03-06", 1))
    assert (life(postgres, 7), life(postgres, 8)) == ([(1, 60)], [(2, 31)])


def test_another_day_of_the_cycle_rewrites_nothing(
    load, tables: MySQLConnection, postgres: PostgresConnection
) -> None:
    load(*(charge(day, 7, "1.00", f"2026-03-{day:02} 12:00") for day in range(1, 32)))
    before = query(postgres, "SELECT ctid, xmin FROM ods.charged ORDER BY ctid")
    at = "2026-03-20 00:00:00Z"
    found = [window(postgres, "cycle", 7, day, "UTC", at, "charged")[0][1] for day in (1, 15, 28)]
    assert found == [31, 17, 27]
    moments = [datetime(2026, month, 20, tzinfo=UTC) for month in (2, 3, 4)]
    for day in (1, 15, 28):
        assert_windows_exact(tables, postgres, SOURCE, day, "Europe/Berlin", moments)
    assert query(postgres, "SELECT ctid, xmin FROM ods.charged ORDER BY ctid") == before


ZONES = (
    "Europe/Berlin",
    "America/New_York",
    # Clocks are set back over midnight.
    "Atlantic/Azores",
    "America/Havana",
    # They are set forward at midnight.
    "Africa/Cairo",
    "Asia/Beirut",
    "Australia/Lord_Howe",
    "Asia/Kathmandu",
)


@pytest.mark.parametrize("zone", ZONES)
def test_days_and_cycles_over_both_changes_of_the_clock(
    postgres: PostgresConnection, load, zone: str
) -> None:
    load()
    hours = [datetime(2026, 1, 1, tzinfo=UTC) + timedelta(hours=n) for n in range(0, 365 * 24)]
    rows = query(
        postgres,
        "SELECT m, d.starts_at, d.ends_at, c.starts_at, c.ends_at FROM unnest(%s::timestamptz[]) m,"
        " ods.local_day(%s, m) d, ods.cycle(15, %s, m) c",
        hours,
        zone,
        zone,
    )
    for moment, *found in rows:
        day, cycle = limits(15, zone, moment).values()
        assert found == [*day, *cycle]
        assert found[0] <= moment < found[1]
    # All begin on a quarter of an hour, as the buckets do.
    assert all(each.minute % 15 == 0 and not each.second for row in rows for each in row[1:])


def test_calls_on_the_days_of_both_changes_of_the_clock(
    load, tables: MySQLConnection, postgres: PostgresConnection
) -> None:
    """The day has 23 hours in March and 25 in October."""
    moments = [datetime(2026, 3, 28, 12) + timedelta(hours=n) for n in range(60)]
    moments += [datetime(2026, 10, 24, 12) + timedelta(hours=n) for n in range(60)]
    load(
        *(call(n, f"e{n}", 7, str(at), 1) for n, at in enumerate(moments)),
        *(charge(n, 7, "0.01", str(at)) for n, at in enumerate(moments)),
    )
    found = [
        window(postgres, "day", 7, 1, "Europe/Berlin", at, "calls_out")
        for at in ("2026-03-29 12:00 Europe/Berlin", "2026-10-25 12:00 Europe/Berlin")
    ]
    assert found == [[(23, 23)], [(25, 25)]]
    # The billing period changes in the same nights.
    for day in (25, 26, 28):
        for zone in ("Europe/Berlin", "America/St_Johns"):
            assert_windows_exact(
                tables, postgres, SOURCE, day, zone, [each.replace(tzinfo=UTC) for each in moments]
            )


def test_the_last_row_and_the_position(load, postgres: PostgresConnection) -> None:
    load(charge(1, 7, "1.00", "2026-03-01"), charge(2, 7, "2.00", "2026-03-05"))
    load(charge(3, 7, "3.00", "2026-03-02"))
    last = query(postgres, "SELECT amount, id FROM ods.last_charge(7)")
    assert last == [(Decimal("2.00"), 2)]
    load("DELETE FROM charges WHERE id = 2")
    assert query(postgres, "SELECT id FROM ods.last_charge(7)") == [(3,)]
    rows = query(
        postgres,
        "SELECT p.name, p.state, p.position = s.position, p.committed_at, p.complete_at IS NOT NULL"
        " FROM ods.positions p JOIN ingestion.streams s USING (source) ORDER BY 1",
    )
    assert [row[:3] for row in rows] == [
        (name, "live", True) for name in ("calls_out", "charged", "last_charge", "unpaid")
    ]
    assert all(row[3] and row[4] for row in rows)


def test_totals_of_a_table_that_is_read_anew(load, postgres: PostgresConnection) -> None:
    source = totals_source("snapshot")
    load(call(1, "a", 7, "2026-03-01", 5), source=source)
    load(call(2, "a", 7, "2026-03-01", 5), "UPDATE calls SET seconds = 6", source=source)
    assert life(postgres, 7) == [(1, 6)]
    state = query(postgres, "SELECT DISTINCT state FROM ods.positions")
    assert state == [("read",)]


def test_a_load_by_cursor_counts_what_it_changes_and_nothing_else(
    load, postgres: PostgresConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a large table, a recount at each load would take longer than the load."""
    table = Table("calls", "", ("id",), "incremental", (), cursor="seconds")
    source = replace(SOURCE, tables=(table,), totals=(CALLS,), latest=())
    load(*(call(n, f"e{n}", 7, "2026-03-01", n) for n in range(1, 50)), source=source)
    recounted, differences = [], TotalTable.differences

    def noted(self: TotalTable, relation: str | None = None) -> str:
        # A check has a relation.
        recounted.extend([] if relation else [self.name])
        return differences(self, relation)

    monkeypatch.setattr(TotalTable, "differences", noted)
    load(call(60, "e1", 7, "2026-03-01", 60), call(0, "e2", 8, "2026-03-02", 61), source=source)
    load(
        "UPDATE calls SET event_id = NULL, seconds = 62 WHERE id = 3",
        "UPDATE calls SET subscriber_id = 8, direction = 'in', seconds = 63 WHERE id = 4",
        "UPDATE calls SET started_at = NULL, event_id = 'e5', seconds = 64 WHERE id = 6",
        "DELETE FROM calls WHERE id IN (1, 5, 9)",
        source=source,
    )
    load(
        "ALTER TABLE calls ADD COLUMN note TEXT",
        "UPDATE calls SET id = 100, seconds = 65, note = 'x' WHERE id = 7",
        source=source,
    )
    load("DELETE FROM calls WHERE id = 0", source=source)
    assert recounted == ["calls_out"], "when a column came, all rows were read"
    assert life(postgres, 7) != []
    # A type that changes is another total. Many changes, and a load of all rows, count all again.
    load("ALTER TABLE calls MODIFY seconds BIGINT", "DELETE FROM calls WHERE id = 8", source=source)
    monkeypatch.setattr("softcart_assets.ingestion.sinks.ods.loads.MANY", 2)
    load("UPDATE calls SET seconds = seconds + 100 WHERE id > 10", source=source)
    load("DELETE FROM calls WHERE id = 10", source=source, full=True)


def test_another_declaration_is_computed_from_raw(load, postgres: PostgresConnection) -> None:
    without = replace(SOURCE, totals=(CHARGES,))
    load(call(1, "a", 7, "2026-03-01", 5), call(2, "a", 7, "2026-03-01", 9), source=without)
    load(call(3, "b", 7, "2026-03-01", 1))
    assert life(postgres, 7) == [(2, 6)]
    all_ways = replace(CALLS, where=(), measures={"seconds": "seconds"}, windows=("life",))
    load_source = replace(SOURCE, totals=(all_ways, CHARGES))
    with pytest.raises(NotBuilt, match=r"calls_out.*softcart load t\.calls"):
        check(postgres, load_source, all_ways)
    load(source=replace(SOURCE, totals=(CHARGES,)))
    assert query(postgres, "SELECT to_regclass('ods.calls_out')") == [(None,)]
    # Of a source that is not declared any more, nothing stays. A build of it was killed.
    with postgres.connect() as connection:
        connection.execute("CREATE TABLE ods._new_charged ()")
        connection.execute("INSERT INTO ods._builds VALUES ('charged')")
        keeping.forget_sources(connection, ["t"])
    assert query(postgres, "SELECT name FROM ods.positions ORDER BY 1") == [
        ("charged",),
        ("last_charge",),
    ]
    with postgres.connect() as connection:
        keeping.forget_sources(connection, ["other"])
    left = (
        "SELECT relname FROM pg_class WHERE relname ~ 'charge' AND relnamespace ="
        " 'ods'::regnamespace UNION ALL SELECT proname FROM pg_proc WHERE proname ~ 'charge' AND"
        " pronamespace = 'ods'::regnamespace UNION ALL SELECT name FROM ods._builds"
        " UNION ALL SELECT name FROM ods.positions"
    )
    assert query(postgres, left) == []


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (
            {"measures": {"seconds": "direction"}},
            "needs an integer or a decimal in the column 'direction'",
        ),
        ({"where": (Where("seconds", "=", "many"),)}, "the total 'calls_out' cannot be computed"),
        ({"at": "gone"}, "read the column 'gone', which the raw table does not have"),
    ],
)
def test_a_total_that_does_not_fit_stops_its_table_only(
    tables: MySQLConnection,
    postgres: PostgresConnection,
    lake: str,
    wrong: dict[str, Any],
    told: str,
) -> None:
    run(tables, call(1, "a", 7, "2026-03-01", 5), charge(1, 7, "1.00", "2026-03-01"))
    load_all(SOURCE, tables, postgres, lake)
    run(tables, charge(2, 7, "1.00", "2026-03-01"))
    source = replace(SOURCE, totals=(replace(CALLS, **wrong), CHARGES))
    with pytest.raises(LoadsFailed, match=told):
        load_all(source, tables, postgres, lake)
    assert life(postgres, 7, "charged") == [("EUR", Decimal("2.00"))]
    # Corrected, it goes on.
    resnapshot(SOURCE, tables, postgres, lake, "calls")
    load_all(SOURCE, tables, postgres, lake)
    assert_exact(tables, postgres, SOURCE)


def test_a_check_finds_what_somebody_has_changed(
    load, tables: MySQLConnection, postgres: PostgresConnection
) -> None:
    load(call(1, "a", 7, "2026-03-01", 5), call(2, "b", 8, "2026-03-01", 5))
    with postgres.connect() as connection:
        connection.execute("UPDATE ods.calls_out SET seconds = 99 WHERE subscriber_id = 7")
        connection.execute("DELETE FROM ods.calls_out WHERE subscriber_id = 8")
    found = check(postgres, SOURCE, CALLS)
    assert found.wrong == 4
    assert len(found.examples) == 4
    assert rebuild(postgres, SOURCE, CALLS) == 4
    assert_exact(tables, postgres, SOURCE)


def test_the_commands_check_and_rebuild(
    load, tables: MySQLConnection, postgres: PostgresConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = Lines([Line("t", "", "team:t", (SOURCE,))])
    monkeypatch.setattr("softcart_assets.assembly.LINES", lines)
    monkeypatch.setattr("softcart_assets.connections.staging", lambda: postgres)
    monkeypatch.setattr(cli.settings, "apply", lambda start: None)

    def softcart(*arguments: str) -> tuple[int, str]:
        result = CliRunner().invoke(cli.app, ["ods", *arguments])
        return result.exit_code, result.output

    load(call(1, "a", 7, "2026-03-01", 5), charge(1, 7, "9.99", "2026-03-01"))
    code, told = softcart("check")
    assert (code, told.count("as raw has it")) == (0, 3)
    with postgres.connect() as connection:
        connection.execute("UPDATE ods.charged SET amount = amount + 0.01 WHERE isfinite(bucket)")
    code, told = softcart("check", "t")
    assert code == 1
    assert "charged: 2 rows at" in told
    assert "1 rows differ from raw" in told
    assert "softcart ods rebuild" in told
    assert softcart("rebuild", "t", "--total", "charged") == (0, "charged: 2 rows\n")
    assert softcart("check")[0] == 0
    assert softcart("rebuild", "t", "--total", "wrong")[0] == 2
    assert_exact(tables, postgres, SOURCE)


def test_the_check_of_the_assets_fails_if_a_total_differs(
    load, postgres: PostgresConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    name_server(monkeypatch, postgres)
    definitions = dg.Definitions(
        assets=list(totals(Line("t", "", "team:t", (SOURCE,)), SOURCE)),
        asset_checks=[total_checks(SOURCE)],
        resources={"staging": PostgresResource(prefix=postgres.prefix)},
        jobs=[dg.define_asset_job("recount", dg.AssetSelection.checks(*recounts([SOURCE])))],
    )

    def checked() -> dict[str, bool]:
        done = definitions.resolve_job_def("recount").execute_in_process()
        return {each.asset_key.path[1]: each.passed for each in done.get_asset_check_evaluations()}

    assert checked() == dict.fromkeys(("calls_out", "charged", "unpaid"), False), "not made yet"
    load(call(1, "a", 7, "2026-03-01", 5))
    assert checked() == dict.fromkeys(("calls_out", "charged", "unpaid"), True)
    with postgres.connect() as connection:
        connection.execute("UPDATE ods.calls_out SET seconds = 99 WHERE subscriber_id = 7")
    assert checked() == {"calls_out": False, "charged": True, "unpaid": True}


# Whatever happens, in any order.

_IDS = st.integers(1, 12)
_SUBSCRIBERS = st.sampled_from(["NULL", "1", "2", "3"])
_TIMES = st.sampled_from(
    ["NULL", "'2026-03-01 10:14:59.999999'", "'2026-03-01 10:15:00'", "'2026-07-31 23:59:59'"]
)
_VALUES = st.tuples(
    st.sampled_from(["NULL", "'a'", "'b'", "'c'"]),
    st.sampled_from(["'in'", "'out'", "NULL"]),
    _SUBSCRIBERS,
    _TIMES,
    st.sampled_from(["NULL", "0", "1", "60"]),
)
_STATEMENTS = st.one_of(
    st.builds(lambda i, v: f"REPLACE INTO calls VALUES ({i}, {', '.join(v)})", _IDS, _VALUES),
    st.builds(lambda i: f"DELETE FROM calls WHERE id = {i}", _IDS),
    st.builds(lambda i, j: f"UPDATE IGNORE calls SET id = {j} WHERE id = {i}", _IDS, _IDS),
    st.builds(
        lambda i, v: f"UPDATE calls SET event_id = {v[0]}, subscriber_id = {v[2]} WHERE id >= {i}",
        _IDS,
        _VALUES,
    ),
    st.builds(
        lambda i, s, a, c: f"REPLACE INTO charges VALUES ({i}, {s}, {a}, {c}, '2026-03-01')",
        _IDS,
        _SUBSCRIBERS,
        st.sampled_from(["NULL", "0.01", "-5", "99.99"]),
        st.sampled_from(["NULL", "'EUR'", "'USD'"]),
    ),
    st.sampled_from(["TRUNCATE calls", "COMMIT", "ROLLBACK", "START TRANSACTION"]),
)


@settings(max_examples=25, suppress_health_check=list(HealthCheck))
@given(batches=st.lists(st.lists(_STATEMENTS, max_size=8), min_size=1, max_size=3))
def test_any_changes_give_what_a_recount_gives(load, batches: list[list[str]]) -> None:
    load("DELETE FROM calls", "DELETE FROM charges")
    for statements in batches:
        load(*statements)


# While the stream runs.


@contextmanager
def traffic(mysql: MySQLConnection, count: int = 2) -> Iterator[None]:
    """Writers that insert, update and delete calls and charges."""
    stopped = threading.Event()

    def write(seed: int) -> None:
        dice = random.Random(seed)
        with mysql.connect() as connection:
            while not stopped.is_set():
                for _ in range(dice.randrange(1, 8)):
                    number = dice.randrange(400) * count + seed
                    month, hour, minute = map(dice.randrange, (1, 0, 0), (9, 10, 60))
                    at = f"2026-0{month}-01 0{hour}:{minute:02}"
                    connection.query(
                        dice.choice(
                            [
                                f"REPLACE INTO calls VALUES ({number}, 'e{dice.randrange(500)}', "
                                f"'out', {dice.randrange(20)}, '{at}', {dice.randrange(99)})",
                                f"REPLACE INTO charges VALUES ({number}, {dice.randrange(20)}, "
                                f"{dice.randrange(99)}.01, 'EUR', '{at}')",
                                f"DELETE FROM calls WHERE id = {number}",
                                f"UPDATE calls SET seconds = seconds + 1 WHERE id = {number}",
                            ]
                        )
                    )
                (connection.rollback if dice.random() < 0.1 else connection.commit)()
                time.sleep(0.002)

    threads = [threading.Thread(target=write, args=(seed,)) for seed in range(count)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stopped.set()
        for thread in threads:
            thread.join()


def position(postgres: PostgresConnection) -> list[tuple[Any, ...]]:
    return query(
        postgres, "SELECT position FROM ods.positions WHERE (name, state) = ('calls_out', 'live')"
    )


def assert_as_raw(postgres: PostgresConnection, source: Source = SOURCE) -> None:
    for total in source.totals:
        found = check(postgres, source, total)
        assert found.wrong == 0, found


def test_totals_are_exact_wherever_the_process_is_killed(
    tables: MySQLConnection, postgres: PostgresConnection, lake: str
) -> None:
    fill(tables, "charges", [(n, n % 20, "9.99", "EUR", None) for n in range(1000, 4000)])
    load_all(SOURCE, tables, postgres, lake, ["charges"])
    dice, seen = random.Random(7), set()
    with traffic(tables):
        for kill in range(6):
            process = multiprocessing.get_context("fork").Process(
                target=stream, args=(SOURCE, tables, postgres, lake)
            )
            began = position(postgres)
            process.start()
            # Every other one has moved before it is killed, however busy the machine is.
            while kill % 2 and position(postgres) in ([], began):
                assert process.is_alive()
                time.sleep(0.05)
            process.join(dice.uniform(0.1, 2))
            assert process.is_alive()
            process.kill()
            process.join()
            if kill:
                assert_as_raw(postgres)
                seen.add(tuple(sorted(kept(postgres, CALLS).items())))
    assert len(seen) > 1, "the totals moved between the kills"
    load_all(SOURCE, tables, postgres, lake)
    assert_exact(tables, postgres, SOURCE)


def test_a_total_is_built_anew_while_the_stream_goes_on(
    tables: MySQLConnection,
    postgres: PostgresConnection,
    lake: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fill(tables, "charges", [(n, n % 20, "9.99", "EUR", None) for n in range(1000, 4000)])
    load_all(SOURCE, tables, postgres, lake)
    with postgres.connect() as connection:
        connection.execute("UPDATE ods.charged SET amount = amount + 1")
        connection.execute("DELETE FROM ods.calls_out")
    stopped, ends = threading.Event(), threading.Event()
    # The recount takes its time, and changes come meanwhile.
    recount = building.TotalTable.recount
    monkeypatch.setattr(
        building.TotalTable,
        "recount",
        lambda self: (
            recount(self)
            .replace("SELECT", "WITH slow AS MATERIALIZED (SELECT pg_sleep(1)) SELECT", 1)
            .replace(" FROM ", " FROM slow, ", 1)
        ),
    )
    rows_seen: list[int] = []

    def read() -> None:
        """A reader always has a whole total."""
        while not ends.wait(0.01):
            rows_seen.append(
                query(postgres, "SELECT count(*) FROM ods.charged WHERE NOT isfinite(bucket)")[0][0]
            )

    follower = threading.Thread(
        target=stream, args=(SOURCE, tables, postgres, lake), kwargs={"stopped": stopped}
    )
    reader = threading.Thread(target=read)
    follower.start()
    reader.start()
    try:
        with traffic(tables):
            time.sleep(1)
            for total in (CHARGES, CALLS, UNPAID):
                rebuild(postgres, SOURCE, total)
            time.sleep(0.5)
    finally:
        ends.set()
        stopped.set()
        follower.join()
        reader.join()
    monkeypatch.undo()
    assert set(rows_seen) == {20}
    assert_as_raw(postgres)
    load_all(SOURCE, tables, postgres, lake)
    assert_exact(tables, postgres, SOURCE)


def test_a_build_begins_again_if_a_load_states_the_table(
    load,
    tables: MySQLConnection,
    postgres: PostgresConnection,
    lake: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    load(call(1, "a", 7, "2026-03-01", 5))
    recount, told = building.TotalTable.recount, []

    def read_again_meanwhile(self: building.TotalTable) -> str:
        if not told:
            told.append("the table is read again")
            # The log does not have it. So the table is not what it was before it is read again.
            run(tables, "SET SESSION sql_log_bin = 0", call(2, "b", 7, "2026-03-01", 6))
            load_all(SOURCE, tables, postgres, lake, full=True)
        return recount(self)

    monkeypatch.setattr(building.TotalTable, "recount", read_again_meanwhile)
    rebuild(postgres, SOURCE, CALLS, tell=told.append)
    assert [each.partition(".")[0] for each in told[1:]] == ["A load has changed raw as a whole"]
    assert life(postgres, 7) == [(2, 11)]
    assert_exact(tables, postgres, SOURCE)


def test_a_build_that_was_killed_leaves_nothing_behind(
    load, tables: MySQLConnection, postgres: PostgresConnection
) -> None:
    load(call(1, "a", 7, "2026-03-01", 5))
    with postgres.connect() as connection:
        table = building._table(connection, SOURCE, CALLS)
        connection.execute(table.create(table.later, keyed=False))  # type: ignore[arg-type]
        connection.execute("INSERT INTO ods._builds VALUES ('calls_out')")
    load(call(2, "b", 7, "2026-03-01", 5))
    assert query(postgres, "SELECT count(*) FROM ods._builds") == [(0,)]
    assert query(postgres, "SELECT to_regclass('ods._later_calls_out')") == [(None,)]


def test_life_is_no_window_of_time(load, postgres: PostgresConnection) -> None:
    load(call(1, "a", 7, "2026-03-01", 5))
    assert (7, LIFE) in kept(postgres, CALLS)
    everything = query(postgres, "SELECT * FROM ods.calls_out_between(7, '-infinity', 'infinity')")
    assert everything == [(1, 5)]
