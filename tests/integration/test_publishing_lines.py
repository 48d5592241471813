"""Publication by line: what passes goes live at one moment, what fails keeps what it had."""

import threading
import time
from collections.abc import Iterator
from dataclasses import replace

import psycopg
import pytest
from psycopg import IsolationLevel
from support.databases import database, fingerprints
from support.two_lines import AUDITS, SUMS, TABLES, change, create

from softcart_assets.connections import PostgresConnection
from softcart_assets.lines.model import Published
from softcart_assets.migrations import migrate
from softcart_assets.publishing import contents, slots
from softcart_assets.publishing.publish import AuditFailed, Publication, publish
from softcart_assets.publishing.suite import audits_of

NAMES = tuple(table.name for table in TABLES)
TWICE = "INSERT INTO fct_left SELECT * FROM fct_left LIMIT 1"
"""Breaks the line `left`."""


@pytest.fixture
def staging(stack) -> Iterator[PostgresConnection]:
    with database() as connection:
        create(connection)
        yield connection


@pytest.fixture
def production(stack) -> Iterator[PostgresConnection]:
    with database() as connection:
        yield connection


def held(done: Publication) -> dict[str, set[str]]:
    """The lines that were held, with the audits that failed."""
    return {
        line: {result.name for result in outcome.failed}
        for line, outcome in done.lines.items()
        if not outcome.passed
    }


def views(production: PostgresConnection) -> set[str]:
    with production.connect() as session:
        return set(slots.read_shapes(session, "production").get("production", {}))


def live(production: PostgresConnection) -> dict[str, tuple]:
    return fingerprints(production, [f"production.{name}" for name in NAMES])


def versions(production: PostgresConnection) -> dict[str, int]:
    with production.connect() as session:
        return {line: found.version for line, found in slots.read_lines(session).items()}


def published_at(production: PostgresConnection, line: str) -> object:
    with production.connect() as session:
        return session.execute(
            "SELECT published_at FROM production_meta.lines WHERE line = %s", [line]
        ).fetchone()


def test_a_failed_line_keeps_its_version_and_holds_no_other_back(staging, production):
    publish(staging, production, TABLES, AUDITS)
    before, then = live(production), published_at(production, "left")
    change(
        staging,
        f"{TWICE}; INSERT INTO fct_right VALUES (500, 3, 7.00); INSERT INTO dim_member VALUES (11)",
    )
    for version in (2, 3, 4):
        done = publish(staging, production, TABLES, AUDITS)
        assert done.version == version
        assert held(done) == {"left": {"fct_left_key_unique"}}
        assert done.row_counts == {"fct_right": 101, "dim_member": 12}
        after = live(production)
        assert after["fct_left"] == before["fct_left"]
        assert (after["fct_right"][0], after["dim_member"][0]) == (101, 12)
        assert versions(production) == {"conformed": version, "left": 1, "right": version}
        assert {line: outcome.version for line, outcome in done.lines.items()} == versions(
            production
        )
        assert published_at(production, "left") == then
    change(staging, "DELETE FROM fct_left WHERE id = 1; INSERT INTO fct_left VALUES (1, 1, 1)")
    assert held(publish(staging, production, TABLES, AUDITS)) == {}
    assert versions(production) == dict.fromkeys(("conformed", "left", "right"), 5)
    with production.connect() as session:
        indexes = {index for _, index, _, _ in slots.read_indexes(session, 12)}
    assert indexes == {"dim_member_key"} | {
        f"fct_{line}_{kind}" for line in ("left", "right") for kind in ("key", "member")
    }


