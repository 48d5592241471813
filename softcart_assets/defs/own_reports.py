"""What each source reports about itself, and the schedule that makes it anew."""

import dagster as dg

from softcart_assets.assembly import LINES
from softcart_assets.components.own_reports import report_page, reports


@dg.definitions
def own_reports() -> dg.Definitions:
    """One op per source writes its reports. One op per page writes it."""
    found = [
        *(
            reports(LINES, line, source)
            for line in LINES
            for source in line.sources
            if source.reports
        ),
        *(
            report_page(line, source, page)
            for line in LINES
            for source in line.sources
            for page in source.dashboards
        ),
    ]
    if not found:
        return dg.Definitions()
    job = dg.define_asset_job(
        "own_reports",
        selection=dg.AssetSelection.assets(*found),
        description="Makes anew what the sources report about themselves. Only the sources are "
        "read, so nothing before them can hold it up.",
    )
    return dg.Definitions(
        assets=found,
        jobs=[job],
        schedules=[
            dg.ScheduleDefinition(
                name="own_reports",
                job=job,
                cron_schedule="15 * * * *",
                execution_timezone="UTC",
                default_status=dg.DefaultScheduleStatus.RUNNING,
            )
        ],
    )
