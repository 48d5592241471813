"""The version of a raw table is another one after every change, whoever made it, and only then."""

from __future__ import annotations

import pytest
from support.ingestion import load_all, run, source_of

from softcart_assets.ingestion.load import LoadRequest, load, load_of, raw_versions
from softcart_assets.ingestion.proof.reconcile import reconcile
from softcart_assets.lines.model import Table


def table(name: str, strategy: str) -> Table:
    return Table(name, "", ("id",), strategy, ())  # type: ignore[arg-type]


@pytest.mark.parametrize("strategy", ["cdc", "snapshot"])
def test_a_load_that_changed_something_is_the_version(mysql, postgres, lake, strategy):
    source = source_of(table("one", strategy))
    assert raw_versions(postgres, source) == {}
    run(mysql, "CREATE TABLE one (id INT PRIMARY KEY)", "INSERT INTO one VALUES (1)")
    load_all(source, mysql, postgres, lake)
    first = raw_versions(postgres, source)
    assert set(first) == {"one"}
    load_all(source, mysql, postgres, lake)
    assert raw_versions(postgres, source) == first
    run(mysql, "INSERT INTO one VALUES (2)")
    second = load_all(source, mysql, postgres, lake)["one"]
    assert raw_versions(postgres, source) == {"one": second.load_id} != first


def test_a_clock_that_was_set_back_hides_no_load(mysql, postgres, lake):
    source = source_of(table("one", "snapshot"))
    run(mysql, "CREATE TABLE one (id INT PRIMARY KEY)", "INSERT INTO one VALUES (1)")
    load_all(source, mysql, postgres, lake)
    with postgres.connect() as session:
        session.execute("UPDATE ingestion.loads SET loaded_at = now() + interval '1 day'")
    run(mysql, "INSERT INTO one VALUES (2)")
    second = load_all(source, mysql, postgres, lake)["one"]
    assert raw_versions(postgres, source) == {"one": second.load_id}


def test_the_log_changes_the_versions_of_tables_that_no_load_was_asked_for(mysql, postgres, lake):
    """A run that a change of `one` caused also applies a later change of `two`."""
    source = source_of(table("one", "cdc"), table("two", "cdc"))
    run(mysql, "CREATE TABLE one (id INT PRIMARY KEY)", "CREATE TABLE two (id INT PRIMARY KEY)")
    load_all(source, mysql, postgres, lake)
    before = raw_versions(postgres, source)
    run(mysql, "INSERT INTO one VALUES (1)", "INSERT INTO two VALUES (1)")
    request = LoadRequest(source, mysql, postgres, lake)
    [result] = load(request, ["one"])
    after = raw_versions(postgres, source)
    assert after == {"one": result.load_id, "two": f"{before['two']}+1"}
    # The load is the same: this is what a stream does, too.
    assert load_of(after["two"]) == before["two"]
    [result] = load(request, ["two"])
    assert raw_versions(postgres, source) == {**after, "two": result.load_id}
    # The comparison at night applies the log too.
    run(mysql, "INSERT INTO one VALUES (2)", "INSERT INTO two VALUES (2)")
    assert not reconcile(request, "one").differences
    last = raw_versions(postgres, source)
    assert all(last[name] != version for name, version in after.items())
    assert last["two"] != result.load_id
