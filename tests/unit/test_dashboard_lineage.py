"""What a dashboard shows comes from published columns that exist."""

import pytest

from softcart_assets.assembly import LINES
from softcart_assets.dbt import prepare_manifest, read_manifest
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
    origins = {origin for found in dashboard.shows.values() for origin in found}
    assert all(dashboard.shows.values())
    for origin in origins:
        table, column = origin.split(".")
        assert column in columns[table], origin
    assert {origin.partition(".")[0] for origin in origins} == {*dashboard.reads}