def test_a_held_line_keeps_its_columns_indexes_and_tables(staging, production):
    publish(staging, production, TABLES, AUDITS)
    before = live(production)["fct_left"]
    change(
        staging,
        "ALTER TABLE fct_left DROP COLUMN amount, ADD COLUMN price bigint DEFAULT 5;"
        "ALTER TABLE fct_right ADD COLUMN price bigint DEFAULT 5;" + TWICE,
    )
    audits = [audit for audit in AUDITS if audit.name != "fct_left_totals"]
    for _ in range(2):
        assert held(publish(staging, production, TABLES, audits)) == {
            "left": {"fct_left_key_unique"}
        }
        assert live(production)["fct_left"] == before
        with production.connect() as session:
            shape = slots.read_shapes(session, "production")["production"]
            current = slots.read_current(session)
            assert current
            indexes = slots.read_indexes(session, current.slot)
        assert [name for name, _ in shape["fct_left"]] == ["id", "member", "amount"]
        assert [name for name, _ in shape["fct_right"]] == ["id", "member", "amount", "price"]
        assert ("fct_left", "fct_left_member", ("member",), False) in indexes
        assert ("fct_left", "fct_left_key", ("id",), True) in indexes
    # A table that the declarations no longer have stays while its line is held.
    others = [table for table in TABLES if table.name != "fct_left"]
    kept = replace(TABLES[1], declared=Published("fct_left_new"), references=())
    change(
        staging, "CREATE TABLE fct_left_new AS SELECT 1 AS id; INSERT INTO fct_left_new VALUES (1)"
    )
    declared = [*others, kept]
    assert held(publish(staging, production, declared, audits_of(declared))).keys() == {"left"}
    assert live(production)["fct_left"] == before
    change(staging, "DELETE FROM fct_left_new; INSERT INTO fct_left_new VALUES (1)")
    assert held(publish(staging, production, declared, audits_of(declared))) == {}
    assert views(production) == {"dim_member", "fct_right", "fct_left_new"}
    # And a line that is no longer declared disappears.
    publish(staging, production, others, audits_of(others))
    assert views(production) == {"dim_member", "fct_right"}
    assert versions(production).keys() == {"conformed", "right"}


def test_a_line_that_was_never_published_is_left_out(staging, production):
    change(staging, TWICE)
    done = publish(staging, production, TABLES, AUDITS)
    assert held(done) == {"left": {"fct_left_key_unique"}}
    assert done.lines["left"].version is None
    assert views(production) == {"dim_member", "fct_right"}
    # A line that refers to one that is not there is held, too.
    with database() as other:
        change(staging, "INSERT INTO dim_member VALUES (3)")
        with pytest.raises(AuditFailed) as caught:
            publish(staging, other, TABLES, AUDITS)
        failed = {result.name: result.details for result in caught.value.failed}
        assert failed.keys() == {
            "dim_member_key_unique",
            "fct_left_key_unique",
            "fct_right_member_resolves",
        }
        assert "dim_member will not be live" in failed["fct_right_member_resolves"]["note"]
        assert views(other) == set()


def test_a_line_whose_tables_do_not_exist_holds_no_other_back(staging, production):
    change(staging, "DROP TABLE fct_left")
    done = publish(staging, production, TABLES, AUDITS)
    assert held(done) == {"left": {"fct_left_equals_staging", "fct_left_totals"}}
    assert "warehouse.fct_left does not exist" in str(done.lines["left"].failed)
    assert views(production) == {"dim_member", "fct_right"}


def test_references_are_audited_against_what_will_be_live(staging, production):
    publish(staging, production, TABLES, AUDITS)
    before = live(production)
    # The dimension fails. Facts that refer to its new member have to wait, the others do not.
    change(
        staging,
        "INSERT INTO dim_member VALUES (11), (11); INSERT INTO fct_left VALUES (500, 11, 1);"
        "INSERT INTO fct_right VALUES (500, 1, 1)",
    )
    done = publish(staging, production, TABLES, AUDITS)
    assert held(done) == {
        "conformed": {"dim_member_key_unique"},
        "left": {"fct_left_member_resolves"},
    }
    after = live(production)
    assert (after["dim_member"], after["fct_left"]) == (before["dim_member"], before["fct_left"])
    assert after["fct_right"][0] == 101


