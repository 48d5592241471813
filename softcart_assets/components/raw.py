"""The raw tables as assets. One op per source loads its tables, at one position of the source."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import dagster as dg
from psycopg import sql

from softcart_assets.audits.raw import MAX_AGE
from softcart_assets.components.keys import (
    history_key,
    raw_key,
    raw_keys,
    source_key,
    table_name,
)
from softcart_assets.components.pool import PLANNED_TAG
from softcart_assets.components.resources import source_resource_key
from softcart_assets.connections import PostgresConnection
from softcart_assets.ingestion.connectors import connector
from softcart_assets.ingestion.described import describe
from softcart_assets.ingestion.load import LoadRequest, LoadResult, load, raw_versions
from softcart_assets.ingestion.proof.statements import ASK_EVERY
from softcart_assets.ingestion.quarantine import summarize
from softcart_assets.lines.model import Line, Source, Table

FRESH = dg.FreshnessPolicy.time_window(fail_window=MAX_AGE, warn_window=timedelta(hours=25))
"""The job `nightly_repair` loads every table every 24 hours. The rest is the time that it takes."""


def _specs(line: Line, source: Source) -> Iterator[dg.AssetSpec]:
    for table in source.tables:
        common: dict[str, Any] = {
            "group_name": source.schema,
            "owners": [line.owner_of(source)],
            "kinds": {source.kind, "postgres", "table"},
            "freshness_policy": FRESH,
            # A run may select some tables only. Then the op yields nothing for the others.
            "skippable": True,
        }
        key = ", ".join(table.key) or "none"
        yield dg.AssetSpec(
            raw_key(source, table),
            deps=[source_key(source, table)],
            description=f"{table.description} An exact copy at a known position of the source. "
            "Rows deleted there stay, marked `_deleted`. "
            f"Key: {key}. Load strategy: {table.strategy}.",
            metadata=table_name(raw_key(source, table)),
            **common,
        )
        if table.history:
            yield dg.AssetSpec(
                history_key(source, table),
                # The same load makes both. A check of the table that fails holds for its history.
                deps=[source_key(source, table), raw_key(source, table)],
                description=f"One row per version of a row of {table.name}, in the order of "
                "`_version`. A deletion is a version. "
                "Slowly changing dimensions are built from it.",
                metadata=table_name(history_key(source, table)),
                **common,
            )


def _columns(source: Source, table: Table, result: LoadResult) -> dict[str, Any]:
    """Column schema, and lineage to the source's columns."""
    texts = describe(source, table, [column["name"] for column in result.columns])
    columns = [
        dg.TableColumn(
            column["name"],
            column["target_type"],
            description=f"{texts[column['name']]} Source type {column['source_type']}.".strip(),
            constraints=dg.TableColumnConstraints(nullable=column["nullable"]),
            tags={"privacy": str(column["privacy"] or "unclassified")},
        )
        for column in result.columns
    ]
    origins = connector(source.kind).column_origins(column.name for column in columns)
    upstream = source_key(source, table)
    return {
        "dagster/column_schema": dg.MetadataValue.table_schema(dg.TableSchema(columns)),
        "dagster/column_lineage": dg.MetadataValue.column_lineage(
            dg.TableColumnLineage(
                {
                    name: [dg.TableColumnDep(upstream, origin) for origin in froms]
                    for name, froms in origins.items()
                }
            )
        ),
    }


def _load_metadata(result: LoadResult) -> dict[str, Any]:
    """The figures of a load."""
    return {
        "dagster/row_count": result.total,
        "position": result.position,
        "strategy": result.strategy,
        "rows inserted": result.inserted,
        "rows updated": result.updated,
        "rows deleted": result.deleted,
        "rows in quarantine": result.quarantined,
        "rows read": result.rows_read,
        "rows per second": round(result.rows_per_second),
        "seconds": round(result.seconds, 2),
        "source asked at": result.asked_at.isoformat() if result.asked_at else "never",
        "source asked at position": result.asked_position or "none",
        **(
            {"warnings": dg.MetadataValue.md("\n".join(f"- {line}" for line in result.warnings))}
            if result.warnings
            else {}
        ),
    }


