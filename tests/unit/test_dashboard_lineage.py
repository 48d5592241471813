"""What a dashboard shows comes from published columns that exist."""

import pytest

from softcart_assets.assembly import LINES
from softcart_assets.dbt import prepare_manifest, read_manifest
from softcart_assets.extracts.lineage import page_sources
from softcart_assets.lines.model import Dashboard
from spark.jobs import JOBS

DASHBOARDS = [dashboard for line in LINES for dashboard in line.dashboards]


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=lambda dashboard: dashboard.name)
def test_it_is_whole(dashboard: Dashboard) -> None:
    prepare_manifest()
    columns = {
        node["name"]: {*node["columns"]}
        for node in read_manifest()["nodes"].values()
        if node["resource_type"] == "model"
    } | {name: {*job.columns} for name, job in JOBS.items()}
    origins = {origin for found in page_sources(dashboard.page).values() for origin in found}
    assert not [each for each in origins if each[1] not in columns[each[0]]]
    assert {table for table, _ in origins} == {*dashboard.reads}


def test_a_figure_leads_to_the_columns_of_its_parts() -> None:
    [dashboard] = [each for each in DASHBOARDS if each.name == "dashboard"]
    found = page_sources(dashboard.page)
    lines = "fct_order_lines"
    assert found["Average basket"] == ((lines, "net_amount"), (lines, "order_id"))
    assert found["Payment method"] == (("fct_payments", "payment_method"),)
    assert ("dim_vendor", "vendor_name") in found["Vendor"]
    assert found["Stock at risk: Value at cost"] == (
        ("agg_stock_cover_by_store_product", "quantity_on_hand"),
        ("dim_product", "cost_amount"),
    )
