"""The raw tables of every source, their checks, and the comparison of every row at night."""

import dagster as dg

from softcart_assets.assembly import LINES
from softcart_assets.components.raw import raw_tables
from softcart_assets.components.raw_checks import (
    comparable,
    comparison_checks,
    comparisons,
    raw_table_checks,
)


@dg.definitions
def raw() -> dg.Definitions:
    """Three ops per source: one loads its tables, one checks them, one compares every row."""
    compare = dg.define_asset_job(
        "compare_raw_with_sources",
        selection=comparisons(LINES.sources),
        description="Compares every row of every raw table with its source and reports which rows "
        "differ. It repairs nothing. Changes that are not loaded yet are loaded first.",
    )
    return dg.Definitions(
        assets=[raw_tables(line, source) for line in LINES for source in line.sources],
        asset_checks=[
            *map(raw_table_checks, LINES.sources),
            *map(comparison_checks, comparable(LINES.sources)),
        ],
        jobs=[compare],
        schedules=[
            dg.ScheduleDefinition(
                name="nightly_comparison",
                job=compare,
                cron_schedule="0 4 * * *",
                execution_timezone="UTC",
                default_status=dg.DefaultScheduleStatus.RUNNING,
            )
        ],
    )
