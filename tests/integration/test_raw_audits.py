"""The audits of raw tables at their limits; that each is wired to its table is tested with the
whole project.
"""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from threading import Barrier

import dagster as dg
import pytest
from support.ingestion import fill, load_all, query, run, source_of

from softcart_assets.audits import raw
from softcart_assets.audits.model import AuditResult
from softcart_assets.components.keys import raw_key
from softcart_assets.components.raw_checks import BLOCKING, SOURCE_ASKED, raw_table_checks
from softcart_assets.connections import PostgresConnection
from softcart_assets.lines.model import Limit, Source, Table

ROWS = 20
TODAY = datetime(2026, 3, 10, 12, tzinfo=UTC)
SALES = Table("sales", "", ("id",), "incremental", (), cursor="updated_at", daily="sold_at")
SOURCE = source_of(SALES)
Raw = tuple[PostgresConnection, Source, Table]


@pytest.fixture
def loaded(mysql, postgres, lake) -> Raw:
    """Twenty sales, all of the ninth of March 2026, loaded once."""
    run(
        mysql,
        "CREATE TABLE sales (id INT PRIMARY KEY, amount DECIMAL(8,2), sold_at DATETIME(6), "
        "updated_at DATETIME(6))",
    )
    fill(
        mysql,
        "sales",
        [(number, "9.99", "2026-03-09 23:59:59", "2026-03-10") for number in range(ROWS)],
    )
    load_all(SOURCE, mysql, postgres, lake)
    return postgres, SOURCE, SALES


def _execute(loaded: Raw, statement: str) -> None:
    with loaded[0].connect() as session:
        session.execute(statement.encode())


@pytest.mark.parametrize(
    ("change", "differing"),
    [
        ("SELECT 1", None),
        ("UPDATE raw_t.sales SET amount = amount + 0.01 WHERE id = 7", ["amount"]),
        (
            "UPDATE raw_t.sales SET _deleted = true WHERE id = 7",
            ["id", "amount", "sold_at", "updated_at"],
        ),
        ("UPDATE raw_t.sales SET amount = NULL WHERE id = 7", ["amount"]),
    ],
)
def test_equals_source_names_the_columns_that_differ(loaded, change, differing):
    _execute(loaded, change)
    result = raw.equals_source(*loaded)
    assert result.passed == (differing is None)
    assert result.details["differing columns"] == (differing or [])
    assert result.details["rows at the source"] == ROWS


@pytest.mark.parametrize(
    ("before", "passed"),
    [
        ([], True),  # nothing is usual yet
        ([25], True),
        ([26], False),  # more than a fifth lost
        ([2], True),
        ([1], False),  # more than tenfold
        ([20, 20, 1000], True),  # one odd load does not decide
        ([0], True),
    ],
)
def test_volume_is_measured_by_the_median_of_the_last_loads(loaded, before, passed):
    _execute(
        loaded,
        f"""
        WITH load AS (DELETE FROM ingestion.loads RETURNING *)
        INSERT INTO ingestion.loads OVERRIDING SYSTEM VALUE
        SELECT (jsonb_populate_record(
            NULL::ingestion.loads, to_jsonb(load) || jsonb_build_object('load_id', before.number,
              'rows_total', rows))).*
        FROM load, unnest(ARRAY{before}::bigint[]) WITH ORDINALITY AS before (rows, number)
        """,
    )
    assert raw.volume_plausible(*loaded).passed == passed


def test_loads_of_long_ago_are_not_usual_any_more(loaded):
    _execute(
        loaded,
        f"""
        INSERT INTO ingestion.loads OVERRIDING SYSTEM VALUE
        SELECT (jsonb_populate_record(l, jsonb_build_object(
            'load_id', n, 'rows_total', 1000, 'number', number - n,
            'loaded_at', loaded_at - n * interval '1 day'))).*
        FROM ingestion.loads l, generate_series(1, {raw.LOADS_OF_HISTORY}) n
        """,
    )
    assert not raw.volume_plausible(*loaded).passed
    _execute(
        loaded,
        f"UPDATE ingestion.loads SET rows_total = {ROWS} WHERE loaded_at > now() - interval '11 "
        "days'",
    )
    assert raw.volume_plausible(*loaded).passed


def test_fresh_until_its_age_is_reached(loaded):
    [(loaded_at,)] = query(loaded[0], "SELECT loaded_at FROM ingestion.loads")
    assert raw.fresh(*loaded).passed
    assert raw.fresh(*loaded, now=loaded_at + raw.MAX_AGE).passed
    assert not raw.fresh(*loaded, now=loaded_at + raw.MAX_AGE + timedelta(microseconds=1)).passed


