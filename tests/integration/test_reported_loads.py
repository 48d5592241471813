"""Raw tables that changed without Dagster: they are requested until it has an event of them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from support.ingestion import load_all, run, source_of

from softcart_assets.ingestion.load import LoadRequest, load, note_reported, unreported_tables
from softcart_assets.ingestion.proof.reconcile import reconcile
from softcart_assets.lines.model import Table


def table(name: str, strategy: str) -> Table:
    return Table(name, "", ("id",), strategy, ())  # type: ignore[arg-type]


@pytest.mark.parametrize("strategy", ["cdc", "snapshot"])
def test_a_load_counts_as_reported_once_dagster_has_its_event(mysql, postgres, lake, strategy):
    source = source_of(table("one", strategy))
    run(mysql, "CREATE TABLE one (id INT PRIMARY KEY)", "INSERT INTO one VALUES (1)")
    first = load_all(source, mysql, postgres, lake)["one"]
    assert unreported_tables(postgres, source) == {"one"}
    # A load that changed nothing: there is nothing new to report, and the first one still is.
    load_all(source, mysql, postgres, lake)
    assert unreported_tables(postgres, source) == {"one"}
    note_reported(postgres, source, first)
    assert unreported_tables(postgres, source) == set()
    run(mysql, "INSERT INTO one VALUES (2)")
    second = load_all(source, mysql, postgres, lake)["one"]
    run(mysql, "INSERT INTO one VALUES (3)")
    third = load_all(source, mysql, postgres, lake)["one"]
    # The event of the second says nothing of what the third brought.
    note_reported(postgres, source, second)
    assert unreported_tables(postgres, source) == {"one"}
    note_reported(postgres, source, third)
    assert unreported_tables(postgres, source) == set()
    # A table that is no longer declared is nobody's to load.
    load_all(
        replace(source, tables=(replace(source.tables[0], name="two", source_name="one"),)),
        mysql,
        postgres,
        lake,
    )
    assert unreported_tables(postgres, source) == set()


def test_a_bounded_run_applies_the_log_to_tables_that_were_not_requested(mysql, postgres, lake):
    """A run that a change of `one` caused also applies a later change of `two`."""
    source = source_of(table("one", "cdc"), table("two", "cdc"))
    run(mysql, "CREATE TABLE one (id INT PRIMARY KEY)", "CREATE TABLE two (id INT PRIMARY KEY)")
    for result in load_all(source, mysql, postgres, lake).values():
        note_reported(postgres, source, result)
    run(mysql, "INSERT INTO one VALUES (1)", "INSERT INTO two VALUES (1)")
    request = LoadRequest(source, mysql, postgres, lake)
    [result] = load(request, ["one"])
    note_reported(postgres, source, result)
    assert unreported_tables(postgres, source) == {"two"}
    [result] = load(request, ["two"])
    assert result.inserted == 1
    note_reported(postgres, source, result)
    assert unreported_tables(postgres, source) == set()
    # The comparison at night applies the log too.
    run(mysql, "INSERT INTO one VALUES (2)", "INSERT INTO two VALUES (2)")
    assert not reconcile(request, "one").differences
    assert unreported_tables(postgres, source) == {"one", "two"}
