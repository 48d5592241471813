"""The asset `identities/people`: which customers of the lines are the same person.

It stands between the versions of the lines' customers and `dim_customer`. A line takes part by its
model int_<line>__customer_versions, and by nothing else.

If people cannot be found, the last ones stay and the step does not fail, as with aggregates. But
what breaks a promise blocks: nobody's purchases may be told to somebody else.
"""

import time
from collections.abc import Iterable, Iterator
from typing import Any

import dagster as dg

from softcart_assets.assembly import Lines
from softcart_assets.components.columns import table_schema
from softcart_assets.components.failures import NOT_JUDGED, told
from softcart_assets.components.keys import people_key, table_name
from softcart_assets.components.pool import POOL
from softcart_assets.dbt import Manifest
from softcart_assets.identities.build import COMPARED, PROMISES, Built, build, code_version
from softcart_assets.resources import BUILDS_MODELS, PostgresResource

_PRIORITY = "dagster/priority"


def customer_versions(lines: Lines, manifest: Manifest) -> dict[str, str]:
    """The lines that have customers, each with the name of its model of them."""
    models = {n["name"] for n in manifest["nodes"].values() if n["resource_type"] == "model"}
    found = {line.name: f"int_{line.name}__customer_versions" for line in lines}
    return {line: model for line, model in found.items() if model in models}


def people(lines: Lines, manifest: Manifest) -> dg.AssetsDefinition:
    """The people behind the customers of all lines."""
    versions = customer_versions(lines, manifest)
    key = people_key()

    @dg.multi_asset(
        name="people",
        specs=[
            dg.AssetSpec(
                key,
                deps=[dg.AssetKey(["warehouse", model]) for model in versions.values()],
                description="One row per customer of a line of business: which person it is. "
                "E-mail address and phone number decide first. All other pairs are weighed by "
                "Splink. The reason and the probability of each pair are in identities.pairs.",
                metadata=table_name(key),
                group_name="identities",
                owners=[lines.conformed.owner],
                kinds={"python", "postgres", "table"},
                code_version=code_version(),
                skippable=True,
            )
        ],
        check_specs=[
            dg.AssetCheckSpec(
                "matched",
                asset=key,
                description="People were found, or nothing was new. Otherwise the last ones stay, "
                "and a new customer is a person alone.",
            ),
            *(
                dg.AssetCheckSpec(name, asset=key, description=text, blocking=True)
                for name, text in PROMISES.items()
            ),
        ],
        pool=POOL,
        # Models that hold the raw tables wait for it.
        op_tags={_PRIORITY: BUILDS_MODELS[_PRIORITY]},
    )
    def find(
        context: dg.AssetExecutionContext, staging: PostgresResource
    ) -> Iterator[dg.MaterializeResult[None]]:
        """Compare the customers that changed, and decide who is who."""
        started, found = time.monotonic(), None
        failed: Exception | None = None
        try:
            found = build(staging.connection(), list(versions))
        except Exception as error:
            context.log.exception("The customers could not be compared")
            failed = error
        metadata: dict[str, Any] = {"seconds": round(time.monotonic() - started, 2)}
        if found:
            schema = table_schema(staging.connection(), *key.path)
            metadata |= {
                "dagster/row_count": found.customers,
                "dagster/column_schema": dg.MetadataValue.table_schema(schema),
                "dagster/column_lineage": dg.MetadataValue.column_lineage(
                    _lineage(versions.values())
                ),
                "people": found.people,
                "compared": found.changed,
                "joined": found.joined,
                "split": found.split,
                "refused pairs": found.refused,
                "expected precision": found.expected_precision,
            }
        yield dg.MaterializeResult(
            key,
            metadata=metadata,
            # Without one, Dagster makes a new version: after a failure, whoever reads it looks.
            data_version=dg.DataVersion(found.content) if found else None,
            check_results=list(_results(found, failed)),
        )

    return find


def _lineage(models: Iterable[str]) -> dg.TableColumnLineage:
    """Which person a customer is comes from all that is compared."""

    def origins(*columns: str) -> list[dg.TableColumnDep]:
        return [
            dg.TableColumnDep(dg.AssetKey(["warehouse", model]), column)
            for model in models
            for column in columns
        ]

    return dg.TableColumnLineage(
        {
            "line_of_business": [],
            "customer_id": origins("customer_id"),
            "person_id": origins(*COMPARED),
            "person_since": [],
        }
    )


def _results(found: Built | None, failed: Exception | None) -> Iterator[dg.AssetCheckResult]:
    yield dg.AssetCheckResult(
        check_name="matched",
        asset_key=people_key(),
        passed=failed is None,
        metadata=told(failed),
    )
    for name, text in PROMISES.items():
        count = found.broken.get(name, 0) if found else 0
        breach = (
            f"Does not hold {count} times: {text} Nothing was written. If the table "
            "identities.people was changed by hand, delete its wrong rows and all rows of "
            "identities.records, and materialise it again."
        )
        yield dg.AssetCheckResult(
            check_name=name,
            asset_key=people_key(),
            passed=bool(found) and not count,
            # The last people stay after a failure. They kept the promises, so nothing is blocked.
            severity=dg.AssetCheckSeverity.ERROR if found else dg.AssetCheckSeverity.WARN,
            description=(breach if count else None) if found else NOT_JUDGED.format("matched"),
            metadata={"breaches": count} if found else {},
        )
