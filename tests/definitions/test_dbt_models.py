"""How the dbt models are split into ops: by line of business, so that one line does not wait for
another.
"""

import json
import os
import subprocess
from unittest.mock import MagicMock

import dagster as dg
import pytest
from support.cafe import add_cafe

from softcart_assets.assembly import LINES
from softcart_assets.components import dbt_models as dbt_models_module
from softcart_assets.components.dbt_models import (
    MisplacedModel,
    UnassignedTest,
    UnknownMaterialization,
    captured_tables_read,
    dbt_models,
)
from softcart_assets.dbt import DBT, PLACEHOLDERS
from softcart_assets.resources import PostgresResource, RawStateResource


@pytest.fixture(scope="module")
def two_lines(tmp_path_factory):
    """The lines with one more, and the manifest of a project that has its models, too."""
    folder = tmp_path_factory.mktemp("two_lines")
    project = folder / "dbt_project"
    lines = add_cafe(folder)
    settings = {f"SOFTCART_STAGING_{name}": value for name, value in PLACEHOLDERS.items()}
    subprocess.run(
        [DBT, "--quiet", "parse", "--profiles-dir", project],
        cwd=project,
        env={**os.environ, **settings},
        check=True,
    )
    return lines, json.loads((project / "target" / "manifest.json").read_text())


def models_of(ops) -> dict[str, set[str]]:
    return {op.op.name: {key.path[-1] for key in op.keys} for op in ops}


def test_every_model_belongs_to_exactly_one_op(two_lines):
    lines, manifest = two_lines
    ops = dbt_models(lines, manifest)
    found = [key.path[-1] for op in ops for key in op.keys]
    models = [n["name"] for n in manifest["nodes"].values() if n["resource_type"] == "model"]
    assert sorted(found) == sorted(models)
    assert list(models_of(ops)) == [
        *("dbt_customers", "dbt_conformed", "dbt_inspire", "dbt_shop", "dbt_telecom", "dbt_cafe")
    ]


def test_every_test_is_a_check_of_exactly_one_op(two_lines):
    lines, manifest = two_lines
    ops = dbt_models(lines, manifest)
    checks = [key.name for op in ops for key in op.check_keys]
    tests = [n["name"] for n in manifest["nodes"].values() if n["resource_type"] == "test"]
    assert sorted(checks) == sorted(tests)


def test_lines_do_not_read_each_other(two_lines):
    """A test of the cafés that fails thus stops no model of the shop."""
    ops = {op.op.name: op for op in dbt_models(*two_lines)}
    produced = {name: set(op.keys) for name, op in ops.items()}
    reads = {
        name: {
            *(dep.asset_key for spec in op.specs for dep in spec.deps),
            *(dep.asset_key for spec in op.check_specs for dep in spec.additional_deps),
        }
        for name, op in ops.items()
    }
    assert not reads["dbt_conformed"] & (produced["dbt_shop"] | produced["dbt_cafe"])
    assert not reads["dbt_shop"] & produced["dbt_cafe"]
    assert not reads["dbt_cafe"] & produced["dbt_shop"]
    assert reads["dbt_cafe"] & produced["dbt_conformed"]


def test_a_test_that_reads_models_of_two_ops_belongs_to_the_one_whose_model_it_tests(two_lines):
    ops = {op.op.name: op for op in dbt_models(*two_lines)}
    conformed, shop = ops["dbt_conformed"], ops["dbt_shop"]
    [key] = [key for key in shop.check_keys if key.name == "references_resolved_fct_order_lines"]
    assert key.asset_key.path[-1] == "fct_order_lines"
    assert shop.get_spec_for_check_key(key).additional_deps
    assert not [key for key in conformed.check_keys if key.name.startswith("references_resolved")]


