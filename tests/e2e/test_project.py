"""The project as a newcomer meets it: the demo and its outcome, materialising by hand, metadata,
README.
"""

from __future__ import annotations

import csv
import re
import shlex
import subprocess
import time
from collections.abc import Mapping

import dagster as dg
import pyarrow.parquet as pq
import pytest
import typer

from softcart_assets.assembly import LINES
from softcart_assets.cli import app
from softcart_assets.demo import layers
from softcart_assets.extracts import lineage
from softcart_assets.paths import REPOSITORY

MATERIALIZE = ("dagster", "asset", "materialize", "-m", "softcart_assets.definitions", "--select")


def test_the_demo_ends_with_a_summary_of_what_there_is(project, definitions):
    graph = definitions.resolve_asset_graph()
    rows = {
        layer: (int(assets), rows)
        for layer, assets, rows in re.findall(
            r"^│ (\w+) +│ +(\d+) │ +([\d,]+|–) │$", project.told, re.MULTILINE
        )
    }
    assert {layer: assets for layer, (assets, _) in rows.items()} == {
        layer: len([key for key in graph.materializable_asset_keys if key.path[0] == layer])
        for layer in layers(LINES.sources)
    }
    # Staging has views only. Nobody counts their rows: that would read the raw tables again. So few
    # subscribers make no model, so there are no scores.
    without = [layer for layer, (_, count) in rows.items() if count in ("–", "0")]
    assert without == ["staging", "ml"]
    assert project.is_sound(definitions, project.told), project.told
    assert (project.extracts / "dashboard.html").as_uri() in "".join(project.told.split())


def test_every_extract_is_a_csv_and_a_parquet_file_with_the_same_rows(project):
    for extract in LINES.extracts:
        rows = pq.read_table(project.extracts / f"{extract.name}.parquet")
        with (project.extracts / f"{extract.name}.csv").open(
            newline="", encoding="utf-8-sig"
        ) as file:
            header, *lines = csv.reader(file)
        assert header == rows.column_names == list(extract.columns)
        assert len(lines) == len(rows) > 0, extract.name


def test_what_is_published_is_what_the_contracts_promise(project):
    code, told = project.run("softcart", "contracts", "check")
    assert (code, told) == (0, "Every contract says what there is.\n")


Metadata = dict[dg.AssetKey, Mapping[str, dg.MetadataValue]]


@pytest.fixture(scope="module")
def metadata(project, definitions) -> Metadata:
    """What every asset told when it was materialised last."""
    with dg.DagsterInstance.get() as instance:
        records = instance.get_asset_records(
            list(definitions.resolve_asset_graph().materializable_asset_keys)
        )
    entries = [record.asset_entry for record in records]
    return {
        entry.asset_key: entry.last_materialization.asset_materialization.metadata
        for entry in entries
    }


def test_every_asset_tells_its_rows_and_columns(definitions, metadata):
    graph = definitions.resolve_asset_graph()
    kinds = {key: graph.get(key).kinds for key in graph.materializable_asset_keys}
    tables = {
        key for key, found in kinds.items() if not found & {"html", "scikitlearn", "lightgbm"}
    }
    views = {key for key in tables if "view" in kinds[key]}
    assert views
    lacking = {
        key.to_user_string(): lack
        for key in tables
        if (
            lack := {
                "dagster/column_schema",
                "dagster/column_lineage",
                # Nobody counts the rows of a view: that would read what is behind it again.
                *(() if key in views else ("dagster/row_count",)),
            }
            - metadata[key].keys()
        )
    }
    assert not lacking
    empty = {key for key in tables - views if not metadata[key]["dagster/row_count"].value > 0}
    # So few people may be too few for a model.
    scores = {
        dg.AssetKey([layer, model.scores])
        for layer in ("ml", "production")
        for model in LINES.models
    }
    # Nobody has a complaint now, and no mail bounced.
    nobody = {
        dg.AssetKey(["crm_reports", "crm_open_complaints"]),
        dg.AssetKey(["raw_inspire", "suppressions"]),
        dg.AssetKey(["lake_inspire", "suppressions"]),
    }
    assert empty - nobody <= scores
    assert not [key for key in tables if not metadata[key]["dagster/column_schema"].schema.columns]


