"""Dashboards of the BI server: every number equals production.

`EXPECTED` has a query on production for each chart, which shares nothing with the chart's own. The
charts' queries run here each time, as the reading role. Where Superset is installed, it is started,
and its API is asked for the data of each chart.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest
from support.project import Project

from softcart_assets.assembly import LINES
from softcart_assets.bi.bundle import MARK, bundle, identity
from softcart_assets.bi.client import Client
from softcart_assets.bi.declared import Board, Chart, DashboardError, boards
from softcart_assets.bi.load import columns, load, reader
from softcart_assets.connections import PostgresConnection, production
from softcart_assets.stack import Stack, superset

BOARDS = boards(LINES)
CHARTS = [(board, chart) for board in BOARDS for chart in board.charts]

_LINES_SOLD = """
  production.fct_order_lines f WHERE NOT f.is_cancelled AND f.order_date > '1900-01-01'"""
_USAGE = """
  (SELECT u.*, (SELECT plan_kind FROM production.dim_plan p
                WHERE p.plan_id = u.plan_id AND p.is_current) AS kind,
          (SELECT plan_name FROM production.dim_plan p
           WHERE p.plan_id = u.plan_id AND p.is_current) AS plan,
          max(u.month) OVER () AS newest
   FROM production.agg_usage_by_plan_region_month u) u
  WHERE u.month > '1900-01-01' AND u.month < u.newest"""
_MONTHS, _CALLS = "nullif(sum(u.subscriber_count), 0)", "nullif(sum(u.call_count), 0)"
_AGES = """
  production.agg_peak_hours_by_zone_age_hour h
  WHERE h.time_zone = 'all' AND h.age_band ~ '\\d' AND h.people_count > 9"""
_STORES = "(SELECT store_id, channel FROM production.dim_store WHERE is_current)"
_WORKOUTS = """
  SELECT f.region, count(*)::numeric AS workouts,
         (SELECT count(*) FROM production.dim_customer c
          WHERE c.line_of_business = 'inspire' AND c.is_current AND NOT c.is_deleted
            AND coalesce(c.region, 'Unknown') = f.region) AS people
  FROM production.fct_activity f GROUP BY f.region"""
_SESSIONS = "production.fct_app_sessions s WHERE s.session_date > '1900-01-01'"

EXPECTED = {
    "shop": {
        "Revenue": f"SELECT sum(f.gross_amount - f.discount_amount) FROM {_LINES_SOLD}",
        "Margin": f"SELECT 1 - sum(f.cost_amount) / sum(f.net_amount) FROM {_LINES_SOLD}",
        "Orders": "SELECT count(*) FROM (SELECT f.order_id FROM "
        f"{_LINES_SOLD} GROUP BY f.order_id) o",
        "Average basket": "SELECT avg(o.amount) FROM (SELECT sum(f.net_amount) AS amount FROM "
        f"{_LINES_SOLD} GROUP BY f.order_id) o",
        "Revenue by month and channel": "SELECT make_date(extract(year FROM f.order_date)::int, "
        "extract(month FROM f.order_date)::int, 1), (SELECT channel FROM "
        f"{_STORES} s WHERE s.store_id = f.store_id), sum(f.net_amount) FROM {_LINES_SOLD} "
        "GROUP BY 1, 2",
        "Revenue by country": "SELECT (SELECT l.country_code FROM production.dim_location l "
        "WHERE l.location_key = f.location_key), sum(f.net_amount) FROM "
        f"{_LINES_SOLD} GROUP BY 1 ORDER BY 2 DESC LIMIT 8",
        "Revenue by department": "SELECT coalesce((SELECT p.department_name FROM "
        "production.dim_product p WHERE p.is_current AND p.product_id = f.product_id), 'Unknown'), "
        "sum(f.net_amount) FROM "
        f"{_LINES_SOLD} GROUP BY 1 ORDER BY 2 DESC LIMIT 12",
        "Margin and refunds by month": "SELECT make_date(extract(year FROM f.order_date)::int, "
        "extract(month FROM f.order_date)::int, 1), 1 - sum(f.cost_amount) / sum(f.net_amount), "
        f"sum(f.refund_amount) / sum(f.net_amount) FROM {_LINES_SOLD} GROUP BY 1",
        "Products with the most revenue": "SELECT s.product_name, "
        "coalesce(s.department_name, 'Unknown'), s.revenue, s.margin / s.revenue, s.units, "
        "s.orders FROM (SELECT n.product_name, n.department_name, "
        "sum(f.net_amount) AS revenue, sum(f.margin_amount) AS margin, sum(f.quantity) AS units, "
        "count(DISTINCT f.order_id) AS orders FROM production.fct_order_lines f "
        "LEFT JOIN production.dim_product n ON n.is_current AND n.product_id = f.product_id "
        "WHERE NOT f.is_cancelled AND f.order_date > '1900-01-01' GROUP BY 1, 2) s "
        "ORDER BY 3 DESC LIMIT 10",
        "Orders by hour of the week": "SELECT a.hour, concat(a.weekday, ' ', "
        "CASE a.weekday WHEN 1 THEN 'Mon' WHEN 2 THEN 'Tue' WHEN 3 THEN 'Wed' WHEN 4 THEN 'Thu' "
        "WHEN 5 THEN 'Fri' WHEN 6 THEN 'Sat' ELSE 'Sun' END), sum(a.order_count) "
        "FROM production.agg_orders_by_device_weekday_hour a GROUP BY a.hour, a.weekday",
    },
    "telecom": {
        "ARPU": f"SELECT sum(u.charged_amount) / {_MONTHS} FROM {_USAGE}",
        "Revenue": "SELECT sum(u.voice_amount + u.sms_amount + u.data_amount + u.roaming_amount "
        f"+ u.fee_amount) FROM {_USAGE}",
        "Subscribers": "SELECT avg(m.subscribers) FROM (SELECT sum(u.subscriber_count) AS "
        f"subscribers FROM {_USAGE} GROUP BY u.month) m",
        "Dropped calls": f"SELECT sum(u.dropped_call_count) / {_CALLS} FROM {_USAGE}",
        "ARPU by month and kind of plan": "SELECT u.month, u.kind, "
        f"sum(u.charged_amount) / {_MONTHS} FROM {_USAGE} GROUP BY 1, 2",
        "What revenue is made of": "SELECT u.month, sum(u.fee_amount), sum(u.voice_amount), "
        f"sum(u.sms_amount), sum(u.data_amount), sum(u.roaming_amount) FROM {_USAGE} GROUP BY 1",
        "Data by month (GB)": f"SELECT u.month, u.kind, sum(u.data_mb) * 0.001 FROM {_USAGE} "
        "GROUP BY 1, 2",
        "Minutes of calls per subscriber": "SELECT u.month, u.kind, "
        f"nullif(sum(u.call_seconds), 0) / (60 * {_MONTHS}) FROM {_USAGE} GROUP BY 1, 2",
        "Plans": f"SELECT u.plan, u.kind, sum(u.charged_amount) / {_MONTHS}, "
        "sum(u.charged_amount), sum(u.subscriber_count) / count(DISTINCT u.month), "
        f"sum(u.data_mb) * 0.001 / {_MONTHS} FROM {_USAGE} GROUP BY 1, 2",
        "Regions": "SELECT u.region, sum(u.subscriber_count) / count(DISTINCT u.month), "
        f"sum(u.charged_amount) / {_MONTHS}, sum(u.dropped_call_count) / {_CALLS}, "
        f"1000 * sum(u.complaint_count) / {_MONTHS} FROM {_USAGE} GROUP BY 1",
    },
    "inspire": {
        "Workouts": "SELECT count(*) FROM production.fct_activity",
        "Workouts per person": "SELECT sum(w.workouts) / sum(w.people) FROM "
        f"({_WORKOUTS}) w WHERE w.people > 9",
        "Sessions": f"SELECT count(*) FROM {_SESSIONS}",
        "Pages per session": f"SELECT avg(s.page_views) FROM {_SESSIONS}",
        "When people of an age train": "SELECT d, b.age_band, coalesce((SELECT h.workout_count / "
        "b.workouts FROM production.agg_peak_hours_by_zone_age_hour h WHERE h.time_zone = 'all' "
        "AND h.age_band = b.age_band AND h.hour = d), 0) FROM generate_series(0, 23) d, "
        f"(SELECT h.age_band, sum(h.workout_count) AS workouts FROM {_AGES} GROUP BY 1) b",
        "How workouts come": "SELECT f.origin, count(*) FROM production.fct_activity f GROUP BY 1",
        "Workouts per person by region": "SELECT w.region, w.workouts / w.people FROM "
        f"({_WORKOUTS}) w WHERE w.people > 9 ORDER BY 2 DESC LIMIT 12",
        "Workouts at the weekend by age": "SELECT h.age_band, sum(h.weekend_workout_count) / "
        f"sum(h.workout_count) FROM {_AGES} GROUP BY 1",
        "Sessions by month and device": "SELECT make_date(extract(year FROM s.session_date)::int, "
        f"extract(month FROM s.session_date)::int, 1), s.device, count(*) FROM {_SESSIONS} "
        "GROUP BY 1, 2",
        "Devices": "SELECT s.device, count(*), avg(s.page_views), avg(s.workouts_logged) "
        f"FROM {_SESSIONS} GROUP BY 1",
    },
}


def comparable(rows: Iterable[Iterable[Any]]) -> list[list[str | float]]:
    """Rows in an order of their own: by what they are about, which comes before their numbers."""

    def one(value: Any) -> str | float:
        if value is None or isinstance(value, str):
            return str(value)
        return value.strftime("%Y-%m-%d") if isinstance(value, date) else float(value)

    return sorted(([one(value) for value in row] for row in rows), key=lambda row: [*map(str, row)])


def equal(rows: list[list[str | float]], others: list[list[str | float]]) -> bool:
    """Whether they are the same, as far as JSON and the order of divisions keep the digits."""
    pairs = [
        pair
        for row, other in zip(rows, others, strict=False)
        for pair in zip(row, other, strict=True)
    ]
    return len(rows) == len(others) and all(
        math.isclose(one, other, rel_tol=1e-9, abs_tol=1e-12)
        if isinstance(one, float) and isinstance(other, float)
        else one == other
        for one, other in pairs
    )


def asked(board: Board, chart: Chart) -> str:
    """The query of a chart."""
    dataset = board.datasets[chart.of]
    keys = list(chart.by)
    if chart.x:
        keys = [f"date_trunc('{chart.grain}', {chart.x})" if chart.grain else chart.x, *keys]
    numbers = [dataset.metrics[name].sql for name in chart.metrics]
    grouped = f" GROUP BY {', '.join(map(str, range(1, len(keys) + 1)))}" if keys else ""
    where = f" WHERE {chart.where}" if chart.where else ""
    return (
        f"SELECT {', '.join([*keys, *numbers])} FROM ({dataset.sql}) q{where}{grouped} "
        f"ORDER BY {len(keys) + 1} DESC LIMIT {chart.rows}"
    )


def told(client: Client, board: Board, chart: Chart) -> list[list[Any]]:
    """The data of a chart, as Superset's API has them."""
    found = client.ask(f"chart/{identity('chart', board.name, chart.title)}")["result"]
    context = json.loads(found["query_context"]) | {"force": True}
    [answer] = client.ask("chart/data", context)["result"]
    names = [*([chart.x] if chart.x else []), *chart.by, *chart.metrics]
    rows = [[row[name] for name in names] for row in answer["data"]]
    if chart.grain:
        for row in rows:
            row[0] = datetime.fromtimestamp(row[0] / 1000, UTC).date()
    return rows