def test_an_op_runs_what_is_selected_and_no_tests_of_other_models(two_lines, monkeypatch):
    """By default dbt runs every test that reads a selected model. A fact was held behind a failed
    check, and its tests ran with the staging models that followed: they found its rows missing.
    """
    asked = []

    def run_dbt(command, nodes, *_):
        asked.append((command, {node.split(".")[2] for node in nodes}))
        return []

    for owner, name in (
        (dbt_models_module.warehouse_state, "prepare"),
        (dbt_models_module.bookkeeping, "prepare"),
        (PostgresResource, "connection"),
        (RawStateResource, "building"),
    ):
        monkeypatch.setattr(owner, name, MagicMock())
    monkeypatch.setattr(dbt_models_module, "run_dbt", run_dbt)
    ops = dbt_models(*two_lines)
    resources = {
        "staging": PostgresResource(prefix="NOT_ASKED"),
        "raw_state": RawStateResource(prefix="NOT_ASKED"),
    }
    key = dg.AssetKey(["staging", "stg_shop__orders"])
    [own] = [
        {each.name for each in op.check_keys if each.asset_key == key}
        for op in ops
        if key in op.keys
    ]
    for selection in (dg.AssetSelection.assets(key), dg.AssetSelection.checks_for_assets(key)):
        dg.materialize(ops, selection=selection, resources=resources, raise_on_error=False)
    assert "one_to_one_with_raw_stg_shop__orders" in own
    assert asked == [("build", {key.path[-1], *own}), ("test", own)]


def test_dagster_does_not_split_the_ops():
    from softcart_assets.definitions import defs

    nodes = {node.name for node in defs().resolve_implicit_global_asset_job_def().graph.nodes}
    assert {name for name in nodes if name.startswith("dbt_")} == {
        "dbt_customers",
        *(f"dbt_{line.name}" for line in LINES),
    }


def test_models_belong_to_whom_their_folder_names(two_lines):
    owners = {
        key.path[-1]: spec.owners
        for op in dbt_models(*two_lines)
        for key, spec in op.specs_by_key.items()
    }
    assert owners["fct_order_lines"] == owners["stg_catalog__products"] == ["team:shop"]
    assert owners["fct_visits"] == owners["stg_cafe_menu__drinks"] == ["team:cafe"]
    assert owners["dim_customer"] == ["team:data"]


@pytest.mark.parametrize("folders", [("warehouse", "conformde"), ("warehouse",), ()])
def test_a_model_in_the_folder_of_no_line_is_refused(two_lines, folders):
    _, manifest = two_lines
    manifest = json.loads(json.dumps(manifest))
    [node] = [n for n in manifest["nodes"].values() if n["name"] == "dim_date"]
    node["fqn"] = ["softcart", *folders, "dim_date"]
    node["original_file_path"] = "/".join(("models", *folders, "dim_date.sql"))
    with pytest.raises(MisplacedModel, match=f"dbt_project/{node['original_file_path']} is in no"):
        dbt_models(LINES, manifest)


def test_a_materialization_that_no_marks_are_kept_of_is_refused(two_lines):
    """It was refused by its first run, and by nothing before."""
    _, manifest = two_lines
    manifest = json.loads(json.dumps(manifest))
    [node] = [n for n in manifest["nodes"].values() if n["name"] == "dim_date"]
    node["config"]["materialized"] = "ephemeral"
    with pytest.raises(UnknownMaterialization, match=r"dim_date.sql is materialized as 'ephemeral"):
        dbt_models(LINES, manifest)


def test_a_test_that_no_op_would_run_is_refused(two_lines):
    lines, manifest = two_lines
    manifest = json.loads(json.dumps(manifest))
    test = next(
        node
        for node in manifest["nodes"].values()
        if node["resource_type"] == "test"
        and node["config"]["meta"].get("dagster")
        and len(node["depends_on"]["nodes"]) > 1
    )
    test["config"]["meta"], test["attached_node"] = {}, None
    with pytest.raises(UnassignedTest, match=f"{test['original_file_path']} reads .* never run"):
        dbt_models(lines, manifest)


def test_models_know_the_captured_tables_that_they_read_through_views(two_lines):
    lines, manifest = two_lines
    of_facts = captured_tables_read(lines, manifest, {"fct_order_lines"})
    assert ("shop", "orders") in of_facts
    captured = {(s.name, t.name) for s, t in lines.tables() if t.strategy == "cdc"}
    assert of_facts < captured
    # The history of customers is read, and not the table itself.
    assert ("shop", "customers") in captured_tables_read(lines, manifest, {"dim_customer"})
    assert captured_tables_read(lines, manifest, {"dim_date"}) == set()
