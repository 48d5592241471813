"""The traffic of the mobile operator on real servers: its invariants hold while several threads
write, and what it seeds loads without a warning.
"""

from __future__ import annotations

import csv
import gzip
import io
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest
from rich.console import Console
from support.databases import mysql_database
from support.ingestion import load_all

from seed_data.common.folder import MARKS
from seed_data.common.model import SeedError
from seed_data.common.seeding import seed
from seed_data.common.simulation import simulate
from seed_data.common.traffic import NothingToDo, SimulationError
from seed_data.telecom import shares
from seed_data.telecom.traffic import OPERATIONS, TelecomTraffic
from softcart_assets.assembly import LINES
from softcart_assets.audits import raw
from softcart_assets.connections import MySQLConnection, PostgresConnection
from softcart_assets.demo import show_totals
from softcart_assets.ingestion.sinks.ods.keeping import totals_of
from softcart_assets.ingestion.sinks.ods.rebuild import check
from softcart_assets.stack import Stack
from softcart_assets.stores import FolderConnection
from spark.totals import compare, counted, prepared, start

TELECOM = LINES.line("telecom")
SOURCES = {source.name: source for source in TELECOM.sources}

BROKEN = {
    "a balance is top-ups less charges": (
        "charging",
        """SELECT b.subscriber_id FROM balances b
        LEFT JOIN (SELECT subscriber_id, SUM(amount) s FROM top_ups GROUP BY 1) t
          USING (subscriber_id)
        LEFT JOIN (SELECT subscriber_id, SUM(amount) s FROM charges GROUP BY 1) c
          USING (subscriber_id)
        WHERE b.amount <> COALESCE(t.s, 0) - COALESCE(c.s, 0) OR b.amount < 0""",
    ),
    "a correction is a reversal and a new charge": (
        "charging",
        """SELECT o.id FROM charges o JOIN charges r ON r.reverses_id = o.id
        GROUP BY o.id HAVING COUNT(*) <> 2 OR SUM(r.quantity) <> 0
          OR MIN(r.amount) <> -MAX(o.amount)""",
    ),
    "payments are what the invoices say": (
        "billing",
        """SELECT i.id FROM invoices i JOIN payments p ON p.invoice_id = i.id
        LEFT JOIN (SELECT invoice_id, SUM(amount) s FROM adjustments GROUP BY 1) a
          ON a.invoice_id = i.id
        WHERE i.state <> 'paid' OR p.amount < i.total_amount + COALESCE(a.s, 0)""",
    ),
    "two who are not cancelled have no number in common": (
        "crm",
        "SELECT msisdn FROM subscribers WHERE state <> 'cancelled' GROUP BY 1 HAVING COUNT(*) > 1",
    ),
    "a subscriber has the plan of the last subscription": (
        "crm",
        """SELECT s.id FROM subscribers s JOIN subscriptions p ON p.subscriber_id = s.id
        WHERE p.ended_at IS NULL AND p.plan_id <> s.plan_id""",
    ),
    "complaints have their interaction": (
        "crm",
        "SELECT id FROM complaints WHERE interaction_id NOT IN (SELECT id FROM interactions)",
    ),
}
"""Queries that find the rows which break an invariant, by source."""


@pytest.fixture(scope="module")
def servers(
    spark, stack: Stack, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, MySQLConnection]]:
    """The sources, seeded once, each in a database of its own or in a folder. Each test adds
    traffic.
    """
    found = {}
    with (
        mysql_database(MySQLConnection.from_env("SOFTCART_TEST_MYSQL")) as mysql,
        closing(mysql.connect()) as admin,
        pytest.MonkeyPatch.context() as monkeypatch,
    ):
        for source in TELECOM.sources:
            if source.kind == "files":
                folder = tmp_path_factory.mktemp(source.name)
                monkeypatch.setenv(f"{source.env_prefix}_URI", folder.as_uri())
                continue
            found[source.name] = replace(mysql, database=f"{mysql.database}_{source.name}")
            admin.query(f"CREATE DATABASE {found[source.name].database} CHARACTER SET utf8mb4")
            monkeypatch.setenv(f"{source.env_prefix}_DATABASE", found[source.name].database)
            for name in ("HOST", "PORT", "USER", "PASSWORD"):
                value = getattr(mysql, name.lower())
                monkeypatch.setenv(f"{source.env_prefix}_{name}", str(value))
        try:
            with pytest.raises(SimulationError, match="no subscribers"):
                TelecomTraffic(SOURCES)
            seed([TELECOM], scale=0.03, seed=2, spark=spark)
            yield found
        finally:
            for server in found.values():
                admin.query(f"DROP DATABASE {server.database}")