def test_a_dimension_waits_for_live_facts_that_refer_to_it(staging, production):
    publish(staging, production, TABLES, AUDITS)
    # `left` no longer refers to member 3, but fails: its live facts still do.
    change(
        staging,
        "DELETE FROM dim_member WHERE member = 3; UPDATE fct_left SET member = 4 WHERE member = 3;"
        "UPDATE fct_right SET member = 4 WHERE member = 3;" + TWICE,
    )
    done = publish(staging, production, TABLES, AUDITS)
    assert held(done) == {
        "conformed": {"fct_left_member_resolves"},
        "left": {"fct_left_key_unique"},
    }
    with production.connect() as session:
        row = session.execute(
            "SELECT (SELECT count(*) FROM production.dim_member), "
            "(SELECT count(*) FROM production.fct_right WHERE member = 3), "
            "(SELECT count(*) FROM production.fct_left WHERE member = 3)"
        ).fetchone()
    assert row == (11, 0, 10)


def test_sums_are_compared_with_what_will_be_live(staging, production):
    audits = audits_of(SUMS)
    publish(staging, production, SUMS, audits)
    change(staging, f"UPDATE fct_left SET amount = 2; UPDATE fct_right SET amount = 2; {TWICE}")
    change(staging, "INSERT INTO dim_member VALUES (11)")
    done = publish(staging, production, SUMS, audits)
    agrees = "fct_right_amount_agrees_with_fct_left"
    assert held(done) == {"left": {"fct_left_key_unique"}, "right": {agrees}}
    assert versions(production) == {"conformed": 2, "left": 1, "right": 1}


def test_live_columns_need_not_be_those_of_today(staging, production):
    """`left` refers to the dimension by a new column that its live rows do not have, and fails."""
    publish(staging, production, TABLES, AUDITS)
    reference = replace(TABLES[1].references[0], column="second")
    declared = [TABLES[0], replace(TABLES[1], references=(reference,)), TABLES[2]]
    change(staging, f"ALTER TABLE fct_left ADD COLUMN second int DEFAULT 1; {TWICE}")
    done = publish(staging, production, declared, audits_of(declared))
    assert held(done) == {"left": {"fct_left_key_unique"}}


def test_lines_that_are_not_asked_for_keep_what_is_live(staging, production):
    publish(staging, production, TABLES, AUDITS)
    change(staging, "UPDATE fct_left SET amount = 2; UPDATE fct_right SET amount = 2")
    done = publish(staging, production, TABLES, AUDITS, lines={"left"})
    assert done.lines.keys() == {"left"}
    assert held(done) == {}
    assert versions(production) == {"conformed": 1, "left": 2, "right": 1}
    # They are not read in staging, and what is published must fit them.
    change(staging, "DROP TABLE fct_right; DELETE FROM dim_member WHERE member = 3")
    with pytest.raises(AuditFailed, match="fct_right_member_resolves"):
        publish(staging, production, TABLES, AUDITS, lines={"conformed"})
    assert versions(production) == {"conformed": 1, "left": 2, "right": 1}
    change(staging, "INSERT INTO dim_member VALUES (3), (11)")
    publish(staging, production, TABLES, AUDITS, lines={"conformed"})
    assert versions(production) == {"conformed": 3, "left": 2, "right": 1}


def test_nothing_is_published_if_every_line_is_held(staging, production):
    publish(staging, production, TABLES, AUDITS)
    before = live(production)
    change(staging, "".join(f"INSERT INTO {name} SELECT * FROM {name};" for name in NAMES))
    with pytest.raises(AuditFailed) as caught:
        publish(staging, production, TABLES, AUDITS)
    assert {result.name for result in caught.value.failed} >= {
        f"{name}_key_unique" for name in NAMES
    }
    assert live(production) == before
    assert versions(production) == dict.fromkeys(("conformed", "left", "right"), 1)


def test_the_largest_table_is_copied_first(staging, production, monkeypatch):
    change(staging, "INSERT INTO fct_right SELECT i, 1, 1 FROM generate_series(1000, 50000) i")
    order: list[str] = []
    forget = contents.forget

    def record(session, these, name=None) -> None:
        if name:
            order.append(name)
        forget(session, these, name)

    # The first thing that a copy does.
    monkeypatch.setattr(contents, "forget", record)
    publish(staging, production, TABLES, ())
    assert order[0] == "fct_right"