def test_a_load_of_a_clock_that_ran_ahead_is_not_fresh(loaded):
    [(loaded_at,)] = query(loaded[0], "SELECT loaded_at FROM ingestion.loads")
    assert raw.fresh(*loaded, now=loaded_at - raw.CLOCK_TOLERANCE).passed
    assert not raw.fresh(*loaded, now=loaded_at - timedelta(hours=1)).passed


def test_a_table_that_was_never_loaded_is_not_fresh(loaded):
    _execute(loaded, "DELETE FROM ingestion.loads")
    result = raw.fresh(*loaded)
    assert not result.passed
    assert result.details["loaded at"] == "never"


@pytest.mark.parametrize(
    ("change", "passed"),
    [
        ("SELECT 1", True),
        # Neither the day that is not over yet counts, nor the one before, nor rows that were
        # deleted.
        ("UPDATE raw_t.sales SET sold_at = '2026-03-10 00:00'", False),
        ("UPDATE raw_t.sales SET sold_at = '2026-03-08 23:59:59.999999'", False),
        ("UPDATE raw_t.sales SET _deleted = true", False),
        ("DELETE FROM raw_t.sales WHERE id > 0", True),
        ("DELETE FROM raw_t.sales", False),
    ],
)
def test_the_latest_day_that_is_over_has_rows(loaded, change, passed):
    _execute(loaded, change)
    result = raw.latest_day_present(*loaded, now=TODAY)
    assert result.passed == passed
    assert result.details["expected day"] == "2026-03-09"


def test_two_tables_are_checked_at_the_same_time(mysql, postgres, lake, monkeypatch):
    source = source_of(*(Table(name, "", ("id",), "snapshot", ()) for name in ("a", "b")))
    for table in source.tables:
        run(mysql, f"CREATE TABLE {table.name} (id INT PRIMARY KEY)")
    load_all(source, mysql, postgres, lake)
    both = Barrier(2)

    def fresh(_: PostgresConnection, __: Source, table: Table) -> AuditResult:
        both.wait(60)
        return AuditResult("fresh", table.name, True, {})

    class Staging:
        def connection(self) -> PostgresConnection:
            return postgres

    monkeypatch.setattr(raw, "fresh", fresh)
    definitions = dg.Definitions(
        asset_checks=[raw_table_checks(source)], resources={"staging": Staging()}
    )
    result = definitions.resolve_implicit_global_asset_job_def().execute_in_process()
    checked = [each for each in result.get_asset_check_evaluations() if each.check_name == "fresh"]
    assert [each.asset_key for each in checked] == [raw_key(source, t) for t in source.tables]


def test_an_open_question_warns_and_blocks_nothing(loaded):
    """Automation takes a blocking check that only warns for a failed one. So the question whether
    `equals_source` could tell is a check of its own.
    """

    class Staging:
        def connection(self) -> PostgresConnection:
            return loaded[0]

    definitions = dg.Definitions(
        asset_checks=[raw_table_checks(SOURCE)], resources={"staging": Staging()}
    )

    def run_checks() -> tuple[dg.AssetCheckEvaluation, dg.AssetCheckEvaluation]:
        job = definitions.resolve_implicit_global_asset_job_def()
        result = job.execute_in_process(raise_on_error=False)
        found = {each.check_name: each for each in result.get_asset_check_evaluations()}
        return found[raw.equals_source.__name__], found[SOURCE_ASKED]

    equal, asked = run_checks()
    assert equal.passed
    assert asked.passed
    _execute(loaded, "UPDATE ingestion.statements SET asked_at = asked_at - interval '27 hours'")
    equal, asked = run_checks()
    assert equal.passed
    assert not asked.passed
    assert asked.severity is dg.AssetCheckSeverity.WARN
    assert asked.description == equal.description == "not asked within its interval"
    assert asked.metadata["source asked at position"].value.startswith(("binlog", "mysql"))
    _execute(loaded, "UPDATE raw_t.sales SET amount = 0")
    equal, asked = run_checks()
    assert not equal.passed
    assert equal.severity is dg.AssetCheckSeverity.ERROR
    assert not asked.passed


@pytest.mark.parametrize(("rows", "allowed", "passed"), [
    (1, "0.01", False), (1, "0.05", True), (2, "0.05", False), (20, "1", True), (0, "0", True),
])  # fmt: skip
def test_the_quarantine_is_small(mysql, postgres, lake, rows, allowed, passed):
    """transferwise/pipelinewise-tap-mysql#136: one of a hundred rows arrived, and all was green."""
    table = Table("t", "", ("id",), "snapshot", (), max_quarantined=Limit(Decimal(allowed), "Why."))
    source = source_of(table)
    run(
        mysql,
        "SET sql_mode = ''",
        "CREATE TABLE t (id INT PRIMARY KEY, d DATE NOT NULL)",
        f"INSERT INTO t SELECT seq, IF(seq <= {rows}, '0000-00-00', '2026-01-01') FROM seq_1_to_20",
    )
    load_all(source, mysql, postgres, lake)
    result = raw.quarantine_small(postgres, source, table)
    assert result.passed == passed
    assert result.details["rows in quarantine"] == rows
    assert len(result.details["reasons"]) == (1 if rows else 0)