def _origins(metadata: Metadata, key: dg.AssetKey, column: str) -> set[str]:
    """The source columns that a column comes from, as `source/table.column`, by the lineage that
    each asset tells.
    """
    if key.path[0] in {source.name for source in LINES.sources}:
        return {f"{key.to_user_string()}.{column}"}
    if key.path[0].startswith("raw_") and column in (
        "_deleted",
        "_loaded_at",
        "_position",
        "_version",
    ):
        return set()  # what a load notes of its own
    columns = {each.name for each in metadata[key]["dagster/column_schema"].schema.columns}
    assert column in columns, f"{key.to_user_string()} has no {column}"
    dependencies = metadata[key]["dagster/column_lineage"].lineage.deps_by_column[column]
    return set().union(
        *(_origins(metadata, each.asset_key, each.column_name) for each in dependencies)
    )


def test_every_column_of_the_extracts_leads_back_to_columns_of_the_sources(metadata):
    leading_nowhere = {
        f"{extract.name}.{column}": published
        for extract in LINES.extracts
        for column, published in lineage.sources(extract).items()
        if published and not _origins(metadata, dg.AssetKey(["extracts", extract.name]), column)
    }
    # Numbers of rows come from no column, and the devices are a list of ours.
    assert set(leading_nowhere.values()) <= {(("dim_device", "device"),)}, leading_nowhere
    origins = _origins(metadata, dg.AssetKey(["extracts", "ext_sales_overview"]), "margin_amount")
    lines = "shop/order_lines"
    assert origins == {
        f"{lines}.{name}" for name in ("quantity", "unit_price", "unit_cost", "discount_amount")
    }


def test_one_asset_or_a_group_can_be_materialised_from_the_shell(project, definitions, instance):
    """The three commands run at the same time, as three people's might."""
    graph = definitions.resolve_asset_graph()
    selections = {
        "warehouse/fct_order_lines": {dg.AssetKey(["warehouse", "fct_order_lines"])},
        # Published with its line, whatever is selected, but recorded alone.
        "production/dim_vendor": {dg.AssetKey(["production", "dim_vendor"])},
        "group:aggregates": {
            key for key in graph.materializable_asset_keys if key.path[0] == "aggregates"
        },
    }
    started = time.time()
    commands = [
        project.start("softcart", "run", "--", *MATERIALIZE, selection) for selection in selections
    ]
    for command in commands:
        told, _ = command.communicate()
        assert command.returncode == 0, told
    latest = {
        key: instance.get_latest_materialization_event(key)
        for key in graph.materializable_asset_keys
    }
    made = {key for key, event in latest.items() if event and event.timestamp > started}
    assert made == set().union(*selections.values())


def _readme_commands() -> list[str]:
    blocks = re.findall(
        r"^```sh\n(.*?)^```", (REPOSITORY / "README.md").read_text(), re.MULTILINE | re.DOTALL
    )
    return [
        line for block in blocks for line in block.splitlines() if shlex.split(line, comments=True)
    ]


@pytest.mark.parametrize("line", _readme_commands())
def test_every_command_of_the_readme_exists(line, definitions):
    program, *arguments = shlex.split(line, comments=True)
    match program.rpartition("/")[2]:
        case "make":
            told = subprocess.run(
                ["make", "-n", *arguments], cwd=REPOSITORY, capture_output=True, text=True
            )
            assert told.returncode == 0, told.stderr
        case "softcart":
            commands = typer.main.get_command(app)
            context = commands.make_context("softcart", arguments)
            name, command, rest = commands.resolve_command(context, arguments)
            inner = command.make_context(
                name, rest, parent=context
            )  # refuses what is not an option
            if name == "run" and inner.params["command"][:-1] == list(MATERIALIZE):
                selection = dg.AssetSelection.from_string(inner.params["command"][-1])
                assert selection.resolve(definitions.resolve_asset_graph())
        case "cp":
            assert (REPOSITORY / arguments[0]).exists()
        case _:
            pytest.fail(f"Nothing says how to test {line!r}.")
