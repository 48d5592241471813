"""The published tables of every line: one publication makes them all, at night a complete one.

The files for people follow each night, too. Whoever writes none because nothing changed still
proves that they are right, which their freshness asks for.
"""

import dagster as dg

from softcart_assets.assembly import LINES
from softcart_assets.components.keys import extract_key
from softcart_assets.components.plan import sound
from softcart_assets.components.planning import Records
from softcart_assets.components.publication import published_assets
from softcart_assets.dbt import read_manifest
from softcart_assets.publishing.suite import audits_of
from softcart_assets.publishing.tables import published_tables
from spark.jobs import JOBS


@dg.definitions
def production_tables() -> dg.Definitions:
    """The published tables, and the schedule of the complete publication."""
    lineage = {name: job.lineage for name, job in JOBS.items()}
    tables = published_tables(LINES, read_manifest(), lineage)
    published = published_assets(LINES, tables, audits_of(tables))
    names = [each.name for line in LINES for each in line.extracts]
    names += [each.name for line in LINES for each in line.dashboards]
    files = set(map(extract_key, names))
    name = "nightly_publication"
    complete = dg.define_asset_job(
        name,
        selection=dg.AssetSelection.assets(published) | dg.AssetSelection.assets(*files),
        description="Compares every row of published tables with staging, copies tables that "
        "differ, and audits all rows. Other publications do so for changed rows only. Then brings "
        "extracts and pages up to date.",
        config=(config := {"ops": {published.op.name: {"config": {"complete": True}}}}),
    )

    @dg.schedule(
        name=name,
        job=complete,
        cron_schedule="0 5 * * *",
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
    )
    def nightly(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        """Request the tables that a plan would publish.

        The job asks no checks of what it reads. So what one of them refused would go live.
        """
        assert context.repository_def
        records = Records(context.instance, context.repository_def, LINES)
        chosen = sound(records.assets, records.builds()) & (published.keys | files)
        if not chosen & published.keys:
            return dg.SkipReason("A blocking check refused something before each line's tables.")
        return dg.RunRequest(asset_selection=sorted(chosen), run_config=config)

    return dg.Definitions(assets=[published], jobs=[complete], schedules=[nightly])
