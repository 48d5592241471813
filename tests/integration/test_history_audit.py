"""The audit of histories: each fault of a history is found, and only what changed is read again."""

from __future__ import annotations

from collections.abc import Callable

import dagster as dg
import pytest
from support.databases import name_server
from support.ingestion import fill, incremental, load_all, query, run, source_of

from softcart_assets.audits.history import Seen, ends_in_raw
from softcart_assets.components.keys import history_key
from softcart_assets.components.pool import LOAD, PLANNED_TAG
from softcart_assets.components.raw_checks import raw_table_checks
from softcart_assets.connections import MySQLConnection, PostgresConnection
from softcart_assets.resources import PostgresResource

ITEMS = incremental("items", "id", history=True)
SOURCE = source_of(ITEMS)
ROWS = 20


@pytest.fixture
def load(mysql: MySQLConnection, postgres: PostgresConnection, lake: str) -> Callable[[], None]:
    """Loads the items. They were loaded once already, and one was changed, and one deleted."""
    run(
        mysql,
        "CREATE TABLE items (id INT PRIMARY KEY, `100% {n}` INT, updated_at DATETIME(6))",
    )
    fill(mysql, "items", [(number, number, "2026-03-01") for number in range(ROWS)])

    def load() -> None:
        load_all(SOURCE, mysql, postgres, lake)

    load()
    run(
        mysql,
        "UPDATE items SET `100% {n}` = NULL, updated_at = '2026-03-02' WHERE id = 3",
        "DELETE FROM items WHERE id = 4",
    )
    load()
    return load


def execute(postgres: PostgresConnection, statement: str) -> None:
    with postgres.connect() as session:
        session.execute(statement.encode())


@pytest.mark.usefixtures("load")
def test_a_history_as_loads_write_it_passes(postgres: PostgresConnection) -> None:
    result, seen = ends_in_raw(postgres, SOURCE, ITEMS)
    assert result.passed, result
    assert result.details["rows compared"] == ROWS
    assert query(postgres, "SELECT count(*) FROM raw_t.items_history") == [(ROWS + 2,)]
    assert seen.history == ROWS + 2


@pytest.mark.usefixtures("load")
@pytest.mark.parametrize(
    ("damage", "rows"),
    [
        # The last version is lost: an earlier one looks current, or there is none.
        ("DELETE FROM raw_t.items_history WHERE id = 3 AND `n` IS NULL", 1),
        ("DELETE FROM raw_t.items_history WHERE id = 5", 1),
        ("DELETE FROM raw_t.items_history WHERE id = 4 AND _deleted", 1),
        # One came that raw does not have.
        (
            "INSERT INTO raw_t.items_history (id, `n`, updated_at, _deleted, _loaded_at, _position)"
            " SELECT id, 99, updated_at, _deleted, _loaded_at, _position FROM raw_t.items"
            " WHERE id IN (1, 2)",
            2,
        ),
        ("UPDATE raw_t.items SET `n` = 99 WHERE id = 6", 1),
        ("UPDATE raw_t.items SET _deleted = true WHERE id = 6", 1),
        ("DELETE FROM raw_t.items WHERE id = 6", 1),
    ],
)
def test_a_history_that_does_not_end_in_raw_fails(
    postgres: PostgresConnection, damage: str, rows: int
) -> None:
    execute(postgres, damage.replace("`n`", '"100% {n}"'))
    result, _ = ends_in_raw(postgres, SOURCE, ITEMS)
    assert (result.passed, result.details["rows that differ"]) == (False, rows)


def test_what_has_passed_is_not_read_again(
    load: Callable[[], None], mysql: MySQLConnection, postgres: PostgresConnection
) -> None:
    _, seen = ends_in_raw(postgres, SOURCE, ITEMS)
    # Of an old row: only an audit of everything finds it.
    execute(postgres, "DELETE FROM raw_t.items_history WHERE id = 5")
    result, same = ends_in_raw(postgres, SOURCE, ITEMS, seen)
    assert (result.passed, result.details["rows compared"], same) == (True, 0, seen)
    run(mysql, "UPDATE items SET updated_at = '2026-03-03' WHERE id IN (7, 8)")
    load()
    result, later = ends_in_raw(postgres, SOURCE, ITEMS, seen)
    assert (result.passed, result.details["rows compared"]) == (True, 2)
    execute(postgres, f"DELETE FROM raw_t.items_history WHERE _version = {later.history}")
    result, _ = ends_in_raw(postgres, SOURCE, ITEMS, seen)
    assert (result.passed, result.details["rows that differ"]) == (False, 1)
    assert not ends_in_raw(postgres, SOURCE, ITEMS)[0].passed


@pytest.mark.usefixtures("load")
def test_other_tables_of_the_same_names_are_read_whole(postgres: PostgresConnection) -> None:
    _, seen = ends_in_raw(postgres, SOURCE, ITEMS)
    other = Seen("1 2", seen.raw, seen.history)
    assert ends_in_raw(postgres, SOURCE, ITEMS, other)[0].details["rows compared"] == ROWS


def test_a_table_that_was_never_loaded_does_not_pass(postgres: PostgresConnection) -> None:
    result, seen = ends_in_raw(postgres, SOURCE, ITEMS)
    assert (result.passed, seen) == (False, Seen())


@pytest.mark.usefixtures("load")
def test_a_planned_run_reads_what_changed_and_any_other_run_everything(
    postgres: PostgresConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    name_server(monkeypatch, postgres)
    key = dg.AssetCheckKey(history_key(SOURCE, ITEMS), "ends_in_raw")
    job = dg.Definitions(
        assets=[dg.AssetSpec(key.asset_key)],
        asset_checks=[raw_table_checks(SOURCE)],
        resources={"staging": PostgresResource(prefix=postgres.prefix)},
        jobs=[dg.define_asset_job("check", dg.AssetSelection.checks(key))],
    ).resolve_job_def("check")

    def check(**tags: str) -> tuple[bool, int]:
        done = job.execute_in_process(instance=instance, tags=tags, raise_on_error=False)
        [found] = done.get_asset_check_evaluations()
        return found.passed, found.metadata["rows compared"].value

    with dg.DagsterInstance.ephemeral() as instance:
        assert check(**{PLANNED_TAG: LOAD}) == (True, ROWS)
        assert check(**{PLANNED_TAG: LOAD}) == (True, 0)
        assert check() == (True, ROWS)
        execute(postgres, "DELETE FROM raw_t.items_history WHERE id = 5")
        assert check() == (False, ROWS)
