"""The files for people as assets: extracts, and the pages of dashboards."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
import psycopg
from psycopg import IsolationLevel

from softcart_assets.assembly import Lines
from softcart_assets.components.keys import extract_key, production_key
from softcart_assets.components.pool import POOL
from softcart_assets.components.publication import FRESH
from softcart_assets.connections import PostgresConnection, address_of_page
from softcart_assets.extracts import kept, lineage
from softcart_assets.extracts.totals import differing
from softcart_assets.extracts.write import ExtractFiles, code_version, write_extracts
from softcart_assets.lines.model import Dashboard, Extract, Line
from softcart_assets.pages import kit
from softcart_assets.pages import lineage as page_lineage
from softcart_assets.resources import OutputResource, PostgresResource

if TYPE_CHECKING:  # it brings Altair along
    from softcart_assets.pages.kit.render import PageResult


def _spec(lines: Lines, line: Line, extract: Extract) -> dg.AssetSpec:
    published = {table.name for table in lines.published}
    return dg.AssetSpec(
        extract_key(extract.name),
        deps=[production_key(table) for table in lineage.tables(extract, published)],
        description=extract.description,
        group_name="extracts",
        owners=[line.owner],
        kinds={"python", "parquet", "csv"},
        code_version=code_version(extract),
        freshness_policy=FRESH,
        skippable=True,
    )


def _check(extract: Extract) -> dg.AssetCheckSpec:
    return dg.AssetCheckSpec(
        "equals_production",
        asset=extract_key(extract.name),
        description="The Parquet file has as many rows as production gave, and the sums of "
        f"{', '.join(extract.totals) or 'no column'} are those of the published tables themselves, "
        "at the same version. Joins have lost and doubled nothing.",
    )


def _check_result(extract: Extract, files: ExtractFiles) -> dg.AssetCheckResult:
    wrong = differing(files.figures)
    return dg.AssetCheckResult(
        asset_key=extract_key(extract.name),
        check_name=_check(extract).name,
        passed=not wrong,
        metadata={
            "production version": files.version,
            "differing": wrong,
            **{
                name: f"{ours} in the file, {theirs} in production"
                for name, (ours, theirs) in files.figures.items()
            },
        },
    )


def _metadata(extract: Extract, files: ExtractFiles) -> dict[str, Any]:
    return {
        "dagster/row_count": files.rows,
        **columns_of(extract, files.types, production_key),
        "parquet": dg.MetadataValue.path(str(files.parquet)),
        "csv": dg.MetadataValue.path(str(files.csv)),
        "parquet bytes": files.parquet_bytes,
        "csv bytes": files.csv_bytes,
        "production version": files.version,
        "state": _state(files.version, files.is_new),
    }


def columns_of(
    extract: Extract, types: Mapping[str, str], key_of: Callable[[str], dg.AssetKey]
) -> dict[str, dg.MetadataValue]:
    """The columns of an extract, and the columns that each comes from.

    `key_of`: the asset key of a table that the SQL names.
    """
    columns = [
        dg.TableColumn(column, types[column], text) for column, text in extract.columns.items()
    ]
    origins = {
        column: [dg.TableColumnDep(key_of(table), name) for table, name in found]
        for column, found in lineage.sources(extract).items()
    }
    return {
        "dagster/column_schema": dg.MetadataValue.table_schema(dg.TableSchema(columns)),
        "dagster/column_lineage": dg.MetadataValue.column_lineage(dg.TableColumnLineage(origins)),
    }


def _state(version: int | None, is_new: bool) -> str:
    return "written" if is_new else f"unchanged since production version {version}"


def extract_files(lines: Lines, line: Line) -> dg.AssetsDefinition:
    """The extracts of a line. Raises `ForeignTable` if one reads what no line publishes.

    There is one op per line. Dagster would skip an op for all lines if any line is held.
    """

    @dg.multi_asset(
        name=f"write_{line.name}_extracts",
        specs=[_spec(lines, line, extract) for extract in line.extracts],
        check_specs=[_check(extract) for extract in line.extracts],
        can_subset=True,
        pool=POOL,
    )
    def write(
        context: dg.AssetExecutionContext, production: PostgresResource, output: OutputResource
    ) -> Iterator[dg.MaterializeResult[None] | dg.AssetCheckResult]:
        """Write the selected extracts, all from one version of production.

        One whose check alone is selected is written, too, if it is not of this version.
        """
        assets, checks = context.selected_asset_keys, context.selected_asset_check_keys
        wanted = [
            extract
            for extract in line.extracts
            if extract_key(extract.name) in assets or _check(extract).key in checks
        ]
        declared = [each.name for each in (*lines.extracts, *lines.own_reports)]
        written = write_extracts(production.connection(), output.path, wanted, declared)
        for extract in wanted:
            key, files = extract_key(extract.name), written[extract.name]
            is_checked = _check(extract).key in checks
            found = [_check_result(extract, files)] if is_checked else []
            if key not in assets:
                yield from found
                continue
            yield dg.MaterializeResult(
                key,
                metadata=_metadata(extract, files),
                data_version=dg.DataVersion(files.data_version),
                check_results=found,
            )

    return write


def dashboard_page(lines: Lines, line: Line, dashboard: Dashboard) -> dg.AssetsDefinition:
    """The page of a dashboard. Raises `ForeignTable` if it reads what no line publishes."""
    published = {table.name for table in lines.published}

    @dg.asset(
        key=extract_key(dashboard.name),
        deps=[production_key(table) for table in page_lineage.tables(dashboard, published)],
        description=dashboard.description,
        group_name="extracts",
        owners=[line.owner],
        kinds={"python", "html"},
        freshness_policy=FRESH,
        code_version=page_code_version(dashboard),
        pool=POOL,
    )
    def build(production: PostgresResource, output: OutputResource) -> dg.MaterializeResult[None]:
        """Write the page, and pictures of its charts beside it.

        Nothing is written if the tables and the code of the page are the same as last time.
        """
        number, version = _versions(production.connection(), dashboard)
        told = None
        if not page_lineage.may_change_by_itself(dashboard):
            told = kept.find(output.path, dashboard.name, version)
        is_new = told is None
        if told is None:
            told = _build(production.connection(), output.path, dashboard)
            # After a publication in between, the page is of other tables than those.
            if told["version"] == number:
                files = [output.path / each for each in (told["page"], *told["pictures"].values())]
                kept.keep(output.path, dashboard.name, version, files, told)
        return dg.MaterializeResult(
            metadata={
                "production version": told["version"],
                "state": _state(told["version"], is_new),
                **page_metadata(told, output.path),
                **shown(dashboard, production_key),
            },
            data_version=dg.DataVersion(version),
        )

    return build


def page_metadata(told: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Where a page of this folder and its pictures are, and its figures. `told`: see `tell`."""
    return {
        # A browser opens no file for a page that a server sent, and the file is for its owner only.
        "page": dg.MetadataValue.url(address_of_page(told["page"])),
        "file": dg.MetadataValue.path(str((folder / told["page"]).resolve())),
        "bytes": told["bytes"],
        "seconds to write": told["seconds"],
        **told["figures"],
        # The files and not the pictures themselves: an event is read again and again.
        **{
            f"chart: {name}": dg.MetadataValue.path(str(folder / file))
            for name, file in told["pictures"].items()
        },
    }


