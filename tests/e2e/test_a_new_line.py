"""Adding a line of business means adding folders: `docs/add-a-line.md` as a test.

A copy of the project gets the folders of `tests/support/new_line`, and nothing else is changed. One
table of the new line has the name of a table of another line. The folders of all lines but the shop
are left out of the copy: a line goes as it came.

The copy is as awkward as anybody's may be: the path of its folder, the user, the time zone, the
locale and the modes of new files.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from support.lines import SHOP, clone_of

from softcart_assets.stack.postgres import NOBODY

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
    become: tuple[str, ...]
    """What to put before a command so that root does not run it."""
    told: str = ""

    def run(self, *command: str) -> str:
        """Run Python in the copy and return what it prints."""
        done = self._run(sys.executable, *command, stderr=subprocess.STDOUT)
        assert done.returncode == 0, done.stdout[-5000:]
        return done.stdout

    def softcart(self, *arguments: str) -> str:
        """Run the command line in the copy."""
        return self.run("-c", "from softcart_assets.cli import app; app()", *arguments)

    def ask(self, script: str) -> dict:
        """Run a script with the settings of the copy's stack; the JSON that it prints last."""
        env = self.softcart("env").splitlines()
        shell = "\n".join([*env, f'exec "{sys.executable}" -c "$SCRIPT"'])
        done = self._run("bash", "-c", shell, stderr=subprocess.PIPE, SCRIPT=script)
        assert done.returncode == 0, done.stderr[-5000:]
        return json.loads(done.stdout.splitlines()[-1])

    def _run(self, *command: str, stderr: int, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*self.become, *command],
            cwd=self.root,
            env=self.env | env,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            umask=0o077,
        )


def _ways_from_root() -> Iterator[tuple[str, ...]]:
    """Ways to become the user nobody, the plainest first."""
    setpriv = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups")
    yield (*setpriv, "--inh-caps=-all")
    # Python may be in the home of root. So the user may read everything, and write only his own.
    capability = "-all,+dac_read_search"
    yield (
        *(*setpriv, f"--inh-caps={capability}", f"--ambient-caps={capability}"),
        "--securebits=+no_setuid_fixup",
    )


def _become_ordinary() -> tuple[str, ...]:
    """What to put before a command so that root does not run it. Empty if there is no way."""
    for way in _ways_from_root() if os.geteuid() == 0 and shutil.which("setpriv") else ():
        # By a child of its own, which setpriv does not help any more.
        if (
            subprocess.run(
                [*way, "sh", "-c", f'"{sys.executable}" -c "import dagster"; exit $?']
            ).returncode
            == 0
        ):
            return way
    return ()


@pytest.fixture(scope="module")
def copy() -> Iterator[Copy]:
    """The project with the new line, after `softcart derive` and a small demo."""
    # Not pytest's own temporary folder, which another user cannot enter.
    folder = Path(tempfile.mkdtemp(prefix="softcart-e2e-"))
    root = folder / "Mein Klon [für (zwei)] 'ß'"
    become = _become_ordinary()
    clone_of(SHOP, root)
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
        "HOME": str(folder),
        "TZ": "Asia/Kolkata",
        "LC_ALL": "C",
    }
    if become:
        for path in (folder, *folder.rglob("*")):
            os.chown(path, NOBODY, NOBODY)
    project = Copy(root, env, become)
    try:
        project.softcart("derive")
        told = project.softcart("demo", "--scale", "0.003")
        yield replace(project, told=told)
    finally:
        project.softcart("down", "--delete-data")
        shutil.rmtree(folder)


@pytest.fixture(scope="module")
def there(copy: Copy) -> dict:
    """What there is after the demo."""
    return copy.ask(WHAT_THERE_IS)


def test_the_line_goes_from_its_sources_to_its_extract(copy: Copy, there: dict) -> None:
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
    extract = (copy.root / ".softcart" / "extracts" / "ext_visits_daily.csv").read_text("utf-8-sig")
    assert extract.splitlines()[0] == '"visit_date","drink_name","visit_count","amount"'
    assert "passed" in copy.told


def test_the_line_has_lineage_from_source_to_extract(there: dict) -> None:
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
    lines = {f"team:{name}" for name in ("data", "shop", "cafe")}
    assert {owner for asset in assets.values() for owner in asset["owners"]} == lines
    assert {tuple(assets[name]["owners"]) for name in of_the_line} == {("team:cafe",)}
    assert {"equals_source", "volume_plausible", "reconciles", "fresh"} <= set(
        assets["raw_cafe/visits"]["checks"]
    )
    assert "fct_visits_drink_key_resolves" in assets["production/fct_visits"]["checks"]


def test_the_derived_files_name_the_new_sources(copy: Copy) -> None:
    assert "SOFTCART_CAFE_HOST" in (copy.root / ".env.example").read_text()
    assert "SOFTCART_CAFE_MENU_URI" in (copy.root / "docker-compose.yml").read_text()
    sources = copy.root / "dbt_project/models/staging/cafe/_sources.yml"
    assert "Name of the guest." in sources.read_text()
    assert copy.softcart("derive").strip()  # says that nothing is out of date, or what it wrote


def test_everything_passes_in_an_odd_path_with_an_odd_locale(copy: Copy) -> None:
    # So small a shop has days without an order.
    warnings = re.findall(r"^ +warn (.*)", copy.told, re.MULTILINE)
    assert set(warnings) <= {"raw_shop/orders: latest_day_present"}
    home = copy.root / ".softcart"
    assert (home / "extracts" / "dashboard.html").as_uri() in "".join(copy.told.split())
    assert home.stat().st_mode & 0o777 == 0o700


def test_an_ordinary_user_can_do_it_all(copy: Copy) -> None:
    if os.geteuid() == 0 and not copy.become:
        pytest.skip("root runs the tests, and setpriv cannot make it an ordinary user here")
    assert (copy.root / ".softcart").stat().st_uid != 0