def test_a_limit_of_a_raw_table_says_where_it_is_declared_and_another_lets_the_table_pass(loaded):
    """GSA/site-scanning#1920: stale rows were removed on purpose, and a limit stopped all."""
    staging, _, table = loaded
    _execute(loaded, "UPDATE raw_t.sales SET _deleted = true WHERE id >= 10")
    result = raw.volume_plausible(*loaded)
    assert not result.passed
    assert (result.details["rows"], result.details["allowed"]) == (10, "from 16 to 200")
    assert re.match(
        r"0\.2: A source that loses .* declared at tests/integration/test_raw_audits\.py:\d+\.$",
        str(result.details["max_drop"]),
    )
    purged = replace(table, max_drop=Limit(Decimal("0.5"), "Old sales are purged in spring."))
    result = raw.volume_plausible(staging, source_of(purged), purged)
    assert result.passed
    assert "0.5: Old sales are purged in spring." in str(result.details["max_drop"])
    few = replace(table, max_growth=Limit(Decimal("0.1"), "Sales never grow."))
    result = raw.volume_plausible(staging, source_of(few), few)
    assert not result.passed
    assert "0.1: Sales never grow. It is declared at tests/" in str(result.details["max_growth"])


def test_the_quarantine_says_where_its_limit_is_declared(loaded):
    result = raw.quarantine_small(*loaded)
    assert re.match(
        r"0\.01: Rows in quarantine .* declared at tests/integration/test_raw_audits\.py:\d+\.$",
        str(result.details["max_quarantined"]),
    )


@pytest.mark.parametrize(
    ("check", "usual", "before", "after"),
    [
        (
            "volume_plausible",
            40,
            {},
            {"max_drop": Limit(Decimal("0.6"), "Old sales were purged.")},
        ),
        (
            "volume_plausible",
            1,
            {},
            {"max_growth": Limit(Decimal(20), "A second till was opened.")},
        ),
        (
            "quarantine_small",
            19,
            {"max_quarantined": Limit(Decimal("0.01"), "Each sale counts.")},
            {"max_quarantined": Limit(Decimal("0.05"), "The old till knows no dates.")},
        ),
    ],
)
def test_a_person_goes_on_with_another_limit_in_the_declaration(
    mysql, postgres, lake, check: str, usual: int, before: dict, after: dict
) -> None:
    """A limit of a raw table holds what follows. The declaration keeps the reason to go on."""
    some = Limit(Decimal("0.1"), "Some sales have no date.")
    table = Table("t", "", ("id",), "snapshot", (), max_quarantined=some)
    run(
        mysql,
        "SET sql_mode = ''",
        "CREATE TABLE t (id INT PRIMARY KEY, d DATE NOT NULL)",
        "INSERT INTO t SELECT seq, IF(seq = 1, '0000-00-00', '2026-01-01') FROM seq_1_to_20",
    )
    load_all(source_of(table), mysql, postgres, lake)
    query(postgres, "UPDATE ingestion.loads SET rows_total = %s RETURNING 1", usual)

    class Staging:
        def connection(self) -> PostgresConnection:
            return postgres

    def run_all(declared: Table) -> tuple[set[str], set[str]]:
        """The blocking checks that failed, and what was made."""
        source = source_of(declared)

        @dg.asset(key=raw_key(source, declared))
        def load() -> None:
            """Stands for another load, which finds nothing new."""

        @dg.asset(deps=[load])
        def follower() -> None:
            """What is made from the raw table."""

        job = dg.Definitions(
            [load, follower],
            asset_checks=[raw_table_checks(source)],
            resources={"staging": Staging()},
        ).resolve_implicit_global_asset_job_def()
        with dg.DagsterInstance.ephemeral() as instance:
            result = job.execute_in_process(instance=instance, raise_on_error=False)
        made = {event.asset_key.path[-1] for event in result.get_asset_materialization_events()}
        results = result.get_asset_check_evaluations()
        failed = {each.check_name for each in results if not each.passed}
        return failed & {audit.__name__ for audit in BLOCKING}, made

    assert run_all(replace(table, **before)) == ({check}, {"t"})
    assert run_all(replace(table, **after)) == (set(), {"t", "follower"})