def _rows(server: MySQLConnection, query: str) -> list[tuple]:
    with server.connect() as connection, connection.cursor() as cursor:
        cursor.execute(query)
        return list(cursor.fetchall())


def test_traffic_keeps_the_invariants(servers: dict[str, MySQLConnection]) -> None:
    for what, (source, query) in BROKEN.items():
        assert not _rows(servers[source], query), what

    [[last_charge]] = _rows(servers["charging"], "SELECT MAX(id) FROM charges")
    # Three threads, and every kind of operation often enough.
    counts = simulate([TELECOM], rate=2_500, duration=4, seed=3)
    assert counts.keys() <= OPERATIONS.keys()
    for operation in OPERATIONS.keys() - counts.keys():
        with closing(TelecomTraffic(SOURCES, seed=4)) as traffic:
            done: Counter[str] = Counter()
            for _ in range(50):
                done.update(traffic.perform([operation]))
            assert done[operation], operation
    for what, (source, query) in BROKEN.items():
        assert not _rows(servers[source], query), what

    [[records, events, late]] = _rows(
        servers["signaling"],
        "SELECT COUNT(*), COUNT(DISTINCT event_id, direction), "
        "SUM(recorded_at > started_at + INTERVAL duration_seconds SECOND + INTERVAL 2 HOUR) "
        "FROM call_records",
    )
    assert abs((records - events) / events - shares.RECORD_DUPLICATE) < 0.004
    assert abs(float(late) / records - shares.RECORD_LATE) < 0.01
    [[charged, corrected]] = _rows(
        servers["charging"],
        "SELECT SUM(reverses_id IS NULL AND amount > 0), SUM(amount < 0) FROM charges "
        f"WHERE id > {last_charge}",
    )
    assert abs(corrected / charged - Decimal(shares.CHARGE_CORRECTED)) < Decimal("0.003")


def test_a_transaction_that_is_undone_leaves_nothing_behind(
    servers: dict[str, MySQLConnection],
) -> None:
    """Neither at the sources nor in what the threads know."""
    with closing(TelecomTraffic(SOURCES, seed=1)) as traffic:
        before = _rows(servers["crm"], "SELECT COUNT(*), MAX(id) FROM subscribers")
        desk = traffic._desk
        known = list(desk.subscribers)
        for operation in ("new_subscriber", "call", "top_up", "plan_change", "cancellation"):
            with suppress(NothingToDo):
                OPERATIONS[operation][1](desk)
        traffic.close()
        traffic.connect()
        assert desk.subscribers == known
        assert not desk.rows
        assert not desk.spent
        assert _rows(servers["crm"], "SELECT COUNT(*), MAX(id) FROM subscribers") == before
        other = traffic.another()
        with closing(other):
            assert other.perform(["call"] * 5) == ["call"] * 5
            traffic.perform(["new_subscriber"])
            assert len(other._desk.subscribers) == len(known) + 1


def test_threads_write_at_once(servers: dict[str, MySQLConnection]) -> None:
    """Their balances meet, and no thread waits for another for ever."""
    with closing(TelecomTraffic(SOURCES, seed=1)) as traffic:
        others = [traffic.another() for _ in range(3)]
        failures: list[Exception] = []

        def work(each: TelecomTraffic) -> None:
            try:
                for _ in range(30):
                    each.perform(["call", "sms", "data_session", "top_up", "correction"] * 4)
            except Exception as failure:
                failures.append(failure)

        threads = [threading.Thread(target=work, args=(each,)) for each in others]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for each in others:
            each.close()
    assert not failures
    source, query = BROKEN["a balance is top-ups less charges"]
    assert not _rows(servers[source], query)


