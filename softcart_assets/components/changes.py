"""The sensor of a source. It asks the source what changed and requests those raw tables."""

from datetime import UTC, datetime

import dagster as dg

from softcart_assets.components.conditions import SOURCE_TAG
from softcart_assets.components.decision import RETRY_AFTER, decide, look_from
from softcart_assets.components.keys import raw_key, raw_keys
from softcart_assets.components.resources import source_resource_key
from softcart_assets.ingestion.connectors import connector
from softcart_assets.ingestion.load import (
    changed_tables,
    loaded_positions,
    unreported_tables,
)
from softcart_assets.lines.model import Source

# A run that waits in the queue counts too. Otherwise each tick would request the same tables again.
UNDER_WAY = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


def _failed_loads(
    instance: dg.DagsterInstance, source: Source, since: datetime
) -> dict[str, datetime]:
    """The tables whose last load by this sensor failed since then, and when.

    A run fails also if a check does. What it loaded before is loaded all the same, and the other
    tables of the source have nothing to do with it.
    """
    failed: dict[str, datetime] = {}
    seen: set[str] = set()
    ended = [dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.SUCCESS]
    tags = {SOURCE_TAG: source.name}
    # The newest run comes first, and a table's own last one counts.
    for record in instance.get_run_records(
        dg.RunsFilter(tags=tags, statuses=ended, updated_after=since)
    ):
        run = record.dagster_run
        asked = {
            table.name: raw_key(source, table)
            for table in source.tables
            if raw_key(source, table) in (run.asset_selection or ()) and table.name not in seen
        }
        seen |= asked.keys()
        if run.status == dg.DagsterRunStatus.FAILURE and record.end_time:
            loaded = {
                event.get_dagster_event().asset_key
                for event in instance.all_logs(
                    run.run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION
                )
            }
            at = datetime.fromtimestamp(record.end_time, UTC)
            failed |= {name: at for name, key in asked.items() if key not in loaded}
    return failed


def change_sensor(source: Source) -> dg.SensorDefinition:
    """A sensor that requests just the raw tables of the source that are behind."""
    database = source_resource_key(source)

    @dg.sensor(
        name=f"{source.name}_changes",
        target=dg.AssetSelection.groups(source.schema),
        minimum_interval_seconds=15,
        default_status=dg.DefaultSensorStatus.RUNNING,
        required_resource_keys={database, "staging"},
        description=(
            f"Checks what changed in {source.name} and requests just the raw tables that "
            "are behind."
        ),
    )
    def changes(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        """Request what changed.

        If the source cannot be read, the tick fails. It must not look like "nothing changed".
        """
        resources, instance = context.resources, context.instance
        loaded = loaded_positions(resources.staging.connection(), source)
        # Without a log, positions do not follow one another. Only the loads tell where to look.
        has_log = connector(source.kind).has_log
        since = look_from(loaded, context.cursor if has_log else None)
        found = changed_tables(source, getattr(resources, database).connection(), since)
        in_flight = (
            instance.get_runs_count(
                dg.RunsFilter(statuses=UNDER_WAY, tags={SOURCE_TAG: source.name})
            )
            > 0
        )
        # Raw may be up to date and Dagster not know it: see `unreported_tables`. Without them, the
        # assets after such a table would stay old until its next change.
        behind = {*found.tables, *unreported_tables(resources.staging.connection(), source)}
        now = datetime.now(UTC)
        failed = _failed_loads(instance, source, now - RETRY_AFTER)
        decision = decide(behind, in_flight, failed, now)
        # The cursor says that no table was behind there, so it stays until that is true again.
        cursor = found.position if decision.caught_up else context.cursor
        if not decision.request:
            return dg.SensorResult(skip_reason=decision.reason, cursor=cursor)
        requested = (source.table(name) for name in sorted(decision.request))
        keys = [key for table in requested for key in raw_keys(source, table)]
        # No run key: Dagster would remember it for ever and drop the next request for the table.
        return dg.SensorResult(
            run_requests=[dg.RunRequest(asset_selection=keys, tags={SOURCE_TAG: source.name})],
            cursor=cursor,
        )

    return changes
