"""Advisory locks on a real server: who is kept out, and what they are told."""

from __future__ import annotations

import threading
import time

import psycopg
import pytest

from softcart_assets import locks
from softcart_assets.connections import PostgresConnection

NAME = "softcart load raw_t/items"


def _session(postgres: PostgresConnection, name: str) -> psycopg.Connection:
    return postgres.connect(autocommit=True, application_name=name)


def test_a_lock_keeps_others_out_and_says_who_has_it(postgres: PostgresConnection) -> None:
    with _session(postgres, "first") as first, _session(postgres, "second") as second:
        assert locks.holder(second, NAME) is None
        locks.take(first, NAME)
        assert locks.holder(first, NAME) is None, "one's own session is not somebody else"
        waited_for: list[locks.LockSession | None] = []
        with pytest.raises(
            locks.LockHeld, match=r"'softcart load raw_t/items' has been held for 0.2 s by 'first'"
        ) as held:
            locks.take(second, NAME, wait_seconds=0.2, on_wait=waited_for.append)
        found = held.value.holder
        assert found is not None
        assert waited_for == [found]
        assert (found.application, found.process) == ("first", first.info.backend_pid)
        assert (found.user, found.holds, found.shared) == (postgres.user, True, False)
        assert found.host == "127.0.0.1"
        assert found.since is not None
        with pytest.raises(locks.LockHeld):
            locks.take(second, NAME, wait_seconds=0)
        locks.take(second, "another name", wait_seconds=0)
        assert second.execute("SHOW lock_timeout").fetchone() == ("0",)


def test_a_name_has_the_number_that_it_always_had(postgres: PostgresConnection) -> None:
    with _session(postgres, "old") as old, _session(postgres, "new") as new:
        old.execute("SELECT pg_advisory_lock(hashtextextended(%s, 0))", [NAME])
        old.execute("SELECT pg_advisory_lock(%s)", [0x50F7CA27])
        for name in (NAME, 0x50F7CA27):
            with pytest.raises(locks.LockHeld, match="by 'old'"):
                locks.take(new, name, wait_seconds=0)


def test_locks_of_another_database_do_not_count(
    postgres: PostgresConnection, stack: object
) -> None:
    from softcart_assets.connections import staging

    with _session(staging(), "elsewhere") as elsewhere, _session(postgres, "here") as here:
        locks.take(elsewhere, NAME)
        assert locks.holder(here, NAME) is None
        locks.take(here, NAME, wait_seconds=0)


def test_shared_holders_share_and_keep_a_single_one_out(postgres: PostgresConnection) -> None:
    with (
        _session(postgres, "load 1") as one,
        _session(postgres, "load 2") as two,
        _session(postgres, "build") as build,
        _session(postgres, "load 3") as three,
    ):
        locks.take(one, NAME, shared=True)
        locks.take(two, NAME, shared=True, wait_seconds=0)
        taken = threading.Thread(target=lambda: locks.take(build, NAME))
        taken.start()
        while len(locks.sessions(one, NAME)) < 2:
            time.sleep(0.02)
        assert [
            (each.application, each.holds, each.shared) for each in locks.sessions(one, NAME)
        ] == [
            ("load 2", True, True),
            ("build", False, False),
        ]
        with pytest.raises(locks.LockHeld, match=r"by 'load [12]'"):  # nobody overtakes who waits
            locks.take(three, NAME, shared=True, wait_seconds=0.1)
        one.close()
        two.close()
        taken.join(timeout=10)
        found = locks.holder(three, NAME)
        assert found is not None
        assert (found.application, found.shared) == ("build", False)


def test_a_killed_holder_lets_go(postgres: PostgresConnection) -> None:
    with _session(postgres, "killer") as killer:
        victim = _session(postgres, "victim")
        locks.take(victim, NAME)
        found = locks.holder(killer, NAME)
        assert found is not None
        killer.execute("SELECT pg_terminate_backend(%s)", [found.process])
        locks.take(killer, NAME, wait_seconds=10)
        assert locks.holder(killer, NAME) is None


def test_a_lock_of_a_transaction_ends_with_it_and_a_refusal_spoils_nothing(
    postgres: PostgresConnection,
) -> None:
    with _session(postgres, "first") as first, _session(postgres, "second") as second:
        with first.transaction():
            locks.take(first, NAME, until="transaction")
            with second.transaction():
                second.execute("SET LOCAL lock_timeout = '7s'")
                with pytest.raises(locks.LockHeld):
                    locks.take(second, NAME, until="transaction", wait_seconds=0.1)
                assert second.execute("SHOW lock_timeout").fetchone() == ("7s",)
        locks.take(second, NAME, wait_seconds=0)
