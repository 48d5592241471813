"""From a database to tested staging views, without a line that is written by hand.

The databases were not made for this project, and one is as awkward as MySQL allows.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import dagster as dg
import pytest
import yaml

from softcart_assets.assembly import LINES, Lines
from softcart_assets.components import dbt_models, failed_tests
from softcart_assets.components.failures import root_cause
from softcart_assets.connections import MySQLConnection, PostgresConnection
from softcart_assets.dbt import DBT
from softcart_assets.derive import derive
from softcart_assets.ingestion.connectors.mysql.discover import column_types, discover
from softcart_assets.lines.model import Line, Source
from softcart_assets.paths import REPOSITORY
from softcart_assets.resources import PostgresResource, RawStateResource
from softcart_assets.scaffold import first_files, write_missing
from tests.integration.test_sample_databases import SAMPLES, run_script
from tests.support.ingestion import load_all, query

AWKWARD = f"""
CREATE TABLE `user` (
  id INT UNSIGNED PRIMARY KEY COMMENT 'It is {{{{ the }}}} key: # and "so" on, {"very " * 20}long',
  `order` DECIMAL(12, 2), `table` BIGINT UNSIGNED, `order id` INT, `a-b%c` JSON, `имя` TIME,
  eMail VARCHAR(50), born YEAR, is_there TINYINT(1), bits BIT(3), picture BLOB,
  made DATETIME(6), seen TIMESTAMP(6) NULL, amount DOUBLE, `end` DATE
) COMMENT 'Somebody''s "users"';
CREATE TABLE without_key (id INT, {"long" * 15} INT);
CREATE TABLE {"_".join(["a", "long", "name"] * 4)} (
  `Order ID` INT, code VARCHAR(9), PRIMARY KEY (`Order ID`, code)
);
INSERT INTO `user` (id, `order`, `a-b%c`, `имя`) VALUES
  (4000000000, 1.50, '{{"a": 1}}', '01:00:00');