def test_lines_switch_at_one_moment_while_one_is_held(staging, production):
    """Readers of every kind: the lines that pass show one version, the held one stays whole."""
    publish(staging, production, TABLES, AUDITS)
    change(staging, TWICE)
    finished = threading.Event()
    wrong: list[object] = []
    failures: list[BaseException] = []
    reads = {"statement": 0, "transaction": 0}
    question = "SELECT {} FROM production.{}"

    def ask(session: psycopg.Connection, name: str, figure: str) -> int:
        return session.execute(question.format(figure, name).encode()).fetchone()[0]

    def read(kind: str) -> None:
        try:
            with production.connect() as session:
                if kind == "transaction":
                    session.isolation_level = IsolationLevel.REPEATABLE_READ
                while not finished.is_set():
                    if kind == "transaction":
                        answer = (
                            ask(session, "fct_right", "min(amount)::int"),
                            ask(session, "dim_member", "max(member) - 9"),
                            ask(session, "fct_left", "count(*)"),
                        )
                    else:
                        answer = session.execute(
                            "SELECT (SELECT min(amount)::int FROM production.fct_right), "
                            "(SELECT max(member) - 9 FROM production.dim_member), "
                            "(SELECT count(*) FROM production.fct_left)"
                        ).fetchone()
                    session.rollback()
                    reads[kind] += 1
                    if answer[0] != answer[1] or answer[2] != 100:
                        wrong.append((kind, answer))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=read, args=(kind,)) for kind in (*reads, *reads)]
    for thread in threads:
        thread.start()
    try:
        for version in range(2, 7):
            change(
                staging,
                f"UPDATE fct_right SET amount = {version};"
                f"INSERT INTO dim_member VALUES ({version + 9})",
            )
            if version == 4:
                change(staging, "ALTER TABLE fct_right ADD COLUMN extra text")
            done = publish(staging, production, TABLES, AUDITS)
            assert (done.version, held(done).keys()) == (version, {"left"})
            time.sleep(0.1)
    finally:
        finished.set()
        for thread in threads:
            thread.join()
    assert (wrong, failures) == ([], [])
    assert min(reads.values()) >= 5


def test_readers_that_lock_in_another_order_do_not_keep_new_columns_out(
    staging, production, monkeypatch
):
    """Each side had a lock that the other waited for, at every attempt, until patience ended."""
    monkeypatch.setattr(slots, "DDL_PATIENCE_SECONDS", 15.0)
    publish(staging, production, TABLES, ())
    change(staging, "ALTER TABLE fct_right ADD COLUMN extra text")
    finished = threading.Event()

    def read() -> None:
        with production.connect() as session:
            while not finished.is_set():
                for name in reversed(NAMES):
                    session.execute(f"SELECT count(*) FROM production.{name}".encode())
                    time.sleep(0.03)
                session.commit()

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
        time.sleep(0.02)
    try:
        assert publish(staging, production, TABLES, ()).version == 2
    finally:
        finished.set()
        for thread in threads:
            thread.join()


def test_a_database_from_before_lines_keeps_its_version(staging, production):
    """Production as the release before lines made it: no record of lines, one held at once."""
    publish(staging, production, TABLES, AUDITS)
    before = live(production)
    with production.connect() as session:
        for table in ("contents", "lines", "versions", "deviations", "acceptances", "_migrations"):
            session.execute(f"DROP TABLE production_meta.{table}".encode())
    change(staging, f"{TWICE}; INSERT INTO fct_right VALUES (500, 1, 1)")
    done = publish(staging, production, TABLES, AUDITS)
    assert (done.version, held(done)) == (2, {"left": {"fct_left_key_unique"}})
    assert live(production)["fct_left"] == before["fct_left"]
    assert versions(production) == {"conformed": 2, "left": 1, "right": 2}
    with production.connect() as session:
        migrate(session, "production_meta", slots._MIGRATIONS)
        assert versions(production) == {"conformed": 2, "left": 1, "right": 2}