def shown(
    dashboard: Dashboard, key_of: Callable[[str], dg.AssetKey]
) -> dict[str, dg.MetadataValue]:
    """What a page shows, as its columns, and the columns that this comes from.

    `key_of`: the asset key of a table that the SQL names.
    """
    parts = list(page_lineage.shown(dashboard.page))
    columns = [dg.TableColumn(each.name, each.kind, each.description) for each in parts]
    origins = {
        each.name: [dg.TableColumnDep(key_of(table), name) for table, name in each.origins]
        for each in parts
    }
    return {
        "dagster/column_schema": dg.MetadataValue.table_schema(dg.TableSchema(columns)),
        "dagster/column_lineage": dg.MetadataValue.column_lineage(dg.TableColumnLineage(origins)),
    }


_CODE_OF_PAGES = (
    kit.__name__,
    # What the parts of a declaration mean.
    "softcart_assets.lines.page",
    page_lineage.__name__,
    "softcart_assets.lineage",
    # What is told of a page, which is kept with its files.
    __name__,
)


def page_code_version(dashboard: Dashboard) -> str:
    """A number of the code of a page: of its declaration, and of what makes a page of one."""
    modules = (*_CODE_OF_PAGES, *page_lineage.finders(dashboard.page))
    return kept.digest([list(map(kept.code_version, modules)), dashboard.page])


def _versions(production: PostgresConnection, dashboard: Dashboard) -> tuple[int | None, str]:
    """The version of production, None before the first, and that of a page: of tables and code."""
    with production.connect() as session:
        session.isolation_level = IsolationLevel.REPEATABLE_READ
        session.read_only = True
        names, number, tables = page_lineage.tables_read(dashboard), None, []
        # Where a table is missing, nothing is kept. The page says so, or its builder.
        with suppress(psycopg.errors.UndefinedTable), session.transaction():
            row = session.execute("SELECT version FROM production_meta.current").fetchone()
            tables = [kept.table_version(session, table) for table in names]
            number = row[0] if row else None
    return number, kept.digest([page_code_version(dashboard), tables])


def _build(production: PostgresConnection, folder: Path, dashboard: Dashboard) -> dict[str, Any]:
    """Write a page. Returns what is told about it."""
    # Only here, because loading Altair takes a second.
    from softcart_assets.pages.kit.render import build_page

    return tell(build_page(production, dashboard.page, folder / f"{dashboard.name}.html"))


def tell(page: "PageResult") -> dict[str, Any]:
    """What is told about a page, as JSON, with files by their names."""
    return {
        "page": page.path.name,
        "bytes": page.bytes,
        "seconds": round(page.seconds, 2),
        "version": page.version,
        # Amounts of two currencies are never added.
        "figures": {
            " ".join(filter(None, (name, currency))): str(total)
            for currency, sums in page.totals.items()
            for name, total in sums.items()
        },
        "pictures": {name: file.name for name, file in page.pictures.items()},
    }
