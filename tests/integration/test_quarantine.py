"""Quarantine on the command line and in the database: list, show, replay, erase, summaries."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.databases import database
from typer.testing import CliRunner

from softcart_assets import cli
from softcart_assets.assembly import Lines
from softcart_assets.connections import MongoConnection, MySQLConnection, PostgresConnection
from softcart_assets.ingestion.errors import UnknownEntry
from softcart_assets.ingestion.proof.verify import compare
from softcart_assets.ingestion.quarantine import (
    QuarantineSummary,
    entries_with,
    erase,
    list_quarantine,
    show,
    summarize,
)
from softcart_assets.lines.model import Line
from tests.support.ingestion import load_all, query, run, snapshot, source_of

PEOPLE = "CREATE TABLE people (id INT PRIMARY KEY, name VARCHAR(20), born DATE)"
SOURCE = source_of(snapshot("people", "id"), snapshot("visits"))


@pytest.fixture
def people(mysql: MySQLConnection, postgres: PostgresConnection, lake: str) -> MySQLConnection:
    """Three people, two of them unfit, and an unfit visit of one of these; loaded."""
    run(
        mysql,
        PEOPLE,
        "CREATE TABLE visits (person_id INT, on_day DATE)",
        "SET sql_mode = ''",
        "INSERT INTO people VALUES (1, 'Ann', '1980-01-01'), (2, 'Bob', '0000-00-00'), (3, "
        "'Čeněk', '1990-02-00')",
        "INSERT INTO visits VALUES (2, '0000-00-00'), (2, '0000-00-00'), (1, '2026-01-01')",
    )
    load_all(SOURCE, mysql, postgres, lake)
    return mysql


@pytest.fixture
def softcart(
    people: MySQLConnection,
    postgres: PostgresConnection,
    lake: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
):
    """Runs a command of ours on that data; its exit code and output."""
    monkeypatch.setattr(cli.settings, "environment", lambda **_: {})
    lines = Lines([Line("t", "", "team:test", sources=(SOURCE,))])
    monkeypatch.setattr("softcart_assets.assembly.LINES", lines)
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    for name, value in {
        "SHOP_HOST": people.host,
        "SHOP_PORT": people.port,
        "SHOP_USER": people.user,
        "SHOP_PASSWORD": people.password,
        "SHOP_DATABASE": people.database,
        "STAGING_DATABASE": postgres.database,
        "LAKE_URI": lake,
    }.items():
        monkeypatch.setenv(f"SOFTCART_{name}", str(value))

    def command(*arguments: str, answer: str | None = None) -> tuple[int, str]:
        result = CliRunner().invoke(cli.app, [*arguments], input=answer, env={"COLUMNS": "200"})
        assert result.exception is None or isinstance(result.exception, SystemExit), result.output
        return result.exit_code, result.output

    return command


def _entries(postgres: PostgresConnection, table: str = "people") -> dict[str, int]:
    return {
        row.row["id" if table == "people" else "person_id"] or "": row.id
        for row in list_quarantine(postgres, "t", table)
    }


def test_a_row_is_listed_shown_mended_and_replayed(
    softcart, people: MySQLConnection, postgres: PostgresConnection
) -> None:
    entries = _entries(postgres)
    code, told = softcart("quarantine", "list", "--table", "people")
    assert code == 0
    assert f"{entries['2']}  t.people  2  born: zero, partial or impossible date for date" in told
    assert "2 row(s) in quarantine" in told
    code, told = softcart("quarantine", "show", str(entries["3"]))
    assert json.loads(told[told.index("{") :]) == {"id": "3", "name": "Čeněk", "born": "1990-02-00"}
    run(people, "UPDATE people SET born = '1990-03-03' WHERE id = 3")
    code, told = softcart("quarantine", "replay", str(entries["3"]))
    assert (code, told.strip().splitlines()[-1]) == (0, "raw_t/people: 1 row(s) in, 1 still out")
    assert query(postgres, "SELECT born::text FROM raw_t.people WHERE id = 3") == [("1990-03-03",)]
    assert "replayed" in softcart("quarantine", "list", "--closed")[1]
    assert softcart("quarantine", "show", str(entries["3"]))[0] == 0
    for command in ("show", "replay"):
        code, told = softcart("quarantine", command, "999")
        assert code == 1
        assert "There is no quarantined row 999" in told


def test_erased_rows_are_gone_for_good(
    softcart, people: MySQLConnection, postgres: PostgresConnection, lake: str
) -> None:
    entries = _entries(postgres)
    code, told = softcart("quarantine", "erase", str(entries["3"]), answer="n\n")
    assert code == 1
    assert show(postgres, entries["3"]).row["name"] == "Čeněk"
    run(people, "DELETE FROM people WHERE id = 3")
    code, told = softcart("quarantine", "erase", str(entries["3"]), "--yes")
    assert (code, told.strip()) == (0, f"Erased: {entries['3']}")
    found = show(postgres, entries["3"])
    assert (found.row, found.key, found.closed_because) == ({}, None, "erased")
    assert found.erased_at is not None
    assert found.reason == "zero, partial or impossible date for date"
    everything = query(
        postgres, "SELECT q::text FROM ingestion.quarantine q WHERE id = %s", entries["3"]
    )[0][0]
    assert "Čeněk" not in everything
    assert "1990" not in everything
    assert query(
        postgres, "SELECT erased_by <> '' FROM ingestion.quarantine WHERE id = %s", entries["3"]
    ) == [(True,)]
    assert softcart("quarantine", "erase", str(entries["3"]), "--yes")[1].startswith("Erased: none")
    assert "erased" in softcart("quarantine", "show", str(entries["3"]))[1]
    load_all(SOURCE, people, postgres, lake)
    assert _entries(postgres) == {"2": entries["2"]}
    assert compare(SOURCE, postgres, "people").is_equal


def test_a_person_is_erased_from_all_tables_and_found_again_while_at_the_source(
    softcart, people: MySQLConnection, postgres: PostgresConnection, lake: str
) -> None:
    before = list_quarantine(postgres)
    assert len(before) == 4
    assert (
        softcart("quarantine", "erase", "--where", "t.visits:person_id=7", "--yes")[1].strip()
        == "There is nothing to erase."
    )
    for which in ("t:person_id=2", "t.people:name=Bob"):
        assert softcart("quarantine", "erase", "--where", which, "--yes")[0] == 0
    assert [row.key for row in list_quarantine(postgres)] == [["3"]]
    assert softcart("quarantine", "erase", "--where", "nonsense", "--yes")[0] == 2
    assert softcart("quarantine", "erase", "--where", "u:a=1", "--yes")[0] == 2
    load_all(SOURCE, people, postgres, lake)
    assert len(list_quarantine(postgres)) == 4
    for table in ("people", "visits"):
        assert compare(SOURCE, postgres, table).is_equal


def test_documents_are_found_by_their_fields(
    mongo: MongoConnection, postgres: PostgresConnection, lake: str
) -> None:
    source = source_of(snapshot("people", "_id"), kind="mongodb")
    with mongo.connect() as client:
        collection = client[mongo.database]["people"]
        collection.insert_many([{"_id": n, "size": n} for n in range(3)])
        load_all(source, mongo, postgres, lake)
        collection.insert_one({"_id": 4711, "size": "lar\0ge", "person": 12})
    load_all(source, mongo, postgres, lake)
    (entry,) = list_quarantine(postgres)
    assert [row.id for row in entries_with(postgres, "t", "person", "12")] == [entry.id]
    assert [row.id for row in entries_with(postgres, "t", "_id", "4711")] == [entry.id]
    assert entries_with(postgres, "t", "person", "1") == []
    assert erase(postgres, [entry.id], "a test") == [entry.id]
    assert entries_with(postgres, "t", "person", "12") == []


def test_summaries_hold_no_values(people: MySQLConnection, postgres: PostgresConnection) -> None:
    reason = ("born", "zero, partial or impossible date for date", 2)
    assert summarize(postgres, "t", "people") == QuarantineSummary(2, [reason])
    with database() as empty:
        assert summarize(empty, "t", "people") == QuarantineSummary(0, [])
        assert list_quarantine(empty) == []
        assert erase(empty, [1], "a test") == []
        with pytest.raises(UnknownEntry):
            show(empty, 1)


def test_tables_are_loaded_and_reconciled_on_the_command_line(
    softcart, people: MySQLConnection, postgres: PostgresConnection
) -> None:
    run(people, "INSERT INTO people VALUES (4, 'Dan', '2000-01-01')")
    code, told = softcart("load", "t.people")
    assert code == 0, told
    assert "t.people" in told
    assert "Loaded" in told
    assert "t.people: column 'born' is not classified" in told
    code, told = softcart("reconcile")
    assert code == 0, told
    assert told.count("equal") == 2
    with postgres.connect() as session:
        session.execute("UPDATE raw_t.people SET name = 'x' WHERE id = 4")
    code, told = softcart("reconcile", "t")
    assert code == 1
    assert "t.people: differing 4 in name" in told
    code, told = softcart("reconcile", "t.people", "--repair")
    assert code == 0
    assert "repaired" in told
    assert softcart("reconcile", "t.people")[0] == 0
    code, told = softcart("load", "t.pepole")
    assert code == 2
    assert "'t.pepole' is not declared. There are t.people, t.visits." in " ".join(
        told.replace("│", "").split()
    )
    # Without its source: the argument that lacks it is named, and what to write.
    code, told = softcart("resnapshot", "people")
    assert code == 2
    assert "Invalid value for SOURCE[.TABLE]: 'people' is not declared. There are t.people." in (
        " ".join(told.replace("│", "").split())
    )
    run(people, "DROP TABLE people")
    code, told = softcart("load")
    assert code == 1
    assert "has no table `people`" in told
    assert "t.visits" in told
