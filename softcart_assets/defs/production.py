"""The published tables of every line: one publication makes them all, at night a complete one.

If the settings name a server of another product for them, another op brings them there afterwards.
The files for people follow each night, too. Whoever writes none because nothing changed still
proves that they are right, which their freshness asks for.
"""

import re
from collections.abc import Sequence
from typing import Any

import dagster as dg

from softcart_assets.assembly import LINES
from softcart_assets.components.keys import extract_key
from softcart_assets.components.mirrored import PRODUCTS, Product, mirrored_assets
from softcart_assets.components.plan import sound
from softcart_assets.components.planning import Records
from softcart_assets.components.publication import published_assets
from softcart_assets.connections import SettingError, setting
from softcart_assets.dbt import read_manifest
from softcart_assets.publishing.suite import audits_of
from softcart_assets.publishing.tables import PublishedTable, published_tables
from softcart_assets.publishing.targets.mirror import may_leave
from spark.jobs import JOBS


@dg.definitions
def production_tables() -> dg.Definitions:
    """The published tables, and the schedule of the complete publication."""
    lineage = {name: job.lineage for name, job in JOBS.items()}
    tables = published_tables(LINES, read_manifest(), lineage)
    published = published_assets(LINES, tables, audits_of(tables))
    mirrored = [
        mirrored_assets(LINES, chosen, product)
        for product in PRODUCTS
        if (chosen := _wanted(product, tables))
    ]
    elsewhere = {key for each in mirrored for key in each.keys}
    names = [each.name for line in LINES for each in line.extracts]
    names += [each.name for line in LINES for each in line.dashboards]
    files = set(map(extract_key, names))
    name = "nightly_publication"
    complete = dg.define_asset_job(
        name,
        selection=dg.AssetSelection.assets(published, *mirrored, *files),
        description="Compares every row of published tables with staging, copies tables that "
        "differ, and audits all rows. Other publications do so for changed rows only. Then brings "
        "extracts and pages up to date.",
        config=_complete(published, *mirrored),
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
        chosen = sound(records.assets, records.builds()) & (published.keys | elsewhere | files)
        if not chosen & published.keys:
            return dg.SkipReason("A blocking check refused something before each line's tables.")
        config = _complete(*(each for each in (published, *mirrored) if each.keys & chosen))
        return dg.RunRequest(asset_selection=sorted(chosen), run_config=config)

    return dg.Definitions(assets=[published, *mirrored], jobs=[complete], schedules=[nightly])


def _complete(*assets: dg.AssetsDefinition) -> dict[str, Any]:
    """The configuration of complete publications."""
    return {"ops": {each.op.name: {"config": {"complete": True}} for each in assets}}


def _wanted(product: Product, tables: Sequence[PublishedTable]) -> list[PublishedTable]:
    """The tables that the settings want there, and that may leave for it.

    Raises `SettingError`.
    """
    if not setting(f"{product.prefix}_HOST", ""):
        return []
    lines = f"{product.prefix}_LINES"
    names = [name for name in re.split(r"[\s,]+", setting(lines, "")) if name]
    known = [line.name for line in LINES]
    if unknown := [name for name in names if name not in known]:
        raise SettingError(
            f"{lines} names {', '.join(unknown)}. The lines of business are {', '.join(known)}."
        )
    # Facts refer to the dimensions that the lines share.
    wanted = {*names, LINES.conformed.name} if names else set(known)
    return [table for table in tables if table.line in wanted and may_leave(table)]
