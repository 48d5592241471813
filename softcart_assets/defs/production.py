"""The published tables of every line: one publication makes them all, at night a complete one."""

import dagster as dg

from softcart_assets.assembly import LINES
from softcart_assets.components.publication import published_assets
from softcart_assets.dbt import read_manifest
from softcart_assets.publishing.suite import audits_of
from softcart_assets.publishing.tables import published_tables


@dg.definitions
def production_tables() -> dg.Definitions:
    """The published tables, and the schedule of the complete publication."""
    tables = published_tables(LINES, read_manifest())
    published = published_assets(LINES, tables, audits_of(tables))
    complete = dg.define_asset_job(
        "nightly_publication",
        selection=[published],
        description="Compares every row of every published table with staging, copies tables that "
        "differ, and audits all rows. Other publications do so for changed rows only.",
        config={"ops": {published.op.name: {"config": {"complete": True}}}},
    )
    return dg.Definitions(
        assets=[published],
        jobs=[complete],
        schedules=[
            dg.ScheduleDefinition(
                name="nightly_publication",
                job=complete,
                cron_schedule="0 5 * * *",
                execution_timezone="UTC",
                default_status=dg.DefaultScheduleStatus.RUNNING,
            )
        ],
    )
