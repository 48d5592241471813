"""The planning sensor: it starts runs when a source, a table or code has changed."""

from __future__ import annotations

import time
from collections.abc import Collection
from datetime import UTC, datetime

import dagster as dg

from softcart_assets.assembly import Lines
from softcart_assets.components.failures import fail_for
from softcart_assets.components.planning import (
    Activity,
    Memory,
    Records,
    Servers,
    activity,
    next_run,
)
from softcart_assets.components.pool import BUILD, LOAD, PLANNED_TAG
from softcart_assets.components.resources import source_resource_key

LOOKS_PER_TICK = 5
SECONDS_BETWEEN_LOOKS = 1
"""Every change waits for a look, and so does every wave. Dagster begins a tick every 5 seconds, so
a tick goes on looking until the next one. It ends as soon as it has something to request.
"""

UNDER_WAY = "A run is under way."


def planning_sensor(lines: Lines) -> dg.SensorDefinition:
    """A sensor that requests what the plan says, one run at a time."""

    @dg.sensor(
        name="plan",
        target=dg.AssetSelection.all(),
        minimum_interval_seconds=1,
        default_status=dg.DefaultSensorStatus.RUNNING,
        required_resource_keys={*map(source_resource_key, lines.sources), "staging"},
        description="Asks the sources what changed and loads that. Then rebuilds and publishes "
        "all that is behind it.",
    )
    def tick(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        """Request the next run.

        If a source cannot be read, the tick fails unless there is other work. It must not look like
        "nothing changed".
        """
        assert context.repository_def
        records = Records(context.instance, context.repository_def, lines)
        for look in range(LOOKS_PER_TICK):
            time.sleep(SECONDS_BETWEEN_LOOKS if look else 0)
            now = activity(context.instance)
            # During a wave, Dagster's records are others at each look, and reading them is work.
            if now is Activity.MORE or (now is Activity.WAVE and look):
                found = dg.SensorResult(skip_reason=UNDER_WAY, cursor=context.cursor)
                continue
            found = _request(context, records, lines, is_building=now is Activity.WAVE)
            if found.run_requests:
                break
        return found

    return tick


def _request(
    context: dg.SensorEvaluationContext, records: Records, lines: Lines, *, is_building: bool
) -> dg.SensorResult:
    """What is to be requested now, while a wave is under way or nothing."""
    resources = context.resources
    servers = Servers(
        lambda: resources.staging.connection(),
        lambda source: getattr(resources, source_resource_key(source)).connection(),
    )
    planned = next_run(
        records,
        lines,
        servers,
        Memory.read(context.cursor),
        datetime.now(UTC),
        is_building=is_building,
    )
    found = planned.plan
    if not found.request:
        fail_for(planned.unread, "Not asked for changes")
        # What a wave has not built yet waits for nothing else.
        reason = UNDER_WAY if is_building else _rest(found.waiting)
        return dg.SensorResult(skip_reason=reason, cursor=planned.memory.cursor())
    for name, error in planned.unread.items():
        context.log.error(f"{name} was not asked for changes: {error}")
    # No run key: Dagster would remember it for ever and drop the next request.
    request = dg.RunRequest(
        asset_selection=sorted(found.request),
        tags={PLANNED_TAG: LOAD if found.is_load else BUILD},
    )
    return dg.SensorResult(run_requests=[request], cursor=planned.memory.cursor())


def _rest(waiting: Collection[dg.AssetKey]) -> str:
    """Why nothing is requested."""
    if not waiting:
        return "Every table is loaded up to the source's last change, and everything is built."
    names = ", ".join(key.to_user_string() for key in sorted(waiting))
    return (
        "Nothing to do but wait. Something before these failed or did not pass a blocking check, "
        f"or they failed a short time ago: {names}"
    )