INSERT INTO without_key VALUES (1, 2), (1, 2);
"""


@pytest.fixture
def discovered(
    mysql: MySQLConnection,
    postgres: PostgresConnection,
    lake: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[[str, str], Source]:
    """Discovers the database that a script makes, as a source of that name, and loads it.

    The files are in the temporary folder, with a dbt project that has no models of other lines.
    """

    def discover_as(name: str, script: str) -> Source:
        run_script(mysql, script)
        source = discover(name, mysql, views=True)
        write_missing(first_files("it", source, column_types(source, mysql), tmp_path), tmp_path)
        derive(Lines([LINES.conformed, line_of(source)]), tmp_path)
        load_all(source, mysql, postgres, lake)
        return source

    project = tmp_path / "dbt_project"
    for part in ("macros", "tests/generic"):
        shutil.copytree(REPOSITORY / "dbt_project" / part, project / part)
    for file in ("dbt_project.yml", "profiles.yml", ".sqlfluff"):
        shutil.copy(REPOSITORY / "dbt_project" / file, project)
    for variable in ("host", "port", "user", "password", "database"):
        value = str(getattr(postgres, variable))
        monkeypatch.setenv(f"SOFTCART_STAGING_{variable.upper()}", value)
    # Where dbt looks, from any folder.
    monkeypatch.setenv("DBT_PROFILES_DIR", str(project))
    return discover_as


def line_of(source: Source) -> Line:
    return Line("it", "A line.", owner="team:data", sources=(source,))


def _check(folder: Path, *command: str | Path) -> str:
    """Run a program that must succeed, and return what it prints."""
    done = subprocess.run(
        command, cwd=folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.mark.parametrize("sample", ["film_rental", "payroll", "awkward"])
def test_discovered_models_pass_lint_and_build_untouched(
    discovered: Callable[[str, str], Source],
    postgres: PostgresConnection,
    tmp_path: Path,
    sample: str,
) -> None:
    script = AWKWARD if sample == "awkward" else (SAMPLES / f"{sample}.sql").read_text()
    source = discovered(sample, script.split("\n-- changes\n")[0])
    project = tmp_path / "dbt_project"
    _check(project, DBT, "build")
    _check(project, sys.executable, "-m", "sqlfluff", "lint", "models")
    declared = tmp_path / "softcart_assets" / "lines" / "it"
    # Ruff sorts imports by where it finds the modules.
    shutil.copy(REPOSITORY / "softcart_assets" / "lines" / "model.py", declared.parent)
    config = ("--config", REPOSITORY / "pyproject.toml")
    _check(tmp_path, sys.executable, "-m", "ruff", "check", *config, declared)
    _check(tmp_path, sys.executable, "-m", "ruff", "format", "--check", *config, declared)
    staging = project / "models" / "staging" / sample
    for path in (*declared.iterdir(), *staging.glob("*.sql"), staging / "_models.yml"):
        if path.is_file():
            assert all(len(line) <= 100 for line in path.read_text().splitlines()), path

    models = yaml.safe_load((staging / "_models.yml").read_text())["models"]
    for model, table in zip(models, source.tables, strict=True):
        view = f'staging."{model["name"]}"'
        built = query(
            postgres,
            "SELECT attname, atttypid FROM pg_attribute "
            "WHERE attrelid = %s::regclass AND attnum > 0 ORDER BY attnum",
            view,
        )
        assert built == [
            (each["name"], query(postgres, f"SELECT '{each['data_type']}'::regtype::oid")[0][0])
            for each in model["columns"]
        ]
        rows = f'SELECT count(*) FROM "{source.schema}"."{table.name}"'
        assert query(postgres, f"SELECT count(*) FROM {view}") == query(postgres, rows)


TWO_SEVENS = "CREATE TABLE t (id INT PRIMARY KEY, v INT);\nINSERT INTO t VALUES (1, 7), (2, 7);\n"


def test_the_contract_of_a_discovered_model_is_enforced(
    discovered: Callable[[str, str], Source], tmp_path: Path
) -> None:
    discovered("x", TWO_SEVENS)
    project = tmp_path / "dbt_project"
    contract = project / "models/staging/x/_models.yml"
    contract.write_text(contract.read_text().replace("data_type: integer", "data_type: text"))
    done = subprocess.run([DBT, "build"], cwd=project, capture_output=True, text=True)
    assert done.returncode != 0
    assert "enforced contract that failed" in done.stdout


def test_a_test_that_fails_in_dagster_shows_its_rows(
    discovered: Callable[[str, str], Source], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = discovered("x", TWO_SEVENS)
    project = tmp_path / "dbt_project"
    contract = project / "models/staging/x/_models.yml"
    contract.write_text(contract.read_text().replace("- t_id", "- v"))
    _check(project, DBT, "parse")
    manifest = json.loads((project / "target" / "manifest.json").read_text())
    for module in (dbt_models, failed_tests):
        monkeypatch.setattr(module, "PROJECT_DIR", project)
    *_, models = dbt_models.dbt_models(Lines([LINES.conformed, line_of(source)]), manifest)
    resources = {
        "staging": PostgresResource(prefix="SOFTCART_STAGING"),
        "raw_state": RawStateResource(prefix="SOFTCART_STAGING"),
    }
    result = dg.materialize([models], resources=resources, raise_on_error=False)
    [failed] = [each for each in result.get_asset_check_evaluations() if not each.passed]
    assert failed.check_name == "primary_key_stg_x__t"
    told = failed.description or ""
    assert "It checks columns: ['v'].\nUp to 5 of its rows:\nv=7, row_count=2\n" in told
    file = told.splitlines()[-1].removeprefix("Its SQL: ")
    assert "row_count" in (project.parent / file).read_text()
    # By hand, dbt shows them.
    shown = _check(project, DBT, "show", "-s", "primary_key_stg_x__t")
    assert "| 7 |         2 |" in shown
    [failure] = result.filter_events(lambda event: event.is_step_failure)
    # What the demo prints, too.
    assert told in root_cause(failure.step_failure_data.error)
