"""Starts runs automatically: the planning sensor, and a full load every night."""

import dagster as dg

from softcart_assets.assembly import LINES
from softcart_assets.components.raw import load_op_name
from softcart_assets.components.raw_checks import comparisons
from softcart_assets.components.sensor import planning_sensor


@dg.definitions
def automation() -> dg.Definitions:
    """The sensor and the schedule. Both run as soon as the daemon runs."""
    nightly = dg.define_asset_job(
        "nightly_repair",
        # A full load compares every row already, so the checks that do the same are left out. What
        # follows from a repair is the plan's business, as after every load.
        selection=dg.AssetSelection.groups(*(source.schema for source in LINES.sources))
        - comparisons(LINES.sources),
        description="Compares every row of every source table with its copy, repairs what differs, "
        "and checks all raw tables. The planning sensor rebuilds what is behind a repair.",
        config={
            "ops": {load_op_name(source): {"config": {"full": True}} for source in LINES.sources}
        },
        tags={"softcart/repair": "nightly"},
    )
    return dg.Definitions(
        sensors=[planning_sensor(LINES)],
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
