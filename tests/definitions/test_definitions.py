"""What holds for every asset: the graph is whole, points one way and tells a newcomer what she
sees.
"""

import importlib
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from unittest.mock import MagicMock

import dagster as dg
import pytest
import yaml

from softcart_assets.assembly import LINES
from softcart_assets.components import raw
from softcart_assets.components.keys import report_key

ROOT = Path(__file__).resolve().parents[2]

RAW = {source.schema for source in LINES.sources}
LAKE = {source.lake for source in LINES.sources}

FILES = {source.reporting for source in LINES.sources}

# Which layers an asset may read: the one before it, and its own for what is built in steps. An
# aggregate and a model may join sources; a raw or lake table is made from one. A history goes with
# its raw table.
READS = {
    "sources": set(),
    **{source.schema: {"sources", source.schema} for source in LINES.sources},
    **{source.lake: {source.schema} for source in LINES.sources},
    "staging": RAW,
    "warehouse": {"staging", "warehouse", "identities"},
    "identities": {"warehouse"},
    "aggregates": LAKE,
    "ml": {"aggregates", "ml"},
    "production": {"warehouse", "aggregates", "ml"},
    "extracts": {"production", "extracts"},
    **{source.reporting: {"sources"} for source in LINES.sources if source.reported},
    **({"ods": RAW} if any(source.totals for source in LINES.sources) else {}),
}


@pytest.fixture(scope="module")
def graph():
    from softcart_assets.definitions import defs

    return defs().resolve_asset_graph()


def _specs(graph) -> list:
    return [graph.get(key) for key in sorted(graph.get_all_asset_keys())]


def test_loading_the_definitions_imports_nothing_that_only_some_runs_need(graph):
    """Each process of Dagster's pays for it: dbt takes 1.5 CPU seconds, pandas 0.4."""
    needless = (
        *("agate", "altair", "dagster_dbt", "dbt", "faker", "mlflow", "networkx", "pandas"),
        *("pymongo", "sklearn", "splink"),
    )
    program = (
        "import sys; from softcart_assets.definitions import defs; defs(); "
        f"print(*[name for name in {needless} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert (done.stdout.strip(), done.returncode) == ("", 0), done.stderr


def test_every_layer_has_assets(graph):
    assert {node.group_name for node in _specs(graph)} == set(READS)


def test_group_is_the_layer_and_the_key_prefix(graph):
    wrong = [
        node.key.to_user_string()
        for node in _specs(graph)
        if node.group_name != "sources" and node.key.path[0] != node.group_name
    ]
    assert not wrong


def test_every_asset_tells_what_it_is(graph):
    lacking = {
        node.key.to_user_string(): lack
        for node in _specs(graph)
        if (
            lack := [
                name
                for name, value in (
                    ("description", node.description),
                    ("owner", node.owners),
                    ("kinds", node.kinds),
                )
                if not value
            ]
        )
    }
    assert not lacking


def test_every_table_has_its_name(graph):
    named = {
        node.key.to_user_string(): node.metadata.get("dagster/table_name")
        for node in _specs(graph)
        if node.group_name not in {"sources", "extracts", *FILES}
    }
    assert named == {key: key.replace("/", ".") for key in named}


def test_descriptions_are_for_people(graph):
    """Those of models had their SQL in them, up to 7,000 characters of it."""
    long = {
        node.key.to_user_string(): len(node.description)
        for node in _specs(graph)
        # The docstring of a job describes each of its columns.
        if node.group_name != "aggregates" and len(node.description) > 1_000
    }
    assert not long
    assert not [node.key for node in _specs(graph) if "SELECT" in node.description.upper().split()]


def test_every_asset_has_a_check(graph):
    """36 of 95 had none. A page is compared with the facts by its builder, which then fails."""
    checked = {key.asset_key for key in graph.asset_check_keys}
    lacking = {key for key in graph.materializable_asset_keys if key not in checked}
    pages = {dg.AssetKey(["extracts", page.name]) for page in LINES.dashboards}
    own = {report_key(each, page.name) for each in LINES.sources for page in each.dashboards}
    assert lacking == pages | own


def test_every_extract_is_compared_with_what_it_is_made_of():
    made = (*LINES.extracts, *LINES.own_reports)
    assert [each.name for each in made if not each.totals] == []


def test_columns_of_raw_say_what_they_mean():
    """They told their type at the source only."""
    source, table = next(iter(LINES.tables()))
    declared, new = table.columns[0], "added_today"
    columns = [
        {
            "name": name,
            "source_type": "bigint",
            "target_type": "bigint",
            "nullable": True,
            "privacy": None,
        }
        for name in (declared.name, new)
    ]
    shown = raw._columns(source, table, MagicMock(columns=columns))["dagster/column_schema"]
    told = {column.name: column.description for column in shown.schema.columns}
    assert told == {
        declared.name: f"{declared.description} Source type bigint.",
        new: "Source type bigint.",
    }
    assert declared.description


def test_whoever_answers_for_a_line_owns_its_assets(graph):

    for line in LINES:
        for source, table in line.tables():
            for layer in (source.name, source.schema, source.lake):
                owned = graph.get(dg.AssetKey([layer, table.name])).owners
                assert owned == [line.owner_of(source)], (layer, table.name)
        for published in line.published:
            assert graph.get(dg.AssetKey(["production", published.name])).owners == [line.owner]
        for made in (*line.extracts, *line.dashboards):
            assert graph.get(dg.AssetKey(["extracts", made.name])).owners == [line.owner]
    assert len({line.owner for line in LINES}) == len(LINES)


def test_no_asset_depends_on_one_that_does_not_exist(graph):
    """`dg check defs` lets such a dependency pass: it makes a nameless external asset of it."""
    declared = {dg.AssetKey([s.name, t.name]) for s in LINES.sources for t in s.tables}
    declared |= {dg.AssetKey(["ods", total.name]) for s in LINES.sources for total in s.totals}
    dangling = [
        node.key.to_user_string()
        for node in _specs(graph)
        if not node.is_materializable and node.key not in declared
    ]
    assert not dangling


def test_data_only_moves_rightwards(graph):
    backwards = [
        f"{node.key.to_user_string()} reads {parent.to_user_string()}"
        for node in _specs(graph)
        for parent in node.parent_keys
        if graph.get(parent).group_name not in READS[node.group_name]
    ]
    assert not backwards


def test_every_declared_table_is_a_raw_and_a_lake_asset(graph):
    keys = graph.get_all_asset_keys()
    for source in LINES.sources:
        for table in source.tables:
            assert dg.AssetKey([source.schema, table.name]) in keys
            assert dg.AssetKey([source.lake, table.name]) in keys


def test_what_is_after_raw_follows_its_code(graph):
    """Without a version of its code, an asset would have another data version after each build.

    Totals are not built: they commit with raw.
    """
    unknown = [
        node.key.to_user_string()
        for node in _specs(graph)
        if node.group_name not in {"sources", "ods", *RAW} and not node.code_version
    ]
    assert not unknown


def test_loading_the_definitions_opens_no_connection():
    """A server that is down must not keep the code location from loading; here no server is to be
    had at all.
    """
    script = """
import socket

def refuse(self, address, *rest):
    raise AssertionError(f"connected to {address} while loading definitions")

socket.socket.connect = socket.socket.connect_ex = refuse
import pymysql
pymysql.connect = lambda *a, **k: refuse(None, "mysql")
import psycopg
psycopg.connect = psycopg.Connection.connect = lambda *a, **k: refuse(None, "postgresql")
from softcart_assets.definitions import defs
print(len(defs().resolve_asset_graph().get_all_asset_keys()))
"""
    finished = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={"PATH": "/usr/bin:/bin"},
    )
    assert finished.returncode == 0, finished.stderr
    assert int(finished.stdout.split()[-1]) > 50


