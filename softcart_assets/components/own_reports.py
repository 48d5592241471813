"""What a source reports about itself, as assets `<source>_reports/*`. They read that source only.

They do not follow raw: they would be right without any of our layers. A schedule makes them anew.
"""

from collections.abc import Iterator

import dagster as dg

from softcart_assets.assembly import Lines
from softcart_assets.components.extracts import (
    columns_of,
    page_code_version,
    page_metadata,
    shown,
    tell,
)
from softcart_assets.components.keys import report_key, source_key
from softcart_assets.components.pool import POOL
from softcart_assets.components.resources import source_resource_key
from softcart_assets.extracts import kept, lineage
from softcart_assets.extracts.own import Report, write_reports
from softcart_assets.extracts.totals import differing
from softcart_assets.ingestion.connectors import connector
from softcart_assets.lines.model import Dashboard, Extract, Line, Source
from softcart_assets.pages import lineage as page_lineage
from softcart_assets.resources import OutputResource


def _spec(line: Line, source: Source, report: Extract) -> dg.AssetSpec:
    tables = lineage.source_tables(report, source)
    return dg.AssetSpec(
        report_key(source, report.name),
        deps=[source_key(source, source.table(table)) for table in tables],
        description=report.description,
        group_name=source.reporting,
        owners=[line.owner_of(source)],
        kinds={source.kind, "parquet", "csv"},
        code_version=kept.digest(
            [report.sql, list(report.columns.items()), list(report.totals.items())]
        ),
        skippable=True,
    )


def _check(source: Source, report: Extract) -> dg.AssetCheckSpec:
    return dg.AssetCheckSpec(
        "equals_source",
        asset=report_key(source, report.name),
        description="The Parquet file has as many rows as the source gave, and the sums of "
        f"{', '.join(report.totals) or 'no column'} are those of its tables themselves, at the "
        "same moment. Joins have lost and doubled nothing.",
    )


def _check_result(source: Source, report: Extract, files: Report) -> dg.AssetCheckResult:
    wrong = differing(files.figures)
    return dg.AssetCheckResult(
        asset_key=report_key(source, report.name),
        check_name=_check(source, report).name,
        passed=not wrong,
        metadata={
            "read at": files.at.isoformat(),
            "differing": wrong,
            **{
                name: f"{ours} in the file, {theirs} at the source"
                for name, (ours, theirs) in files.figures.items()
            },
        },
    )


def reports(lines: Lines, line: Line, source: Source) -> dg.AssetsDefinition:
    """The reports of a source about itself. Raises `ForeignTable` if one reads anything else."""
    database = source_resource_key(source)

    @dg.multi_asset(
        name=f"write_{source.reporting}",
        specs=[_spec(line, source, report) for report in source.reports],
        check_specs=[_check(source, report) for report in source.reports],
        can_subset=True,
        required_resource_keys={database, "output"},
        pool=POOL,
    )
    def write(
        context: dg.AssetExecutionContext,
    ) -> Iterator[dg.MaterializeResult[None] | dg.AssetCheckResult]:
        """Write the selected reports, all at one moment of the source."""
        assets, checks = context.selected_asset_keys, context.selected_asset_check_keys
        wanted = [
            report
            for report in source.reports
            if report_key(source, report.name) in assets or _check(source, report).key in checks
        ]
        declared = [each.name for each in (*lines.extracts, *lines.own_reports)]
        output: OutputResource = context.resources.output
        connection = getattr(context.resources, database).connection()
        with connector(source.kind).moment(source, connection) as moment:
            written = write_reports(moment, output.path, wanted, declared)
        for report in wanted:
            key, files = report_key(source, report.name), written[report.name]
            is_checked = _check(source, report).key in checks
            found = [_check_result(source, report, files)] if is_checked else []
            if key not in assets:
                yield from found
                continue
            yield dg.MaterializeResult(
                key,
                metadata={
                    "dagster/row_count": files.rows,
                    "read at": files.at.isoformat(),
                    "parquet": dg.MetadataValue.path(str(files.parquet)),
                    "csv": dg.MetadataValue.path(str(files.csv)),
                    **columns_of(
                        report, files.types, lambda name: source_key(source, source.table(name))
                    ),
                },
                data_version=dg.DataVersion(files.content),
                check_results=found,
            )

    return write


def report_page(line: Line, source: Source, dashboard: Dashboard) -> dg.AssetsDefinition:
    """A page of a source about itself. Raises `ForeignTable` if it reads anything else."""
    database = source_resource_key(source)

    @dg.asset(
        key=report_key(source, dashboard.name),
        deps=[
            source_key(source, source.table(table))
            for table in page_lineage.source_tables(dashboard, source)
        ],
        description=dashboard.description,
        group_name=source.reporting,
        owners=[line.owner_of(source)],
        kinds={source.kind, "html"},
        code_version=page_code_version(dashboard),
        required_resource_keys={database, "output"},
        pool=POOL,
    )
    def build(context: dg.AssetExecutionContext) -> dg.MaterializeResult[None]:
        """Write the page, and pictures of its charts beside it."""
        # Only here, because loading Altair takes a second.
        from softcart_assets.pages.kit.database import of_source
        from softcart_assets.pages.kit.render import build_page_from

        output: OutputResource = context.resources.output
        connection = getattr(context.resources, database).connection()
        opened = of_source(connector(source.kind).moment(source, connection))
        path = output.path / f"{dashboard.name}.html"
        told = tell(build_page_from(opened, dashboard.page, path))
        return dg.MaterializeResult(
            metadata={
                **page_metadata(told, output.path),
                **shown(dashboard, lambda name: source_key(source, source.table(name))),
            },
            data_version=dg.DataVersion(kept.checksum(path)),
        )

    return build
