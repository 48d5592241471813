"""The running totals as assets, and the checks that count them again.

No op makes them: the load or stream that changes a raw table changes its totals in the same
transaction. So they are external assets, and their checks say whether they are right.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import dagster as dg

from softcart_assets.components.keys import raw_key, table_name, total_key
from softcart_assets.ingestion.errors import IngestionError
from softcart_assets.ingestion.sinks.ods.rebuild import check
from softcart_assets.lines.model import Line, RunningTotal, Source

RECOUNTED = "equals_recount"


def totals(line: Line, source: Source) -> Iterator[dg.AssetSpec]:
    """Yield the running totals of a source. What is only read from raw is no table of its own."""
    for total in source.totals:
        key = total_key(total)
        windows = ", ".join(total.windows)
        yield dg.AssetSpec(
            key,
            deps=[raw_key(source, source.table(total.table))],
            description=f"{total.description} One row per {total.key} and quarter of an hour in "
            f"UTC, and one for all time. Windows: {windows}. It commits together with raw.",
            group_name="ods",
            owners=[line.owner_of(source)],
            kinds={"postgres", "table"},
            metadata=table_name(key),
        )


def total_checks(source: Source) -> dg.AssetChecksDefinition:
    """The checks that count the totals of a source again from raw."""

    @dg.multi_asset_check(
        name=f"recount_{source.name}",
        specs=_specs(source),
        can_subset=True,
        required_resource_keys={"staging"},
    )
    def recount_totals(context: dg.AssetCheckExecutionContext) -> Iterator[dg.AssetCheckResult]:
        """Count the selected totals again. A stream goes on meanwhile."""
        staging = context.resources.staging.connection()
        for total in source.totals:
            key = dg.AssetCheckKey(total_key(total), RECOUNTED)
            if key not in context.selected_asset_check_keys:
                continue
            try:
                found = check(staging, source, total)
            except IngestionError as error:
                # As a failed check and not a failed step: the other totals are still counted.
                yield dg.AssetCheckResult(
                    asset_key=key.asset_key,
                    check_name=key.name,
                    passed=False,
                    metadata={"error": str(error)},
                )
                continue
            figures: dict[str, Any] = {"dagster/row_count": found.rows, "position": found.position}
            yield dg.AssetCheckResult(
                asset_key=key.asset_key,
                check_name=key.name,
                passed=not found.wrong,
                metadata={
                    **figures,
                    "rows that differ": found.wrong,
                    # A key names a person. Everybody with access to the UI can read this.
                    "what to do": f"softcart ods rebuild {source.name} --total {total.name}",
                },
            )

    return recount_totals


def _specs(source: Source) -> Sequence[dg.AssetCheckSpec]:
    return [
        dg.AssetCheckSpec(
            RECOUNTED,
            asset=total_key(total),
            description="Every sum is what a recount of the rows in raw gives, at one position. "
            "`softcart ods check` tells which rows differ, and `softcart ods rebuild` mends them.",
        )
        for total in source.totals
    ]


def recounts(sources: Sequence[Source]) -> list[dg.AssetCheckKey]:
    """Return the checks of all totals of these sources."""
    found: list[RunningTotal] = [total for source in sources for total in source.totals]
    return [dg.AssetCheckKey(total_key(total), RECOUNTED) for total in found]