LOAD = """
from softcart_assets.assembly import LINES
from softcart_assets.dbt import prepare_manifest
from softcart_assets.derive import derive
from softcart_assets.paths import REPOSITORY
derive(LINES, REPOSITORY)
prepare_manifest()
from softcart_assets.definitions import defs
print(*{key.path[0] for key in defs().resolve_asset_graph().materializable_asset_keys})
"""


def test_a_clone_without_the_lines_of_the_demo(tmp_path: Path) -> None:
    """The documented command deletes them. What the lines share is left, and can be published."""
    for name in ("softcart_assets", "dbt_project", "spark", "seed_data"):
        ignored = shutil.ignore_patterns("__pycache__", "target", "logs")
        shutil.copytree(ROOT / name, tmp_path / name, ignore=ignored)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    [command] = re.findall(r"^find .*$", (ROOT / "docs" / "add-a-line.md").read_text(), re.M)
    subprocess.run(command, shell=True, cwd=tmp_path, check=True)
    result = subprocess.run(
        [sys.executable, "-c", LOAD],
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    assert set(result.stdout.splitlines()[-1].split()) == {"identities", "warehouse", "production"}


def test_workspace_and_project_name_the_same_code_location():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["dg"]["project"]
    [entry] = yaml.safe_load((ROOT / "workspace.yaml").read_text())["load_from"]
    module = entry["python_module"]
    assert module["location_name"] == project["code_location_name"]
    assert module["module_name"] == project["code_location_target_module"]


def test_run_configuration_changes_no_resource():
    """A run's configuration could send a password, or a program of Spark's, to another place."""
    from softcart_assets.definitions import defs

    repository = defs().get_repository_def()
    resources = repository.get_top_level_resources()
    assert {"staging", "production", "spark", "io_manager"} <= set(resources)
    for name, resource in resources.items():
        assert resource.config_schema.config_type.fields == {}, name
    job = repository.get_implicit_global_asset_job_def()
    for name, attack in {
        "staging": {"prefix": "SOFTCART_EVIL"},
        "staging ": {"host": "evil.example", "password": {"env": "SOFTCART_STAGING_PASSWORD"}},
        "spark": {"spark_config": {"spark.jars": "http://evil.example/x.jar"}},
        "io_manager": {"base_dir": "/tmp/evil"},
    }.items():
        with pytest.raises(dg.DagsterInvalidConfigError, match="unexpected config entr"):
            dg.validate_run_config(job, {"resources": {name.strip(): {"config": attack}}})
    found = dg.validate_run_config(job, {})["resources"]
    assert found["staging"] == {"config": {"prefix": "SOFTCART_STAGING"}}


def test_a_mistake_in_the_definitions_does_not_end_the_process_that_runs_are_forked_from(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Runs could not start, and the only message was `unexpected EOF`."""

    def broken() -> None:
        raise SyntaxError("a mistake")

    monkeypatch.setattr("softcart_assets.definitions.defs", broken)
    monkeypatch.delitem(sys.modules, "softcart_assets.preloaded", raising=False)
    with pytest.raises(ImportError, match="a mistake"):
        importlib.import_module("softcart_assets.preloaded")