def _once(name: str) -> str:
    """One name for a file that came twice."""
    return name.replace("_again", "")


def _said(folder: Path) -> tuple[dict[tuple[str, str], list[str]], Counter[str]]:
    """What the files say: each record once, and the broken lines of each file.

    It reads them with Python's csv. Of a file, the highest version counts, and a content once.
    """
    latest: dict[str, tuple[int, Path]] = {}
    for path in folder.rglob("*.csv*"):
        if path.suffix != ".done":
            name = path.relative_to(folder).as_posix()
            sequence, _, version = name.partition(".")[0].partition("_v")
            known = latest.get(sequence, (-1, path))
            latest[sequence] = max(known, (int(version or 0), path))
    contents = {path.read_bytes(): path for _, path in latest.values()}
    records: dict[tuple[str, str], list[str]] = {}
    broken: Counter[str] = Counter()
    for data, path in contents.items():
        text = gzip.decompress(data) if path.suffix == ".gz" else data
        for fields in list(csv.reader(text.decode().splitlines()))[1:]:
            if len(fields) != 11 or fields[8] == "n/a":
                broken[_once(path.relative_to(folder).as_posix())] += 1
                continue
            found = records.setdefault((fields[0], fields[1]), fields)
            assert found == fields
    return records, broken


def test_files_about_roaming_count_to_the_cent(
    spark, servers: dict[str, MySQLConnection], postgres: PostgresConnection, lake: str
) -> None:
    """What the files say is in raw, less the broken lines, which are in quarantine with reasons."""
    source = SOURCES["roaming"]
    connection = FolderConnection.from_env(source.env_prefix)
    folder = Path(connection.uri.removeprefix("file://"))

    def assert_exact() -> Counter[str]:
        [result] = load_all(source, connection, postgres, lake).values()
        assert not result.warnings
        records, broken = _said(folder)
        sums: dict[tuple[str, str], Decimal] = {}
        for operator, *_, kind, _, _, _, amount, _, _ in records.values():
            sums[operator, kind] = sums.get((operator, kind), Decimal(0)) + Decimal(amount)
        kept = _read(
            postgres,
            "SELECT operator, kind, sum(amount), count(*) FROM raw_roaming.records"
            " WHERE NOT _deleted GROUP BY 1, 2",
        )
        assert {(operator, kind): amount for operator, kind, amount, _ in kept} == sums
        assert sum(count for *_, count in kept) == len(records)
        entries = _read(
            postgres,
            "SELECT row ->> 'file', reason FROM ingestion.quarantine WHERE closed_at IS NULL",
        )
        assert Counter(_once(file) for file, _ in entries) == broken
        assert all(reason.startswith(f"{file}, line ") for file, reason in entries)
        assert raw.equals_source(postgres, source, source.table("records")).passed
        return broken

    seed([TELECOM], scale=0.1, seed=2, spark=spark, tables=["roaming.records"])
    assert assert_exact()
    with closing(TelecomTraffic(SOURCES, seed=1)) as traffic:
        for _ in range(150):
            traffic.perform(["roaming_file"])
    states = Counter(path.name[path.name.rfind("_") :][:3] for path in folder.rglob("*_*"))
    assert states["_v2"]
    assert_exact()
    # Another seed replaces the files, and what is not in the new ones goes.
    seed([TELECOM], scale=0.02, seed=3, spark=spark, tables=["roaming.records"])
    assert_exact()
    marks = (folder / MARKS).rename(folder.parent / MARKS)
    with pytest.raises(SeedError, match="holds files"):
        seed([TELECOM], scale=0.02, seed=3, spark=spark, tables=["roaming.records"])
    marks.rename(folder / MARKS)


