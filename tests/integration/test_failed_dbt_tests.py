"""What is shown of a failed dbt test: its limits, its figures and keys, and no personal data."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from softcart_assets.assembly import Lines
from softcart_assets.components.failed_tests import explained
from softcart_assets.connections import PostgresConnection
from softcart_assets.lines.model import NONE, PII, Column, Line, Published, Source, Table

TABLE = Table("t", "", ("email",), "snapshot", (Column("email", PII), Column("code", NONE)))
LINES = Lines([Line("x", "", owner="team:x", sources=(Source("x", "mysql", "", (TABLE,)),))])


def _told(
    postgres: PostgresConnection,
    folder: Path,
    sql: str,
    lines: Lines = LINES,
    names: list[str] | None = None,
    **arguments: Any,
) -> str:
    path = "models/staging/x/_models.yml"
    file = folder / "compiled" / "softcart" / path / "some_test.sql"
    file.parent.mkdir(parents=True)
    file.write_text(sql)
    test = {
        "name": "some_test",
        "path": "some_test.sql",
        "original_file_path": path,
        "package_name": "softcart",
        "test_metadata": {"kwargs": {"model": "{{ ref('m') }}", **arguments}},
        "depends_on": {"nodes": ["model.m"]},
    }
    columns = dict.fromkeys(names or ["order_id", "code", "email", "amount"])
    manifest = {"nodes": {"test.t": test, "model.m": {"columns": columns}}}
    with postgres.connect(autocommit=True) as session:
        return explained(session, lines, manifest, folder, test)


def test_limits_figures_and_keys_are_shown_and_other_values_are_not(
    postgres: PostgresConnection, tmp_path: Path
) -> None:
    sql = (
        "with rows as (select n as order_id, 'c' || n as code, 'a@b.c' as email, 3.5 as amount, "
        "2 as row_count from generate_series(1, 9) as n) select * from rows -- all"
    )
    told = _told(postgres, tmp_path, sql, columns=["order_id", "code", "email"])
    lines = told.splitlines()
    assert lines[:4] == [
        "some_test failed.",
        "It checks columns: ['order_id', 'code', 'email'].",
        "Up to 5 of its rows:",
        "order_id=1, code=c1, row_count=2",
    ]
    assert len(lines) == 10
    assert lines[-2] == "Left out, because they may be personal: email, amount"
    assert lines[-1].endswith("compiled/softcart/models/staging/x/_models.yml/some_test.sql")
    assert "a@b.c" not in told
    assert "3.5" not in told


def test_a_natural_key_is_shown_without_personal_columns(
    postgres: PostgresConnection, tmp_path: Path
) -> None:
    sql = "select 'c1' as code, 'a@b.c' as email"
    told = _told(postgres, tmp_path, sql, natural_key=["code", "email"])
    assert told.splitlines()[3:5] == [
        "code=c1",
        "Left out, because they may be personal: email",
    ]


def test_a_reference_is_shown_with_its_figure(postgres: PostgresConnection, tmp_path: Path) -> None:
    sql = "select 'order_id' as key_column, 7 as dangling_count"
    told = _told(postgres, tmp_path, sql, references={"order_id": {"to": "x"}})
    assert told.splitlines()[1:3] == [
        "Up to 5 of its rows:",
        "key_column=order_id, dangling_count=7",
    ]


def test_a_test_whose_sql_fails_says_so(postgres: PostgresConnection, tmp_path: Path) -> None:
    told = _told(postgres, tmp_path, "select * from missing")
    assert told.splitlines()[1] == 'Its SQL fails: relation "missing" does not exist'


@pytest.mark.parametrize("of_the_model", [True, False])
@pytest.mark.parametrize("declared", ["source", "pii", "sensitive"])
def test_a_personal_key_is_not_shown_whatever_its_name(
    postgres: PostgresConnection, tmp_path: Path, declared: str, of_the_model: bool
) -> None:
    """Its class is that of the source's column, or that of a published column of another name. A
    test may also read a source itself, which is no model.
    """
    privacy = PII if declared == "source" else NONE
    table = Table("t", "", ("tax_id",), "snapshot", (Column("tax_id", privacy),))
    published = () if declared == "source" else (Published("dim_t", **{declared: ("tax_id",)}),)
    source = Source("x", "mysql", "", (table,))
    lines = Lines([Line("x", "", owner="team:x", sources=(source,), published=published)])
    told = _told(
        postgres,
        tmp_path,
        "select 'DE123' as tax_id, 2 as row_count",
        lines,
        ["tax_id" if of_the_model else "code"],
        columns=["tax_id"],
    )
    assert "row_count=2" in told
    assert "DE123" not in told


RUNS_IT_FOR_DAGSTER = """
import sys
from pathlib import Path
from softcart_assets.components.dbt_runs import run_dbt

project = Path(sys.argv[1])
nodes = ["model.people.persons", "model.people.built", "test.people.unique_email"]
for result in run_dbt("build", nodes, project, project / "target"):
    print(result.message)
"""


@pytest.mark.parametrize(
    "program",
    [
        ["-m", "softcart_assets.dbt", "--log-level-file", "debug", "build", "--project-dir"],
        ["-c", RUNS_IT_FOR_DAGSTER],
    ],
    ids=["softcart dbt", "Dagster"],
)
def test_a_doubled_personal_key_is_told_without_its_value(
    postgres: PostgresConnection, tmp_path: Path, program: list[str]
) -> None:
    """In no message, log or result: PostgreSQL's detail of a unique index has the value."""
    with postgres.connect() as session:
        session.execute("CREATE TABLE raw AS SELECT 'a@b.example' AS email FROM (VALUES (1), (2))")
    (tmp_path / "models").mkdir()
    (tmp_path / "tests").mkdir()
    (tmp_path / "models" / "persons.sql").write_text("select * from public.raw")
    (tmp_path / "models" / "built.sql").write_text(
        "{{ config(materialized='table', indexes=[{'columns': ['email'], 'unique': true}]) }}"
        "select * from public.raw"
    )
    (tmp_path / "tests" / "unique_email.sql").write_text(
        "select email, count(*) from {{ ref('persons') }} group by email having count(*) > 1"
    )
    (tmp_path / "dbt_project.yml").write_text("{name: people, version: '1.0.0', profile: people}")
    login = {"host": postgres.host, "port": int(postgres.port), "user": postgres.user}
    target = {
        **{"type": "postgres", "schema": "public", "threads": 1, "dbname": postgres.database},
        **{**login, "password": postgres.password},
    }
    profile = {"people": {"target": "it", "outputs": {"it": target}}}
    (tmp_path / "profiles.yml").write_text(json.dumps(profile))
    done = subprocess.run(
        [sys.executable, *program, str(tmp_path)], capture_output=True, text=True, cwd=tmp_path
    )
    told = done.stdout + done.stderr
    assert "could not create unique index" in told
    assert "unique_email" in told
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert "-c" in program or {"dbt.log", "run_results.json"} <= {path.name for path in written}
    told += "".join(path.read_bytes().decode(errors="replace") for path in written)
    assert "a@b.example" not in told
