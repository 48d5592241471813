"""What a source reports about itself, from its own database: files, page, moment, assets."""

from __future__ import annotations

import csv
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import dagster as dg
import pyarrow.parquet as pq
import pytest
from support.crm import create_crm, execute
from support.databases import name_server
from support.pages import opened, pictured

from softcart_assets.assembly import LINES
from softcart_assets.components.own_reports import report_page, reports
from softcart_assets.connections import MySQLConnection
from softcart_assets.extracts.own import write_reports
from softcart_assets.extracts.totals import differing
from softcart_assets.ingestion.connectors import connector
from softcart_assets.ingestion.errors import SourceRefused
from softcart_assets.lines.telecom.own_reports import CRM_PAGE, REPORTS
from softcart_assets.lines.telecom.sources import CRM
from softcart_assets.pages.kit import cube
from softcart_assets.pages.kit.database import of_source
from softcart_assets.pages.kit.render import build_page_from
from softcart_assets.resources import OutputResource, SourceResource

MYSQL = connector(CRM.kind)


@pytest.fixture
def crm(any_mysql: MySQLConnection) -> MySQLConnection:
    create_crm(any_mysql)
    return any_mysql


def test_reports_have_the_sums_of_the_source(crm: MySQLConnection, tmp_path: Path) -> None:
    with MYSQL.moment(CRM, crm) as moment:
        written = write_reports(moment, tmp_path, REPORTS)
    rows = {name: pq.read_table(report.parquet).to_pylist() for name, report in written.items()}
    assert [differing(report.figures) for report in written.values()] == [[]] * len(REPORTS)
    sales = {tuple(row.values()) for row in rows["crm_sales_daily"]}
    assert sales == {
        (date(2025, 12, 31), "P1", '=1+1; "Small"', "store", "EUR", 2, Decimal("10.11")),
        (date(2026, 1, 1), "Q1", "Prepaid", "online", "USD", 1, Decimal("5.00")),
        # Nobody knows the plan.
        (date(2026, 1, 5), None, None, "phone", "EUR", 1, Decimal("7.77")),
    }
    assert [tuple(row.values()) for row in rows["crm_plan_changes_monthly"]] == [
        ("2025-12", "P1", "P2", 1, 1)
    ]
    assert {tuple(row.values()) for row in rows["crm_open_complaints"]} == {
        ("network", 2, "service", 2, date(2026, 1, 2)),
        ("network", None, None, 1, date(2026, 2, 1)),
    }
    assert {tuple(row.values()) for row in rows["crm_agents_monthly"]} == {
        ("2026-01", 2, "service", 2, 120, 1, 3),
        ("2026-02", None, None, 1, 5, 0, 1),
    }


def test_the_csv_of_a_report_is_like_that_of_an_extract(
    crm: MySQLConnection, tmp_path: Path
) -> None:
    with MYSQL.moment(CRM, crm) as moment:
        report = write_reports(moment, tmp_path, REPORTS[:1])["crm_sales_daily"]
    text = report.csv.read_text(encoding="utf-8-sig")
    first, *rows = csv.reader(text.splitlines())
    assert first == list(REPORTS[0].columns)
    # It begins like a formula, and what follows the semicolon could be a cell of its own.
    assert "'=1+1;' \"Small\"" in {row[2] for row in rows}
    # An unknown plan is no empty text.
    assert '2026-01-05,,,"phone"' in text
    assert '"crm_sales_daily"' in (tmp_path / "datapackage.json").read_text()


def test_a_report_of_nothing_is_a_file_with_columns(
    any_mysql: MySQLConnection, tmp_path: Path
) -> None:
    create_crm(any_mysql, rows=False)
    with MYSQL.moment(CRM, any_mysql) as moment:
        written = write_reports(moment, tmp_path, REPORTS)
    for report in REPORTS:
        found = pq.read_table(written[report.name].parquet)
        assert (found.num_rows, found.column_names) == (0, list(report.columns))
    content = cube.read_from(of_source(MYSQL.moment(CRM, any_mysql)), CRM_PAGE)
    assert content.totals == {}


