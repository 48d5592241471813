"""What people take away: extracts as files, and the pages of the dashboards. Both read production only."""

import base64
import importlib
from collections.abc import Iterator

import dagster as dg

from softcart_assets.assembly import LINES
from softcart_assets.components.conditions import FOLLOWS_UPSTREAM
from softcart_assets.extracts import lineage
from softcart_assets.extracts.write import write_extracts
from softcart_assets.lines.model import Dashboard, Extract
from softcart_assets.resources import OutputResource, PostgresResource


def _published_key(table: str) -> dg.AssetKey:
    return dg.AssetKey(["production", table])


def extract_key(name: str) -> dg.AssetKey:
    """Key of an extract."""
    return dg.AssetKey(["extracts", name])


def _lineage(extract: Extract) -> dg.TableColumnLineage:
    return dg.TableColumnLineage(
        {
            column: [dg.TableColumnDep(_published_key(table), name) for table, name in origins]
            for column, origins in lineage.sources(extract).items()
        }
    )


SPECS = [
    dg.AssetSpec(
        extract_key(extract.name),
        deps=[_published_key(table) for table in lineage.tables(extract)],
        description=extract.description,
        group_name="extracts",
        owners=[LINES.line_of(extract).owner],
        kinds={"python", "parquet", "csv"},
        automation_condition=FOLLOWS_UPSTREAM,
        skippable=True,
    )
    for extract in LINES.extracts
]


@dg.multi_asset(name="write_extracts", specs=SPECS, can_subset=True)
def extract_files(
    context: dg.AssetExecutionContext, production: PostgresResource, output: OutputResource
) -> Iterator[dg.MaterializeResult]:
    """Write the selected extracts, all from one version of production."""
    wanted = {
        e.name: e for e in LINES.extracts if extract_key(e.name) in context.selected_asset_keys
    }
    written = write_extracts(production.connection(), output.path, list(wanted.values()))
    for name, files in written.items():
        yield dg.MaterializeResult(
            extract_key(name),
            metadata={
                "dagster/row_count": files.rows,
                "dagster/column_schema": dg.MetadataValue.table_schema(
                    dg.TableSchema(
                        [
                            dg.TableColumn(column, description=text)
                            for column, text in wanted[name].columns.items()
                        ]
                    )
                ),
                "dagster/column_lineage": dg.MetadataValue.column_lineage(_lineage(wanted[name])),
                "parquet": dg.MetadataValue.path(str(files.parquet)),
                "csv": dg.MetadataValue.path(str(files.csv)),
                "parquet bytes": files.parquet_bytes,
                "csv bytes": files.csv_bytes,
                "production version": files.version,
            },
        )


def _dashboard(dashboard: Dashboard) -> dg.AssetsDefinition:
    @dg.asset(
        key=extract_key(dashboard.name),
        deps=[_published_key(table) for table in dashboard.reads],
        description=dashboard.description,
        group_name="extracts",
        owners=[LINES.line_of(dashboard).owner],
        kinds={"python", "html"},
        automation_condition=FOLLOWS_UPSTREAM,
    )
    def build(production: PostgresResource, output: OutputResource) -> dg.MaterializeResult[None]:
        """Write the page, and pictures of its charts as metadata."""
        package = importlib.import_module(dashboard.package)
        page = package.build_page(production.connection(), output.path / f"{dashboard.name}.html")
        images = {
            f"chart: {name}": dg.MetadataValue.md(
                f"![{name}](data:image/png;base64,{base64.b64encode(png).decode()})"
            )
            for name, png in package.pictures(production.connection()).items()
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


@dg.definitions
def extracts() -> dg.Definitions:
    """The extracts and the dashboards of every line."""
    return dg.Definitions(assets=[extract_files, *map(_dashboard, LINES.dashboards)])