@pytest.fixture(scope="module")
def login(project: Project) -> PostgresConnection:
    return reader(production())


def expected(board: Board, chart: Chart) -> list[list[str | float]]:
    with production().connect() as session:
        return comparable(session.execute(EXPECTED[board.name][chart.title].encode()).fetchall())


def test_every_chart_has_a_query_of_the_test() -> None:
    assert {(board.name, chart.title) for board, chart in CHARTS} == {
        (name, title) for name, charts in EXPECTED.items() for title in charts
    }


def test_another_number_is_noticed() -> None:
    rows = comparable([("EUR", Decimal("10.01"), date(2026, 1, 31)), (None, 2, "b")])
    assert equal(rows, comparable([(None, 2, "b"), ("EUR", 10.01, date(2026, 1, 31))]))
    assert not equal(rows, comparable([(None, 2, "b"), ("EUR", 10.02, date(2026, 1, 31))]))
    assert not equal(rows, rows[:1])


def test_every_number_equals_production(login: PostgresConnection) -> None:
    with login.connect() as session:
        for board, chart in CHARTS:
            rows = comparable(session.execute(asked(board, chart).encode()).fetchall())
            wanted = expected(board, chart)
            assert equal(rows, wanted), (board.name, chart.title, rows, wanted)
            # Of so few people, all groups may be too small to be told.
            assert rows or board.name == "inspire", (board.name, chart.title)


