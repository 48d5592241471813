"""How the dbt models are split into ops: by line of business, so that one line does not wait for
another.
"""

import json
import os
import subprocess

import pytest
from support.cafe import add_cafe

from softcart_assets.assembly import LINES
from softcart_assets.components.dbt_models import (
    MisplacedModel,
    UnassignedTest,
    captured_tables_read,
    dbt_models,
    unselected_tests,
)
from softcart_assets.dbt import DBT, PLACEHOLDERS, prepare_manifest


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
    assert list(models_of(ops)) == ["dbt_conformed", "dbt_shop", "dbt_cafe"]


def test_every_test_is_a_check_of_exactly_one_op(two_lines):
    lines, manifest = two_lines
    ops = dbt_models(lines, manifest)
    checks = [key.name for op in ops for key in op.check_keys]
    tests = [n["name"] for n in manifest["nodes"].values() if n["resource_type"] == "test"]
    assert sorted(checks) == sorted(tests)
    # What an op does not run is run by another one.
    for op in ops:
        own = {key.name for key in op.check_keys}
        names = {key.path[-1] for key in op.keys}
        left_out = {each.rpartition(".")[2] for each in unselected_tests(manifest, names, own)}
        assert not left_out & own


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


def test_an_op_leaves_out_tests_of_models_that_are_not_selected(two_lines):
    """An op runs every test that reads a selected model. A fact was held behind a failed check, and
    its tests ran with the staging models that followed: they found the fact's rows missing.
    """
    lines, manifest = two_lines
    conformed, shop, *_ = dbt_models(lines, manifest)

    def left_out(names: set[str]) -> set[str]:
        checks = {
            key.name
            for op in (conformed, shop)
            for key in op.check_keys
            if key.asset_key.path[-1] in names
        }
        return {each.rpartition(".")[2] for each in unselected_tests(manifest, names, checks)}

    of_conformed = left_out({key.path[-1] for key in conformed.keys})
    assert "references_resolved_fct_order_lines" in of_conformed
    of_staging = left_out({"stg_shop__orders", "stg_shop__order_lines"})
    assert "fct_order_lines_match_source" in of_staging
    assert not {each for each in of_staging if each.startswith(("unique_stg", "not_null_stg"))}
    both = {"stg_shop__orders", "stg_shop__order_lines", "fct_order_lines"}
    assert "fct_order_lines_match_source" not in left_out(both)


def test_dagster_does_not_split_the_ops():
    prepare_manifest()
    from softcart_assets.definitions import defs

    nodes = {node.name for node in defs().resolve_implicit_global_asset_job_def().graph.nodes}
    assert {name for name in nodes if name.startswith("dbt_")} == {"dbt_conformed", "dbt_shop"}


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
