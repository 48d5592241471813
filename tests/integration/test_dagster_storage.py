"""Dagster's storage keeps its connections, and loses nothing by that."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator
from typing import Any
from unittest import mock

import dagster as dg
import psycopg
import psycopg2
import pytest
from dagster_postgres import PostgresScheduleStorage

from softcart_assets import dagster_storage
from softcart_assets.connections import PostgresConnection, SettingError
from softcart_assets.dagster_storage import PooledStorage
from softcart_assets.stack import Stack

KEY = dg.AssetKey("table")


@pytest.fixture
def opened() -> Iterator[mock.Mock]:
    """What opens the connections of Dagster's storage."""
    with mock.patch.object(psycopg2, "connect", wraps=psycopg2.connect) as connect:
        yield connect


@pytest.fixture
def admin(stack: Stack) -> Iterator[psycopg.Connection]:
    with PostgresConnection.from_env("SOFTCART_DAGSTER").connect(autocommit=True) as session:
        yield session


def _others(session: psycopg.Connection) -> list[int]:
    """The other connections to this database."""
    found = session.execute(
        "SELECT pid FROM pg_stat_activity WHERE datname = current_database()"
        " AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
    )
    return [pid for (pid,) in found]


def _materialized(instance: dg.DagsterInstance) -> None:
    instance.report_runless_asset_event(dg.AssetMaterialization(KEY))


def test_events_do_not_open_connections(stack: Stack, opened: mock.Mock) -> None:
    """A run writes about a thousand events, each of which opened a connection or two."""
    with dg.DagsterInstance.get() as instance:
        _materialized(instance)
        before = opened.call_count
        for _ in range(20):
            _materialized(instance)
        assert instance.get_latest_materialization_event(KEY)
        instance.get_runs(limit=1)
        assert opened.call_count == before


def test_a_connection_that_the_server_closed_is_replaced(
    stack: Stack, admin: psycopg.Connection
) -> None:
    with dg.DagsterInstance.get() as instance:
        _materialized(instance)
        first = instance.get_latest_materialization_event(KEY)
        assert first
        for pid in _others(admin):
            admin.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])
        _materialized(instance)
        second = instance.get_latest_materialization_event(KEY)
        assert second
        assert second.timestamp > first.timestamp


def test_connections_end_with_their_instance(stack: Stack, admin: psycopg.Connection) -> None:
    """A code server makes an instance for each tick of a sensor."""
    before = set(_others(admin))
    with dg.DagsterInstance.get() as instance:
        _materialized(instance)
        assert set(_others(admin)) - before
    del instance
    gc.collect()
    # The server needs a moment to notice it.
    given_up_at = time.monotonic() + 5
    while set(_others(admin)) - before:
        assert time.monotonic() < given_up_at
        time.sleep(0.05)


@pytest.fixture
def config(postgres: PostgresConnection, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The part of `dagster.yaml` that names a fresh database, which no process knows yet."""
    monkeypatch.setattr(dagster_storage, "_whole", set())
    return {
        "postgres_db": {
            "hostname": postgres.host,
            "port": postgres.port,
            "username": postgres.user,
            "password": postgres.password,
            "db_name": postgres.database,
        }
    }


def _forget_mark(session: psycopg.Connection) -> None:
    """As in a storage from before there was one."""
    dagster_storage._whole.clear()
    session.execute("COMMENT ON TABLE alembic_version IS NULL")


def test_tables_that_a_killed_process_did_not_finish_are_made_anew(
    postgres: PostgresConnection, config: dict[str, Any]
) -> None:
    """Dagster makes one after the other, and later looks for the first one only."""
    creates = mock.patch.object(PostgresScheduleStorage, "_init_db", side_effect=KeyboardInterrupt)
    with creates, pytest.raises(KeyboardInterrupt):
        PooledStorage.from_config_value(None, config)
    with postgres.connect(autocommit=True) as session:
        session.execute("DROP TABLE run_tags, asset_keys")
    storage = PooledStorage.from_config_value(None, config)
    storage.run_storage.add_run(dg.DagsterRun(job_name="job", run_id="1" * 32, tags={"a": "b"}))
    assert [run.tags for run in storage.run_storage.get_runs()] == [{"a": "b"}]
    # A storage in use is never dropped.
    with postgres.connect(autocommit=True) as session:
        _forget_mark(session)
    again = PooledStorage.from_config_value(None, config)
    assert [run.tags for run in again.run_storage.get_runs()] == [{"a": "b"}]


def test_the_state_of_a_sensor_alone_is_not_dropped(
    postgres: PostgresConnection, config: dict[str, Any]
) -> None:
    PooledStorage.from_config_value(None, config)
    with postgres.connect(autocommit=True) as session:
        session.execute("INSERT INTO instigators (selector_id, status) VALUES ('s', 'STOPPED')")
        _forget_mark(session)
        PooledStorage.from_config_value(None, config)
        kept = session.execute("SELECT selector_id FROM instigators").fetchall()
    assert kept == [("s",)]


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE jobs (id INT, title TEXT)",
        "CREATE TABLE runs AS SELECT 1 AS id, 'mine' AS title",
        "CREATE TABLE kvs AS SELECT 'k' AS key, 'v' AS value",
    ],
)
def test_tables_of_somebody_else_are_not_dropped(
    postgres: PostgresConnection, config: dict[str, Any], statement: str
) -> None:
    """The setting may name the wrong database."""
    name = statement.split()[2]
    with postgres.connect(autocommit=True) as session:
        session.execute(statement.encode())
        with pytest.raises(SettingError, match=rf"{name}.*SOFTCART_DAGSTER_DATABASE"):
            PooledStorage.from_config_value(None, config)
        tables = session.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        assert tables.fetchall() == [(name,)]