_FIRST = "SELECT MIN(id) AS id FROM {} GROUP BY {}"
RECOUNTS = {
    "calls_out": (
        "signaling",
        "SELECT subscriber_id, COUNT(*), SUM(duration_seconds) FROM call_records JOIN ("
        f"{_FIRST.format('call_records', 'event_id, direction')}) f USING (id)"
        " WHERE direction = 'out' GROUP BY 1",
    ),
    "sms_out": (
        "signaling",
        "SELECT subscriber_id, COUNT(*), SUM(parts) FROM sms_records JOIN ("
        f"{_FIRST.format('sms_records', 'event_id, direction')}) f USING (id)"
        " WHERE direction = 'out' GROUP BY 1",
    ),
    "data_used": (
        "signaling",
        "SELECT subscriber_id, COUNT(*), SUM(megabytes) FROM data_sessions JOIN ("
        f"{_FIRST.format('data_sessions', 'event_id')}) f USING (id) GROUP BY 1",
    ),
    "charged": (
        "charging",
        "SELECT subscriber_id, currency, COUNT(*), SUM(amount) FROM charges GROUP BY 1, 2",
    ),
    "unpaid": (
        "billing",
        "SELECT account_id, currency, COUNT(*), SUM(total_amount) FROM invoices"
        " WHERE state IN ('open', 'overdue') GROUP BY 1, 2",
    ),
    "open_complaints": (
        "crm",
        "SELECT subscriber_id, COUNT(*) FROM complaints WHERE state = 'open' GROUP BY 1",
    ),
}
"""The totals of all time as the sources count them themselves."""


def test_running_totals_follow_the_traffic(
    spark, servers: dict[str, MySQLConnection], postgres: PostgresConnection, lake: str
) -> None:
    """In the operational data store, and by Spark from the lake."""
    totals = {each.name: each for source in TELECOM.sources for each in source.totals}
    assert totals.keys() == RECOUNTS.keys()

    def assert_exact() -> None:
        for name, server in servers.items():
            load_all(SOURCES[name], server, postgres, lake)
        for name, (source, query) in RECOUNTS.items():
            total = totals[name]
            columns = [total.key, *([total.by] if total.by else []), *total.measures]
            kept = _read(
                postgres,
                f"SELECT {', '.join(columns)} FROM ods.{name}"
                " WHERE bucket = '-infinity' AND _rows > 0",
            )
            assert sorted(kept) == sorted(_rows(servers[source], query)), name
            assert check(postgres, SOURCES[source], total).wrong == 0

    assert_exact()
    simulate([TELECOM], rate=1_000, duration=3, seed=3)
    assert_exact()
    assert [row[0] for row in _read(postgres, "SELECT amount FROM ods.last_top_up(1)")] == [
        row[0]
        for row in _rows(
            servers["charging"],
            "SELECT amount FROM top_ups WHERE subscriber_id = 1"
            " ORDER BY topped_up_at DESC, id DESC LIMIT 1",
        )
    ]
    shown = Console(record=True, width=120, file=io.StringIO())
    assert show_totals(shown, postgres, TELECOM.sources) == []
    assert "calls_out" in shown.export_text()

    session, counted_rows = prepared(spark), 0
    for name in servers:
        source = SOURCES[name]
        with postgres.connect() as connection:
            tables = counted(connection, source, lake)
        for table in tables:
            start(session, postgres, table, None).awaitTermination()
            with postgres.connect() as connection:
                for total in totals_of(connection, source, table.table):
                    # All invoices may be paid by now.
                    kept = _read(postgres, f"SELECT 1 FROM {total.relation} WHERE _rows <> 0")
                    assert compare(connection, total) == (len(kept), 0), total.name
                    counted_rows += len(kept)
    assert counted_rows > 1_000


def _read(postgres: PostgresConnection, query: str) -> list[tuple]:
    with postgres.connect() as connection:
        return connection.execute(query.encode()).fetchall()