def _quarantine(source: Source, table: Table, staging: PostgresConnection) -> dict[str, Any]:
    """Why rows are in quarantine, if there are any.

    It never shows values, because everybody with access to the Dagster UI can read it.
    """
    found = summarize(staging, source.name, table.name)
    if not found.rows:
        return {}
    lines = [
        f"- {rows:,} × `{column}`: {reason.removeprefix(f'{column}: ')}"
        for column, reason, rows in found.reasons
    ]
    rest = found.rows - sum(rows for *_, rows in found.reasons)
    lines += [f"- {rest:,} for other reasons"] if rest else []
    lines.append(
        f"\n`softcart quarantine list --source {source.name} --table {table.name}` lists them."
    )
    return {"quarantine": dg.MetadataValue.md("\n".join(lines))}


def _versions(staging: PostgresConnection, key: dg.AssetKey) -> int:
    """The number of rows of a history table."""
    with staging.connect() as session:
        row = session.execute(
            sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(*key.path))
        ).fetchone()
    return row[0] if row else 0


def _events(
    source: Source, result: LoadResult, staging: PostgresConnection
) -> Iterator[tuple[dg.AssetKey, dict[str, Any]]]:
    """What a load made, with metadata: the raw table, and its history if it has one."""
    table = source.table(result.table)
    columns = _columns(source, table, result)
    yield (
        raw_key(source, table),
        {**_load_metadata(result), **_quarantine(source, table, staging), **columns},
    )
    if table.history:
        history = history_key(source, table)
        rows = _versions(staging, history)
        yield history, {"dagster/row_count": rows, "position": result.position, **columns}


class LoadConfig(dg.Config):
    """How to load."""

    full: bool = False
    """Compare every row with the source. Do not rely on cursors."""


def load_op_name(source: Source) -> str:
    """Name of the op that loads a source's tables."""
    return f"load_{source.name}"


def raw_tables(line: Line, source: Source) -> dg.AssetsDefinition:
    """The raw tables of a source. One op loads them, because they are read together."""
    database = source_resource_key(source)

    @dg.multi_asset(
        name=load_op_name(source),
        specs=list(_specs(line, source)),
        can_subset=True,
        # By name, because each source has a resource of its own.
        required_resource_keys={database, "staging", "lake", "raw_state"},
    )
    def load_tables(
        context: dg.AssetExecutionContext, config: LoadConfig
    ) -> Iterator[dg.MaterializeResult[None]]:
        """Load the selected tables. Each counts when it is committed, even if another one fails."""
        selected = context.selected_asset_keys
        tables = [t for t in source.tables if selected.intersection(raw_keys(source, t))]
        staging, resources = context.resources.staging, context.resources
        told: dict[str, int] = {}

        def tell(table: str, rows: int, expected: int | None) -> None:
            """Log a line per million rows, to show the progress of a long load."""
            if rows // 1_000_000 > told.get(table, 0):
                told[table] = rows // 1_000_000
                context.log.info(
                    f"{table}: {rows:,} of about {expected:,} rows"
                    if expected
                    else f"{table}: {rows:,} rows"
                )

        request = LoadRequest(
            source,
            getattr(resources, database).connection(),
            staging.connection(),
            resources.lake.uri,
            full=config.full,
            # There are many planned runs, and each answer costs the source a scan of the table.
            ask_after=ASK_EVERY if PLANNED_TAG in context.run.tags else timedelta(0),
            on_progress=tell,
            tell=context.log.info,
        )
        # Shared with other loads. Only a build needs the tables to stand still.
        with resources.raw_state.loading(context):
            for result in load(request, [table.name for table in tables]):
                for line in result.warnings:
                    context.log.warning(f"{source.schema}/{result.table}: {line}")
                # Read after the commit, so it may be that of a later change. Whatever is built next
                # reads that, too.
                version = raw_versions(staging.connection(), source)[result.table]
                for key, metadata in _events(source, result, staging.connection()):
                    # Raw and its history change together. Whichever of them was not selected has a
                    # version that Dagster does not know, so the plan requests it.
                    if key in selected:
                        yield dg.MaterializeResult(
                            key, metadata=metadata, data_version=dg.DataVersion(version)
                        )

    return load_tables
