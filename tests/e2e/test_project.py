"""The project as a newcomer meets it: the demo and its outcome, materialising by hand, metadata, README."""

from __future__ import annotations

import csv
import re
import shlex
import subprocess
import time
from collections.abc import Iterator

import dagster as dg
import pyarrow.parquet as pq
import pytest
import typer

from softcart_assets.cli import app
from softcart_assets.connections import production
from softcart_assets.demo import LAYERS
from softcart_assets.extracts.catalog import EXTRACTS
from softcart_assets.sources import SOURCES
from softcart_assets.stack import REPOSITORY

MATERIALIZE = ("dagster", "asset", "materialize", "-m", "softcart_assets.definitions", "--select")


def _version() -> int:
    with production().connect() as session:
        [version] = session.execute("SELECT version FROM production_meta.current").fetchone() or [0]
        return version


def test_the_demo_ends_with_a_summary_of_what_there_is(project, definitions):
    graph = definitions.resolve_asset_graph()
    rows = {
        layer: (int(assets), rows)
        for layer, assets, rows in re.findall(r"│ (\w+) +│ +(\d+) │ +([\d,]+|–) │", project.told)
    }
    assert {layer: assets for layer, (assets, _) in rows.items()} == {
        layer: len([key for key in graph.materializable_asset_keys if key.path[0] == layer]) for layer in LAYERS
    }
    # A view has no rows of its own.
    assert [layer for layer, (_, count) in rows.items() if count in ("–", "0")] == ["staging"]
    checks = len(graph.asset_check_keys)
    assert f"Checks: {checks} of {checks} passed." in project.told
    assert (project.extracts / "dashboard.html").as_uri() in "".join(project.told.split())


def test_every_extract_is_a_csv_and_a_parquet_file_with_the_same_rows(project):
    for extract in EXTRACTS:
        rows = pq.read_table(project.extracts / f"{extract.name}.parquet")
        with (project.extracts / f"{extract.name}.csv").open(newline="", encoding="utf-8-sig") as file:
            header, *lines = csv.reader(file)
        assert header == rows.column_names == [column.name for column in extract.columns]
        assert len(lines) == len(rows) > 0, extract.name


def _metadata(instance: dg.DagsterInstance, key: dg.AssetKey) -> dict:
    event = instance.get_latest_materialization_event(key)
    assert event, f"{key.to_user_string()} was never materialised"
    return dict(event.asset_materialization.metadata)


def test_every_asset_tells_its_rows_and_columns(definitions, instance):
    lacking = {
        key.to_user_string(): lack
        for key in definitions.resolve_asset_graph().materializable_asset_keys
        if key.path != ["extracts", "dashboard"]  # a page
        and (metadata := _metadata(instance, key)) is not None
        and (
            lack := [
                name
                for name, found in (
                    # To count a view is to compute it; its check counts it against the raw table.
                    ("row count", key.path[0] == "staging" or metadata["dagster/row_count"].value > 0),
                    ("column schema", metadata["dagster/column_schema"].schema.columns),
                )
                if not found
            ]
        )
    }
    assert not lacking


def _origins(instance: dg.DagsterInstance, key: dg.AssetKey, column: str) -> Iterator[str]:
    """The source columns that a column comes from, as `source/table.column`, by the lineage that each asset tells."""
    if key.path[0] in {source.name for source in SOURCES}:
        yield f"{key.to_user_string()}.{column}"
        return
    metadata = _metadata(instance, key)
    if key.path[0].startswith("raw_") and column in ("_deleted", "_loaded_at", "_position", "_version"):
        return  # what a load notes of its own
    assert column in {c.name for c in metadata["dagster/column_schema"].schema.columns}, f"{key} has no {column}"
    for dependency in metadata["dagster/column_lineage"].lineage.deps_by_column[column]:
        yield from _origins(instance, dependency.asset_key, dependency.column_name)


def test_every_column_of_the_extracts_leads_back_to_columns_of_the_sources(instance):
    leading_nowhere = {
        f"{extract.name}.{column.name}": column.sources
        for extract in EXTRACTS
        for column in extract.columns
        if column.sources and not list(_origins(instance, dg.AssetKey(["extracts", extract.name]), column.name))
    }
    # Numbers of rows come from no column, and the devices are a list of ours.
    assert set(leading_nowhere.values()) <= {("dim_device.device",)}, leading_nowhere
    origins = set(_origins(instance, dg.AssetKey(["extracts", "ext_sales_overview"]), "margin_amount"))
    lines = "shop/order_lines"
    assert origins == {f"{lines}.{name}" for name in ("quantity", "unit_price", "unit_cost", "discount_amount")}


def test_the_demo_again_changes_nothing(project):
    before, version = project.published(), _version()
    pages = {path.name: path.read_bytes() for path in project.extracts.glob("*.csv")}
    code, told = project.demo()
    assert code == 0, told
    assert "The sources hold this seed already" in told
    assert project.published() == before
    assert _version() == version + 1
    assert {path.name: path.read_bytes() for path in project.extracts.glob("*.csv")} == pages


def test_one_asset_or_a_group_can_be_materialised_from_the_shell(project, definitions, instance):
    """The three commands run at the same time, as three people's might."""
    graph = definitions.resolve_asset_graph()
    selections = {
        "warehouse/fct_order_lines": {dg.AssetKey(["warehouse", "fct_order_lines"])},
        # Published together, whatever is selected: tables that go live one by one would not fit together.
        "production/dim_vendor": {key for key in graph.materializable_asset_keys if key.path[0] == "production"},
        "group:aggregates": {key for key in graph.materializable_asset_keys if key.path[0] == "aggregates"},
    }
    started = time.time()
    commands = [project.start("softcart", "run", "--", *MATERIALIZE, selection) for selection in selections]
    for command in commands:
        told, _ = command.communicate()
        assert command.returncode == 0, told
    latest = {key: instance.get_latest_materialization_event(key) for key in graph.materializable_asset_keys}
    made = {key for key, event in latest.items() if event and event.timestamp > started}
    assert made == set().union(*selections.values())


def _readme_commands() -> list[str]:
    blocks = re.findall(r"^```sh\n(.*?)^```", (REPOSITORY / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if shlex.split(line, comments=True)]


@pytest.mark.parametrize("line", _readme_commands())
def test_every_command_of_the_readme_exists(line, definitions):
    program, *arguments = shlex.split(line, comments=True)
    match program.rpartition("/")[2]:
        case "make":
            told = subprocess.run(["make", "-n", *arguments], cwd=REPOSITORY, capture_output=True, text=True)
            assert told.returncode == 0, told.stderr
        case "softcart":
            commands = typer.main.get_command(app)
            context = commands.make_context("softcart", arguments)
            name, command, rest = commands.resolve_command(context, arguments)
            inner = command.make_context(name, rest, parent=context)  # refuses what is not an option
            if name == "run" and inner.params["command"][:-1] == list(MATERIALIZE):
                selection = dg.AssetSelection.from_string(inner.params["command"][-1])
                assert selection.resolve(definitions.resolve_asset_graph())
        case "cp":
            assert (REPOSITORY / arguments[0]).exists()
        case _:
            pytest.fail(f"Nothing says how to test {line!r}.")
