"""The audits of raw tables at their limits; that each is wired to its table is tested with the
whole project.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import dagster as dg
import pytest
from support.ingestion import fill, load_all, query, run, source_of

from softcart_assets.audits import raw
from softcart_assets.components.raw_checks import raw_table_checks
from softcart_assets.connections import PostgresConnection
from softcart_assets.lines.model import Source, Table

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


def test_an_open_question_warns_and_names_its_state(loaded):
    """A check that fails with an error keeps what follows from being built. A warning does not."""

    class Staging:
        def connection(self) -> PostgresConnection:
            return loaded[0]

    definitions = dg.Definitions(
        asset_checks=[raw_table_checks(SOURCE)], resources={"staging": Staging()}
    )

    def run_check() -> dg.AssetCheckEvaluation:
        job = definitions.resolve_implicit_global_asset_job_def()
        result = job.execute_in_process(raise_on_error=False)
        [found] = [
            each
            for each in result.get_asset_check_evaluations()
            if each.check_name == raw.equals_source.__name__
        ]
        return found

    assert run_check().passed
    _execute(loaded, "UPDATE ingestion.statements SET asked_at = asked_at - interval '27 hours'")
    late = run_check()
    assert not late.passed
    assert late.severity is dg.AssetCheckSeverity.WARN
    assert late.description == "not asked within its interval"
    assert late.metadata["source asked at position"].value.startswith(("binlog", "mysql"))
    _execute(loaded, "UPDATE raw_t.sales SET amount = 0")
    assert run_check().severity is dg.AssetCheckSeverity.ERROR


@pytest.mark.parametrize(("rows", "allowed", "passed"), [
    (1, "0.01", False), (1, "0.05", True), (2, "0.05", False), (20, "1", True), (0, "0", True),
])  # fmt: skip
def test_the_quarantine_is_small(mysql, postgres, lake, rows, allowed, passed):
    """transferwise/pipelinewise-tap-mysql#136: one of a hundred rows arrived, and all was green."""
    table = Table("t", "", ("id",), "snapshot", (), max_quarantined=Decimal(allowed))
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
