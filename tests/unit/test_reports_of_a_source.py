"""Declarations of a source's own reports, and their SQL in that of the source."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import pytest

from softcart_assets.assembly import LINES, DeclarationError, assemble
from softcart_assets.extracts import lineage
from softcart_assets.ingestion.connectors.mysql.reports import NotInMySQL, translated
from softcart_assets.lineage import ForeignTable
from softcart_assets.lines.model import NONE, Column, Extract, Line, Source, Table
from softcart_assets.pages import lineage as page_lineage
from softcart_assets.pages.kit.query import queries

TABLE = Table("sales", "", ("id",), "cdc", (Column("id", NONE),), source_name="Sales")
REPORT = Extract(
    "own_sales", "Sales.", {"n": "Their number."}, "SELECT count(*) AS n FROM till.sales"
)
TILL = Source("till", "mysql", "A till.", (TABLE,), reports=(REPORT,))


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("SELECT sales.id FROM till.sales", "SELECT `sales`.`id` FROM `Sales` AS `sales`"),
        ("SELECT s.id FROM till.sales s", "SELECT `s`.`id` FROM `Sales` AS `s`"),
        # As numbers, 1 March less 28 February would be 73.
        (
            "SELECT day - %(first)s::date",
            "SELECT DATEDIFF(`day`, CAST(CAST('2026-02-28' AS DATE) AS DATE))",
        ),
        ("SELECT day - 1", "SELECT `day` - 1"),
        # A reserved word of MySQL.
        ("SELECT 1 AS rows", "SELECT 1 AS `rows`"),
        (
            "WITH sales AS (SELECT 1 AS n) SELECT n FROM sales",
            "WITH `sales` AS (SELECT 1 AS `n`) SELECT `n` FROM `sales`",
        ),
    ],
)
def test_a_query_is_in_the_sql_and_names_of_the_source(query: str, expected: str) -> None:
    assert translated(query, TILL, {"first": date(2026, 2, 28)}) == expected


@pytest.mark.parametrize(
    "query",
    [
        "SELECT count(*) FILTER (WHERE id > 1) FROM till.sales",
        # 1 for PostgreSQL, and 1.5 for MySQL.
        "SELECT 3 / 2",
        "SELECT at AT TIME ZONE 'UTC' FROM till.sales",
        # The state would be that of any sale.
        "SELECT state, count(*) AS n FROM till.sales",
        "SELECT * FROM (SELECT day, concat(state, ' ') AS s FROM till.sales GROUP BY day) x",
        "SELECT b.day FROM till.sales a JOIN till.sales b ON b.id = a.id GROUP BY a.day",
    ],
)
def test_what_means_something_else_at_the_source_is_refused(query: str) -> None:
    with pytest.raises(NotInMySQL, match="MySQL"):
        translated(query, TILL, {})


@pytest.mark.parametrize(
    "query",
    [
        "SELECT s.day, sum(n) AS n FROM till.sales s GROUP BY day ORDER BY day",
        "SELECT day::date AS day, count(*) AS n, max(state) FROM till.sales GROUP BY 1",
        "SELECT day::date || '!' AS text FROM till.sales GROUP BY day::date",
        "SELECT upper(state) AS kind, count(*) AS n FROM till.sales GROUP BY kind",
        "SELECT id, sum(n) OVER (ORDER BY id) AS n FROM till.sales",
        "SELECT sum(n) + 1, (SELECT max(o.id) FROM till.sales o) AS last FROM till.sales",
    ],
)
def test_what_is_grouped_may_be_shown(query: str) -> None:
    assert translated(query, TILL, {})


@pytest.mark.parametrize("table", ["production.fct_sales", "till.gone", "other.sales"])
def test_a_report_reads_its_source_only(table: str) -> None:
    report = replace(REPORT, sql=f"SELECT count(*) AS n FROM {table}")
    with pytest.raises(ForeignTable, match=f"own_sales reads {table}"):
        lineage.source_tables(report, TILL)
    assert lineage.source_tables(REPORT, TILL) == ("sales",)


@pytest.mark.parametrize("source", [each for each in LINES.sources if each.reported], ids=str)
def test_declared_reports_read_declared_columns(source: Source) -> None:
    columns = {table.name: {*table.privacy} for table in source.tables}
    found = [
        *(
            origin
            for each in source.reports
            for froms in lineage.sources(each).values()
            for origin in froms
        ),
        *(
            origin
            for each in source.dashboards
            for shown in page_lineage.shown(each.page)
            for origin in shown.origins
        ),
    ]
    assert not {f"{table}.{name}" for table, name in found if name not in columns[table]}
    for report in source.reports:
        assert translated(report.sql, source, {})
    for dashboard in source.dashboards:
        for query in queries(dashboard.page):
            assert translated(query, source, {"first": date(2026, 2, 28)})
    for dashboard in source.dashboards:
        assert page_lineage.source_tables(dashboard, source)


def test_a_kind_without_sql_cannot_report() -> None:
    documents = replace(TILL, kind="mongodb", tables=())
    with pytest.raises(DeclarationError, match=r"till.* declares reports about itself"):
        assemble([*_conformed(), Line("shops", "", "team:x", sources=(documents,))])


def test_a_page_says_whose_it_is() -> None:
    [page] = next(each for each in LINES.sources if each.dashboards).dashboards
    strange = replace(TILL, dashboards=(page,))
    with pytest.raises(DeclarationError, match=r"Declare Page.*source='till'"):
        assemble([*_conformed(), Line("shops", "", "team:x", sources=(strange,))])


def _conformed() -> list[Line]:
    return [LINES.conformed]