def test_a_page_has_the_sums_of_the_source(crm: MySQLConnection, tmp_path: Path) -> None:
    page = build_page_from(of_source(MYSQL.moment(CRM, crm)), CRM_PAGE, tmp_path / "crm.html")
    [sums] = execute(
        crm,
        "SELECT (SELECT sum(amount) * 100 FROM sales), (SELECT count(*) FROM sales), "
        "(SELECT count(*) FROM complaints), (SELECT count(*) FROM interactions), "
        "(SELECT sum(duration_seconds) FROM interactions)",
    )
    names = ("amount", "sales", "complaints", "contacts", "seconds")
    totals = {name: sum(each[name] for each in page.totals.values()) for name in page.totals["EUR"]}
    assert tuple(totals[name] for name in names) == sums
    assert (page.totals["EUR"]["amount"], page.totals["USD"]["amount"]) == (1788, 500)
    assert (totals["changes"], totals["solved"], page.version) == (1, 1, None)
    assert {*page.pictures} == {"amount", "complaints", "contacts"}
    assert "Read from crm" in page.path.read_text()


def test_days_and_listings_of_a_page_are_those_of_the_source(
    crm: MySQLConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = cube.read_from(of_source(MYSQL.moment(CRM, crm)), CRM_PAGE)
    # In the currency of most events.
    assert content.course
    assert {month: sums["sales"] for month, sums in content.course.months.items()} == {
        date(2025, 12, 1): 2,
        date(2026, 1, 1): 1,
        date(2026, 2, 1): 0,
    }
    assert pictured(monkeypatch, CRM_PAGE, content.course) == {
        "amount": {"2025-12-01": 10.11, "2026-01-01": 7.77, "2026-02-01": 0},
        "complaints": {"2025-12-01": 0, "2026-01-01": 3, "2026-02-01": 1},
        "contacts": {"2025-12-01": 0, "2026-01-01": 2, "2026-02-01": 1},
    }
    told, _ = opened(content.archive)
    assert (told["first"], told["last"], told["asOf"]) == (
        "2025-12-31",
        "2026-02-01",
        "2026-02-01T00:00:00+00:00",
    )
    assert told["names"]["agent.agent"] == {"1": "Agent 1", "2": "Agent 2"}
    waiting = told["listings"]["open"]
    assert dict(zip(waiting["team"], waiting["complaints"], strict=True)) == {
        "service": 2,
        "none": 1,
    }
    # Ages are days before the newest complaint, of 1 February.
    assert (waiting["week"], waiting["month"], waiting["oldest"]) == ([1, 0], [0, 0], [30, 0])
    assert not {"Ann", "Eve", "eve@x"} & {*str(told).split("'")}


def test_a_report_sees_one_moment_and_cannot_write(crm: MySQLConnection) -> None:
    with MYSQL.moment(CRM, crm) as moment:
        execute(crm, "DELETE FROM complaints")
        assert moment.result("SELECT count(*) FROM crm.complaints", {}).rows == [(4,)]
        assert datetime.now(UTC).timestamp() - moment.at.timestamp() < 60
    with pytest.raises(SourceRefused), MYSQL.moment(CRM, crm) as moment:
        moment.result("DELETE FROM crm.sales", {})
    assert execute(crm, "SELECT count(*) FROM sales") == [(4,)]


@pytest.fixture
def named(crm: MySQLConnection, monkeypatch, tmp_path: Path) -> Path:
    name_server(monkeypatch, MySQLConnection(CRM.env_prefix, *list(vars(crm).values())[1:]))
    monkeypatch.setenv("SOFTCART_EXTRACTS_DIR", str(tmp_path))
    return tmp_path


def test_reports_and_page_are_assets(named: Path) -> None:
    line = LINES.line("telecom")
    result = dg.materialize(
        [reports(LINES, line, CRM), *(report_page(line, CRM, each) for each in CRM.dashboards)],
        resources={
            "crm_database": SourceResource(kind=CRM.kind, prefix=CRM.env_prefix),
            "output": OutputResource(),
        },
    )
    made = {
        event.asset_key.to_user_string()
        for event in result.get_asset_materialization_events()
        if event.asset_key
    }
    assert made == {f"crm_reports/{each.name}" for each in CRM.reported}
    assert all(check.passed for check in result.get_asset_check_evaluations())
    assert {file.name for file in named.glob("crm*")} >= {
        "crm.html",
        "crm-amount.png",
        "crm_sales_daily.csv",
        "crm_sales_daily.parquet",
    }
    [page] = result.asset_materializations_for_node("crm_reports__crm")
    assert page.metadata["amount EUR"].value == "1788"
