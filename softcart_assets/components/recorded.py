"""What the last builds recorded about the columns of their tables."""

from __future__ import annotations

from collections.abc import Collection, Iterable

import dagster as dg

from softcart_assets.publishing.personal import Column


def column_origins(
    instance: dg.DagsterInstance, keys: Iterable[dg.AssetKey], ends: Collection[str]
) -> dict[tuple[str, str], dict[str, list[Column]]]:
    """Where the columns of tables come from, and those of all tables that these are made from.

    `ends`: the schemas of sources, from which it does not go further back. Of a table that Dagster
    never built, nothing is known.
    """
    found: dict[tuple[str, str], dict[str, list[Column]]] = {}
    wanted = set(keys)
    while wanted:
        following = set()
        for record in instance.get_asset_records(list(wanted)):
            event = record.asset_entry.last_materialization
            made = event.asset_materialization if event else None
            lineage = made.metadata.get("dagster/column_lineage") if made else None
            if isinstance(lineage, dg.TableColumnLineageMetadataValue):
                schema, name = record.asset_entry.asset_key.path
                deps = lineage.value.deps_by_column
                found[schema, name] = {
                    column: [_column(each) for each in origins] for column, origins in deps.items()
                }
                following |= {each.asset_key for origins in deps.values() for each in origins}
        known = {dg.AssetKey(key) for key in found} | wanted
        wanted = {key for key in following - known if key.path[0] not in ends}
    return found


def _column(origin: dg.TableColumnDep) -> Column:
    schema, name = origin.asset_key.path
    return schema, name, origin.column_name
