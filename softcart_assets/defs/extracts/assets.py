"""What people take away: extracts as files, and the dashboard's page. Both read production only."""

import base64
from collections.abc import Iterator

import dagster as dg

from softcart_assets.dashboard import build_page, pictures
from softcart_assets.defs.automation.conditions import FOLLOWS_UPSTREAM
from softcart_assets.extracts.catalog import EXTRACTS
from softcart_assets.extracts.model import Extract
from softcart_assets.extracts.write import write_extracts
from softcart_assets.publishing.tables import PUBLISHED
from softcart_assets.resources import OutputResource, PostgresResource


def _published_key(table: str) -> dg.AssetKey:
    return dg.AssetKey(["production", table])


def extract_key(name: str) -> dg.AssetKey:
    """Key of an extract."""
    return dg.AssetKey(["extracts", name])


def _tables(extract: Extract) -> set[str]:
    return {source.split(".")[0] for column in extract.columns for source in column.sources}


def _lineage(extract: Extract) -> dg.TableColumnLineage:
    return dg.TableColumnLineage(
        {
            column.name: [
                dg.TableColumnDep(_published_key(table), name)
                for table, name in (source.split(".") for source in column.sources)
            ]
            for column in extract.columns
        }
    )


SPECS = [
    dg.AssetSpec(
        extract_key(extract.name),
        deps=[_published_key(table) for table in sorted(_tables(extract))],
        description=extract.description,
        group_name="extracts",
        owners=["team:shop"],
        kinds={"python", "parquet", "csv"},
        automation_condition=FOLLOWS_UPSTREAM,
        skippable=True,
    )
    for extract in EXTRACTS
]


@dg.multi_asset(name="write_extracts", specs=SPECS, can_subset=True)
def extract_files(
    context: dg.AssetExecutionContext, production: PostgresResource, output: OutputResource
) -> Iterator[dg.MaterializeResult]:
    """Write the selected extracts, all from one version of production."""
    wanted = {e.name: e for e in EXTRACTS if extract_key(e.name) in context.selected_asset_keys}
    written = write_extracts(production.connection(), output.path, list(wanted.values()))
    for name, files in written.items():
        yield dg.MaterializeResult(
            extract_key(name),
            metadata={
                "dagster/row_count": files.rows,
                "dagster/column_schema": dg.MetadataValue.table_schema(
                    dg.TableSchema(
                        [
                            dg.TableColumn(c.name, description=c.description)
                            for c in wanted[name].columns
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


@dg.asset(
    key=extract_key("dashboard"),
    deps=[_published_key(table.name) for table in PUBLISHED],
    group_name="extracts",
    owners=["team:shop"],
    kinds={"python", "html"},
    automation_condition=FOLLOWS_UPSTREAM,
)
def dashboard(production: PostgresResource, output: OutputResource) -> dg.MaterializeResult:
    """The shop manager's dashboard: one self-contained page that opens from disk, and pictures of its charts."""
    page = build_page(production.connection(), output.path / "dashboard.html")
    images = {
        f"chart: {name}": dg.MetadataValue.md(
            f"![{name}](data:image/png;base64,{base64.b64encode(png).decode()})"
        )
        for name, png in pictures(production.connection()).items()
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


@dg.definitions
def extracts() -> dg.Definitions:
    """The extracts and the dashboard."""
    return dg.Definitions(assets=[extract_files, dashboard])
