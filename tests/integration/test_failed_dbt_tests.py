"""What is shown of a failed dbt test: its limits, its figures and keys, and no personal data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from softcart_assets.assembly import Lines
from softcart_assets.components.failed_tests import explained
from softcart_assets.connections import PostgresConnection
from softcart_assets.lines.model import NONE, PII, Column, Line, Source, Table

TABLE = Table("t", "", ("email",), "snapshot", (Column("email", PII), Column("code", NONE)))
LINES = Lines([Line("x", "", owner="team:x", sources=(Source("x", "mysql", "", (TABLE,)),))])


def _told(postgres: PostgresConnection, folder: Path, sql: str, **arguments: Any) -> str:
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
    columns = dict.fromkeys(["order_id", "code", "email", "amount"])
    manifest = {"nodes": {"test.t": test, "model.m": {"columns": columns}}}
    with postgres.connect(autocommit=True) as session:
        return explained(session, LINES, manifest, folder, test)


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
