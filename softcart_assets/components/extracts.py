"""The files for people as assets: extracts, and the pages of dashboards."""

import base64
import importlib
from collections.abc import Iterator
from typing import Any

import dagster as dg

from softcart_assets.assembly import Lines
from softcart_assets.components.conditions import FOLLOWS_UPSTREAM
from softcart_assets.components.keys import extract_key, production_key
from softcart_assets.extracts import lineage
from softcart_assets.extracts.write import ExtractFiles, write_extracts
from softcart_assets.lines.model import Dashboard, Extract, Line
from softcart_assets.resources import OutputResource, PostgresResource


def _spec(lines: Lines, line: Line, extract: Extract) -> dg.AssetSpec:
    published = {table.name for table in lines.published}
    return dg.AssetSpec(
        extract_key(extract.name),
        deps=[production_key(table) for table in lineage.tables(extract, published)],
        description=extract.description,
        group_name="extracts",
        owners=[line.owner],
        kinds={"python", "parquet", "csv"},
        automation_condition=FOLLOWS_UPSTREAM,
        skippable=True,
    )


def _metadata(extract: Extract, files: ExtractFiles) -> dict[str, Any]:
    columns = [dg.TableColumn(column, description=text) for column, text in extract.columns.items()]
    origins = {
        column: [dg.TableColumnDep(production_key(table), name) for table, name in found]
        for column, found in lineage.sources(extract).items()
    }
    return {
        "dagster/row_count": files.rows,
        "dagster/column_schema": dg.MetadataValue.table_schema(dg.TableSchema(columns)),
        "dagster/column_lineage": dg.MetadataValue.column_lineage(dg.TableColumnLineage(origins)),
        "parquet": dg.MetadataValue.path(str(files.parquet)),
        "csv": dg.MetadataValue.path(str(files.csv)),
        "parquet bytes": files.parquet_bytes,
        "csv bytes": files.csv_bytes,
        "production version": files.version,
    }


def extract_files(lines: Lines, line: Line) -> dg.AssetsDefinition:
    """The extracts of a line. Raises `ForeignTable` if one reads what no line publishes.

    There is one op per line. Dagster would skip an op for all lines if any line is held.
    """

    @dg.multi_asset(
        name=f"write_{line.name}_extracts",
        specs=[_spec(lines, line, extract) for extract in line.extracts],
        # It is in no pool, because it reads production only. A publication may switch meanwhile.
        can_subset=True,
    )
    def write(
        context: dg.AssetExecutionContext, production: PostgresResource, output: OutputResource
    ) -> Iterator[dg.MaterializeResult[None]]:
        """Write the selected extracts, all from one version of production."""
        wanted = [
            extract
            for extract in line.extracts
            if extract_key(extract.name) in context.selected_asset_keys
        ]
        written = write_extracts(production.connection(), output.path, wanted)
        for extract in wanted:
            yield dg.MaterializeResult(
                extract_key(extract.name), metadata=_metadata(extract, written[extract.name])
            )

    return write


def dashboard_page(line: Line, dashboard: Dashboard) -> dg.AssetsDefinition:
    """The page of a dashboard."""

    @dg.asset(
        key=extract_key(dashboard.name),
        deps=[production_key(table) for table in dashboard.reads],
        description=dashboard.description,
        group_name="extracts",
        owners=[line.owner],
        kinds={"python", "html"},
        automation_condition=FOLLOWS_UPSTREAM,
    )
    def build(production: PostgresResource, output: OutputResource) -> dg.MaterializeResult[None]:
        """Write the page, and pictures of its charts as metadata."""
        # By name, because no module outside the folders of a line may name the line.
        package = importlib.import_module(dashboard.package)
        page = package.build_page(production.connection(), output.path / f"{dashboard.name}.html")
        # Dagster has no metadata type for images, but its UI shows an image in a Markdown text.
        images = {
            f"chart: {name}": dg.MetadataValue.md(
                f"![{name}](data:image/png;base64,{base64.b64encode(png).decode()})"
            )
            for name, png in page.pictures.items()
        }
        return dg.MaterializeResult(
            metadata={
                "page": dg.MetadataValue.url(page.path.resolve().as_uri()),
                "bytes": page.bytes,
                "seconds": round(page.seconds, 2),
                "production version": page.version,
                **{name: str(figure) for name, figure in page.figures.items()},
                **images,
            }
        )

    return build
