"""Adding a line of business means adding folders: `docs/add-a-line.md` as a test.

A copy of the project gets the folders of `tests/support/new_line`, and nothing else is changed. One
table of the new line has the name of a table of another line.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from softcart_assets.assembly import REPOSITORY

NEW = Path(__file__).parents[1] / "support" / "new_line"

WHAT_DAGSTER_KNOWS = """
import json
from softcart_assets.definitions import defs

definitions = defs()
graph = definitions.resolve_asset_graph()
nodes = [graph.get(key) for key in graph.get_all_asset_keys()]
checks = graph.asset_check_keys
print(json.dumps({
    "assets": {
        node.key.to_user_string(): {
            "parents": sorted(parent.to_user_string() for parent in node.parent_keys),
            "owners": list(node.owners),
            "checks": sorted(key.name for key in checks if key.asset_key == node.key),
        }
        for node in nodes
    },
    "sensors": sorted(sensor.name for sensor in definitions.sensors),
}))
"""

WHAT_THERE_IS = """
import json
import dagster as dg
from softcart_assets.connections import production, staging

def rows(database, *tables):
    with database.connect() as session:
        return {t: session.execute(f"SELECT count(*) FROM {t}").fetchone()[0] for t in tables}

def lineage(*path):
    with dg.DagsterInstance.get() as instance:
        event = instance.get_latest_materialization_event(dg.AssetKey(path))
        found = event.asset_materialization.metadata["dagster/column_lineage"].value
    return {
        column: sorted(f"{dep.asset_key.to_user_string()}.{dep.column_name}" for dep in deps)
        for column, deps in found.deps_by_column.items()
    }

print(json.dumps({
    "staging": rows(
        staging(), "raw_cafe.customers", "raw_shop.customers", "raw_cafe_menu.drinks",
        "warehouse.fct_visits", "aggregates.agg_visits_by_drink",
    ),
    "production": rows(
        production(), "production.fct_visits", "production.dim_drink",
        "production.agg_visits_by_drink", "production.fct_order_lines",
    ),
    "aggregate": lineage("aggregates", "agg_visits_by_drink"),
    "extract": lineage("extracts", "ext_visits_daily"),
}))
"""


@dataclass(frozen=True)
class Copy:
    """A copy of the project with one more line, and what its first demo printed."""

    root: Path
    env: dict[str, str]
    told: str = ""

    def run(self, *command: str) -> str:
        """Run Python in the copy and return what it prints."""
        done = subprocess.run(
            [sys.executable, *command],
            cwd=self.root,
            env=self.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert done.returncode == 0, done.stdout[-5000:]
        return done.stdout

    def softcart(self, *arguments: str) -> str:
        """Run the command line in the copy."""
        return self.run("-c", "from softcart_assets.cli import app; app()", *arguments)

    def ask(self, script: str) -> dict:
        """Run a script with the settings of the copy's stack; the JSON that it prints last."""
        env = self.softcart("env").splitlines()
        shell = "\n".join([*env, f'exec "{sys.executable}" -c "$SCRIPT"'])
        done = subprocess.run(
            ["bash", "-c", shell],
            cwd=self.root,
            env=self.env | {"SCRIPT": script},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr[-5000:]
        return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Copy]:
    """The project with the new line, after `softcart derive` and a small demo."""
    root = tmp_path_factory.mktemp("project") / "softcart"
    left_out = shutil.ignore_patterns(
        ".git", ".venv", ".softcart", "__pycache__", "build", ".*_cache"
    )
    shutil.copytree(REPOSITORY, root, ignore=left_out)
    shutil.copytree(NEW, root, dirs_exist_ok=True)
    env = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("SOFTCART_", "DAGSTER_"))
    }
    env |= {
        "SOFTCART_HOME": str(root / ".softcart"),
        "SOFTCART_SPARK_MEMORY": "1g",
        "PYTHONPATH": str(root),
        "PATH": f"{Path(sys.executable).parent}:{env['PATH']}",
    }
    project = Copy(root, env)
    try:
        project.softcart("derive")
        told = project.softcart("demo", "--scale", "0.003")
        yield Copy(root, env, told)
    finally:
        project.softcart("down", "--delete-data")


def test_the_line_goes_from_its_sources_to_its_extract(copy: Copy) -> None:
    there = copy.ask(WHAT_THERE_IS)
    shop_customers = there["staging"].pop("raw_shop.customers")
    assert there["staging"] == {
        "raw_cafe.customers": 2,
        "raw_cafe_menu.drinks": 3,
        "warehouse.fct_visits": 300,
        "aggregates.agg_visits_by_drink": 3,
    }
    assert shop_customers > 2  # of the same name, and another table
    assert there["production"].pop("production.fct_order_lines") > 0
    assert there["production"] == {
        "production.fct_visits": 300,
        "production.dim_drink": 4,
        "production.agg_visits_by_drink": 3,
    }
    extract = (copy.root / ".softcart" / "extracts" / "ext_visits_daily.csv").read_text()
    assert extract.splitlines()[0] == '"visit_date","drink_name","visit_count","amount"'
    assert "passed" in copy.told


def test_the_line_has_lineage_from_source_to_extract(copy: Copy) -> None:
    there = copy.ask(WHAT_THERE_IS)
    assert there["aggregate"]["amount"] == ["lake_cafe/visits.amount"]
    assert there["aggregate"]["drink_name"] == ["lake_cafe_menu/drinks.name"]
    assert there["extract"]["drink_name"] == ["production/dim_drink.drink_name"]


def test_dagster_knows_the_line(copy: Copy) -> None:
    known = copy.ask(WHAT_DAGSTER_KNOWS)
    assets = known["assets"]
    assert assets["raw_cafe/customers"]["parents"] == ["cafe/customers"]
    assert assets["lake_cafe/customers"]["parents"] == ["raw_cafe/customers"]
    assert assets["staging/stg_cafe__visits"]["parents"] == ["raw_cafe/visits"]
    assert "staging/stg_cafe__visits" in assets["warehouse/fct_visits"]["parents"]
    assert assets["aggregates/agg_visits_by_drink"]["parents"] == [
        "lake_cafe/visits",
        "lake_cafe_menu/drinks",
    ]
    assert assets["production/fct_visits"]["parents"] == ["warehouse/fct_visits"]
    assert assets["extracts/ext_visits_daily"]["parents"] == [
        "production/dim_drink",
        "production/fct_visits",
    ]
    of_the_line = [name for name in assets if "cafe" in name or "visits" in name or "drink" in name]
    assert len(of_the_line) >= 17
    assert {tuple(assets[name]["owners"]) for name in of_the_line} == {("team:cafe",)}
    assert {"equals_source", "volume_plausible", "reconciles", "fresh"} <= set(
        assets["raw_cafe/visits"]["checks"]
    )
    assert "fct_visits_drink_key_resolves" in assets["production/fct_visits"]["checks"]
    assert {"cafe_changes", "cafe_menu_changes"} <= set(known["sensors"])


def test_the_derived_files_name_the_new_sources(copy: Copy) -> None:
    assert "SOFTCART_CAFE_HOST" in (copy.root / ".env.example").read_text()
    assert "SOFTCART_CAFE_MENU_URI" in (copy.root / "docker-compose.yml").read_text()
    sources = copy.root / "dbt_project/models/staging/cafe/_sources.yml"
    assert "Name of the guest." in sources.read_text()
    assert copy.softcart("derive").strip()  # says that nothing is out of date, or what it wrote
