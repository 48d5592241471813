"""Starts runs automatically: a sensor per source, automation for the layers after it, a nightly
run.
"""

import dagster as dg

from softcart_assets.assembly import LINES
from softcart_assets.components.changes import change_sensor
from softcart_assets.components.raw import load_op_name
from softcart_assets.components.raw_checks import comparisons


@dg.definitions
def automation() -> dg.Definitions:
    """Sensors and schedules. All of them run as soon as the daemon runs."""
    nightly = dg.define_asset_job(
        "nightly_repair",
        # A full load compares every row already, so the checks that do the same are left out.
        selection=dg.AssetSelection.all() - comparisons(LINES.sources),
        description="Compares every row of every source table with its copy, repairs what differs, "
        "rebuilds and checks everything that follows.",
        config={
            "ops": {load_op_name(source): {"config": {"full": True}} for source in LINES.sources}
        },
        tags={"softcart/repair": "nightly"},
    )
    return dg.Definitions(
        sensors=[
            *map(change_sensor, LINES.sources),
            dg.AutomationConditionSensorDefinition(
                "downstream",
                target=dg.AssetSelection.all(),
                minimum_interval_seconds=15,
                default_status=dg.DefaultSensorStatus.RUNNING,
                description="Rebuilds and publishes what depends on anything that was loaded anew.",
            ),
        ],
        jobs=[nightly],
        schedules=[
            dg.ScheduleDefinition(
                name="nightly_repair",
                job=nightly,
                cron_schedule="0 2 * * *",
                execution_timezone="UTC",
                default_status=dg.DefaultScheduleStatus.RUNNING,
            )
        ],
    )
