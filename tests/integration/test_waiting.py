"""Who waits for somebody else says for whom, and a stream never ends because of others."""

from __future__ import annotations

import threading
import time

import psycopg
import pytest
from support.ingestion import load_all, raw_rows, run, source_of

from softcart_assets import locks
from softcart_assets.connections import MySQLConnection, PostgresConnection
from softcart_assets.ingestion import raw_tables
from softcart_assets.ingestion.bookkeeping import RAW_TABLES_LOCK, capture_lock
from softcart_assets.ingestion.capture import holding
from softcart_assets.ingestion.errors import TableBusy, TargetFailed
from softcart_assets.ingestion.raw_tables import raw_tables_held
from tests.integration.test_capture import cdc, streaming, until

SOURCE = source_of(cdc("facts", "id"))


@pytest.fixture
def facts(mysql: MySQLConnection, postgres: PostgresConnection, lake: str) -> MySQLConnection:
    run(mysql, "CREATE TABLE facts (id INT PRIMARY KEY)", "INSERT INTO facts VALUES (1)")
    load_all(SOURCE, mysql, postgres, lake)
    return mysql


def _session(postgres: PostgresConnection, name: str) -> psycopg.Connection:
    return postgres.connect(autocommit=True, application_name=name)


@pytest.mark.parametrize("lock", [capture_lock("t"), RAW_TABLES_LOCK])
def test_a_stream_waits_as_long_as_it_takes_and_names_the_holder(
    facts: MySQLConnection,
    postgres: PostgresConnection,
    lake: str,
    lock: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A stream that runs all the time ended when a load held its source for 600 s."""
    monkeypatch.setattr(holding, "_LOCK_SECONDS", 1)
    with streaming(SOURCE, facts, postgres, lake) as status:
        with _session(postgres, "a long load") as other:
            locks.take(other, lock)
            until(lambda: "'a long load'" in (status.problem or ""))
            assert ", since 20" in (status.problem or "")
            run(facts, "INSERT INTO facts VALUES (2)")
            time.sleep(3)
            assert raw_rows(postgres, "facts") == [(1,)]
            assert status.lag_seconds > 1
        until(lambda: raw_rows(postgres, "facts") == [(1,), (2,)])
        until(lambda: status.problem is None)


def test_a_stream_that_was_there_first_waits_for_one_that_took_its_place(
    facts: MySQLConnection, postgres: PostgresConnection, lake: str
) -> None:
    with streaming(SOURCE, facts, postgres, lake) as first:
        with _session(postgres, "softcart stream t elsewhere:1") as other:
            locks.take(other, capture_lock("t"))
            until(lambda: "followed by 'softcart stream t elsewhere:1'" in (first.problem or ""))
            found = [each.application for each in locks.sessions(other, capture_lock("t"))]
            assert found == [], "the other one would give way to somebody in the queue"
            with pytest.raises(TableBusy, match="stop that one first"):
                with streaming(SOURCE, facts, postgres, lake, wait=False):
                    time.sleep(2)
        until(lambda: first.problem is None)


def test_loads_and_builds_say_for_whom_they_wait(
    facts: MySQLConnection,
    postgres: PostgresConnection,
    lake: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(locks, "_REMIND_SECONDS", 0.3)
    told: list[str] = []
    entered = threading.Event()

    def build() -> None:
        with raw_tables_held(postgres, exclusive=True, tell=told.append):
            entered.set()

    with raw_tables_held(postgres, exclusive=False, tell=print):
        waiting = threading.Thread(target=build)
        waiting.start()
        until(lambda: len(told) >= 3)
        assert "'softcart load " in told[0]
        assert ", since 20" in told[0]
        assert not entered.is_set()
    waiting.join(30)
    assert entered.is_set()
    with _session(postgres, "a repair") as other:
        locks.take(other, capture_lock("t"))
        told.clear()
        loading = threading.Thread(
            target=load_all, args=(SOURCE, facts, postgres, lake), kwargs={"tell": told.append}
        )
        loading.start()
        until(lambda: told)
        assert "Waiting for source 't', which 'a repair'" in told[0]
    loading.join(30)
    monkeypatch.setattr(raw_tables, "_WAIT_SECONDS", 1.0)
    with _session(postgres, "somebody") as other:
        locks.take(other, RAW_TABLES_LOCK)
        with pytest.raises(locks.LockHeld, match=r"held for 1 s by 'somebody'.*since 20"):
            with raw_tables_held(postgres, exclusive=True, tell=print):
                pass


def test_a_build_fails_if_its_lock_was_lost_on_the_way(postgres: PostgresConnection) -> None:
    def build() -> None:
        with (
            raw_tables_held(postgres, exclusive=True, tell=print),
            _session(postgres, "x") as other,
        ):
            held = locks.holder(other, RAW_TABLES_LOCK)
            assert held
            assert held.application.startswith("softcart build ")
            other.execute("SELECT pg_terminate_backend(%s)", [held.process])

    with pytest.raises(TargetFailed, match="held the raw tables was lost"):
        build()
