"""The running totals of every source, and their recount."""

import dagster as dg

from softcart_assets.assembly import LINES
from softcart_assets.components.ods import recounts, total_checks, totals


@dg.definitions
def ods() -> dg.Definitions:
    """One external asset per total, and one op per source that counts its totals again at night."""
    sources = [source for source in LINES.sources if source.totals]
    if not sources:
        return dg.Definitions()
    recount = dg.define_asset_job(
        "recount_totals",
        selection=dg.AssetSelection.checks(*recounts(sources)),
        description="Counts every running total again from raw, and reports which ones differ. "
        "It changes nothing.",
    )
    return dg.Definitions(
        assets=[each for line in LINES for source in line.sources for each in totals(line, source)],
        asset_checks=[total_checks(source) for source in sources],
        jobs=[recount],
        schedules=[
            dg.ScheduleDefinition(
                name="nightly_recount",
                job=recount,
                cron_schedule="30 4 * * *",
                execution_timezone="UTC",
                default_status=dg.DefaultScheduleStatus.RUNNING,
            )
        ],
    )