def test_columns_have_types_and_the_comments_of_production(login: PostgresConnection) -> None:
    found = columns(BOARDS, login)
    day = next(each for each in found["shop_sales"] if each.name == "order_date")
    assert (day.type, day.is_time) == ("DATE", True)
    assert day.description.startswith("Day, UTC")
    # Two imports are of the same parts.
    assert bundle(BOARDS, found, "postgresql://")[1] == bundle(BOARDS, found, "postgresql://")[1]


def test_a_column_with_personal_data_is_refused(login: PostgresConnection) -> None:
    [shop] = [board for board in BOARDS if board.name == "shop"]
    personal = replace_sql(shop, "SELECT customer_id FROM production.fct_order_lines")
    with pytest.raises(DashboardError, match=r"shop, dataset shop_sales: permission denied"):
        columns([personal], login)


def replace_sql(board: Board, sql: str) -> Board:
    dataset = board.datasets["shop_sales"].model_copy(update={"sql": sql})
    return board.model_copy(update={"datasets": board.datasets | {"shop_sales": dataset}})


@pytest.mark.skipif(
    not superset.is_installed(), reason="Superset is not installed. `make superset` does it"
)
def test_superset_tells_the_numbers_of_production(project: Project) -> None:
    code, output = project.run("softcart", "up", "--with", "superset")
    assert code == 0, output
    code, output = project.run("softcart", "bi", "import")
    assert code == 0, output
    settings = Stack(project.home, ignore_environment=True).env()
    client = Client(
        *(settings[f"{superset.SUPERSET}_{end}"] for end in ("URI", "USER", "PASSWORD"))
    )
    for board, chart in CHARTS:
        rows = comparable(told(client, board, chart))
        wanted = expected(board, chart)
        assert equal(rows, wanted), (board.name, chart.title, rows, wanted)

    # What somebody made stays. What is not declared any more goes.
    first, *more = BOARDS
    fewer = first.model_copy(update={"charts": first.charts[1:]})
    before = {each["uuid"] for each in client.listed("chart")}
    copied = client.ask(f"chart/{identity('chart', first.name, first.charts[0].title)}")["result"]
    mine = {"slice_name": "Mine", "viz_type": copied["viz_type"], "params": copied["params"]}
    dataset = client.listed("dataset")[0]["id"]
    client.ask("chart/", mine | {"datasource_id": dataset, "datasource_type": "table"})
    load([fewer, *more], client, production())
    after = {each["uuid"]: each for each in client.listed("chart")}
    gone = identity("chart", first.name, first.charts[0].title)
    assert before - after.keys() == {gone}
    assert {each["slice_name"] for each in after.values() if each["certified_by"] != MARK} == {
        "Mine"
    }
    load(BOARDS, client, production())
    assert {each["uuid"] for each in client.listed("chart")} == after.keys() | {gone}
