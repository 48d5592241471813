"""Publication by difference: only changed rows are written, and production equals staging."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace

import pytest
from psycopg import IsolationLevel
from support.databases import database, fingerprints
from support.ingestion import query
from support.two_lines import AUDITS, SUMS, TABLES, change, create

from softcart_assets.connections import PostgresConnection
from softcart_assets.lines.model import Published
from softcart_assets.publishing import contents, slots
from softcart_assets.publishing.publish import AuditFailed, Publication, publish
from softcart_assets.publishing.suite import audits_of

NAMES = tuple(table.name for table in TABLES)
ROWS = 2000
SWAP = (
    "CREATE TABLE {0}_new AS TABLE {0}; ALTER TABLE {0} RENAME TO {0}_old;"
    "ALTER TABLE {0}_new RENAME TO {0}; DROP TABLE {0}_old;"
)
"""What dbt does in a full refresh."""


@pytest.fixture
def staging(stack: object) -> Iterator[PostgresConnection]:
    with database() as connection:
        create(connection, ROWS)
        yield connection


@pytest.fixture
def production(staging: PostgresConnection) -> Iterator[PostgresConnection]:
    """Production at version 2, so that both slots are filled."""
    with database() as connection:
        for _ in range(2):
            publish(staging, connection, TABLES, AUDITS)
        yield connection


def published(
    staging: PostgresConnection, production: PostgresConnection, told: list[str] | None = None
) -> Publication:
    """Publish everything, and compare every row of production with staging."""
    done = publish(
        staging, production, TABLES, AUDITS, on_progress=(told if told is not None else []).append
    )
    assert all(outcome.passed for outcome in done.lines.values())
    assert_equal(staging, production)
    return done


def assert_equal(staging: PostgresConnection, production: PostgresConnection) -> None:
    there = fingerprints(staging, [f"warehouse.{name}" for name in NAMES])
    assert fingerprints(production, [f"production.{name}" for name in NAMES]) == there
    with production.connect() as session:
        current = slots.read_current(session)
        assert current
        found = contents.read(session)[current.slot]
        columns = slots.read_shapes(session, "production")["production"]
        for name in NAMES:
            view = slots.view_name(name)
            names = ", ".join(column for column, _ in columns[name])
            row = session.execute(
                f"SELECT count(*), sum(hashtextextended(ROW({names})::text, 0)::numeric) "
                f"FROM {view}".encode()
            ).fetchone()
            assert (found[name].rows.count, found[name].rows.number) == row
            assert current.row_counts[name] == found[name].rows.count


def test_one_percent_of_changes_writes_about_one_percent(staging, production):
    def rows_written() -> int:
        """As PostgreSQL counts them, in both slots."""
        [(rows,)] = query(
            production,
            "SELECT sum(n_tup_ins + n_tup_upd + n_tup_del)::bigint FROM pg_stat_all_tables"
            " WHERE schemaname LIKE 'production_slot_%'",
        )
        return rows

    assert published(staging, production).written == dict.fromkeys(NAMES, 0)
    before = rows_written()
    change(
        staging,
        "UPDATE fct_left SET amount = 2 WHERE id <= 5; DELETE FROM fct_left WHERE id > 1995;"
        "INSERT INTO fct_left SELECT i, 1, 1 FROM generate_series(3001, 3010) i",
    )
    # The other slot has to catch up, too.
    for _ in range(2):
        done = published(staging, production)
        assert done.written == {"dim_member": 0, "fct_right": 0, "fct_left": 25}
    assert rows_written() - before == 50
    assert published(staging, production).written == dict.fromkeys(NAMES, 0)
    [found] = [audit for audit in done.audits if audit.name == "fct_left_equals_staging"]
    assert found.details == {
        "row_count": ROWS + 5,
        "row_count_staging": ROWS + 5,
        "compared": "changed rows",
    }
    [keys] = [audit for audit in done.audits if audit.name == "fct_left_member_resolves"]
    assert keys.details["total"] == ROWS + 5, "the same rows as live, so no row was read"
    assert query(staging, "SELECT count(*) FROM publication_changes.of_fct_left") == [(0,)]
    schemas = "SELECT nspname FROM pg_namespace WHERE nspname ~ '^production_(added|removed)'"
    assert query(production, schemas) == []


def test_audits_read_only_added_rows(staging, production):
    change(staging, "UPDATE fct_left SET amount = 2 WHERE id <= 5")
    done = published(staging, production)
    totals = {audit.name: audit.details.get("total") for audit in done.audits}
    assert totals["fct_left_key_unique"] == totals["fct_left_member_resolves"] == 5
    assert totals["fct_right_key_unique"] == ROWS


@pytest.mark.parametrize("seed", range(3))
def test_whatever_changes_production_equals_staging(staging, production, seed, monkeypatch):
    """Random changes, refreshes, refused and partial publications, and readers that stay."""
    monkeypatch.setattr(slots, "PATIENCE_SECONDS", 0.2)
    chance = random.Random(seed)

    def some() -> str:
        return f"id % 97 = {chance.randrange(97)}"

    def step(fact: str) -> str:
        start = chance.randrange(10_000, 10_000_000)
        return chance.choice(
            [
                f"UPDATE {fact} SET amount = amount + 1 WHERE {some()}",
                f"UPDATE {fact} SET id = id + 20000000 WHERE {some()} AND id < 20000000",
                f"DELETE FROM {fact} WHERE {some()}",
                f"INSERT INTO {fact} SELECT i, i % 10 + 1, 1 FROM generate_series({start}, "
                f"{start + 9}) i WHERE NOT EXISTS (SELECT FROM {fact} WHERE id = i)",
                f"DELETE FROM {fact} WHERE id = 7; INSERT INTO {fact} VALUES (7, 1, 1)",
                f"CREATE TABLE kept AS TABLE {fact}; TRUNCATE {fact};"
                f"INSERT INTO {fact} TABLE kept; DROP TABLE kept",
                SWAP.format(fact),
            ]
        )

    for _ in range(12):
        for _ in range(chance.randrange(4)):
            change(staging, step(chance.choice(NAMES[1:])))
        with production.connect() as reader:
            reader.isolation_level = IsolationLevel.REPEATABLE_READ
            question = "SELECT count(*), sum(amount), sum(id) FROM production.fct_left"
            seen = reader.execute(question).fetchone()
            if chance.random() < 0.4:
                # A mistake that holds its line, or everything.
                change(staging, "INSERT INTO fct_left VALUES (999999999, 99, 1)")
                lines = chance.choice([None, {"left"}, {"left", "right"}])
                if lines == {"left"}:
                    with pytest.raises(AuditFailed):
                        publish(staging, production, TABLES, AUDITS, lines=lines)
                else:
                    done = publish(staging, production, TABLES, AUDITS, lines=lines)
                    assert {n for n, each in done.lines.items() if not each.passed} == {"left"}
                change(staging, "DELETE FROM fct_left WHERE id = 999999999")
            if chance.random() < 0.3:
                publish(staging, production, TABLES, AUDITS, lines={chance.choice(["right"])})
            published(staging, production)
            assert reader.execute(question).fetchone() == seen


def test_a_lost_change_is_noticed(staging, production):
    change(staging, "UPDATE fct_left SET amount = 2 WHERE id <= 5")
    change(staging, "DELETE FROM publication_changes.of_fct_left WHERE id = 3")
    told: list[str] = []
    assert published(staging, production, told).written["fct_left"] == ROWS
    [line] = [line for line in told if line.startswith("fct_left: ")]
    assert "2,000 rows copied, because its changed rows lead to 2,000 rows with the sum" in line


def test_a_row_that_production_spoils_is_noticed(staging, production):
    """A trigger stands for whatever may change rows on the way."""
    with production.connect() as session:
        session.execute(
            """
            CREATE FUNCTION public.spoil() RETURNS trigger LANGUAGE plpgsql AS
              $$ BEGIN NEW.amount = 3; RETURN NEW; END $$;
            CREATE TRIGGER spoil BEFORE INSERT ON production_slot_11.fct_left
              FOR EACH ROW WHEN (NEW.id = 3) EXECUTE FUNCTION public.spoil();
            """
        )
    change(staging, "UPDATE fct_left SET amount = 2 WHERE id <= 5")
    told: list[str] = []
    with pytest.raises(slots.PublishError, match="fct_left: the copy of what is live"):
        publish(staging, production, TABLES, AUDITS, on_progress=told.append)
    names = "fct_left_equals_staging, fct_left_totals"
    assert f"left is held and keeps what is live: {names} failed" in told


def test_a_complete_publication_finds_what_no_trigger_noted(staging, production):
    with staging.connect() as session:
        session.execute("SET session_replication_role = replica")
        session.execute("UPDATE warehouse.fct_left SET amount = 2 WHERE id = 1")
    publish(staging, production, TABLES, AUDITS)
    with pytest.raises(AssertionError):
        assert_equal(staging, production)
    told: list[str] = []
    done = publish(staging, production, TABLES, AUDITS, on_progress=told.append, complete=True)
    assert_equal(staging, production)
    assert done.written == {"dim_member": 0, "fct_right": 0, "fct_left": ROWS}
    [line] = [line for line in told if line.startswith("fct_left: ") and "copied" in line]
    assert "although its changes were written" in line
    totals = {audit.name: audit.details.get("total") for audit in done.audits}
    assert totals["fct_right_key_unique"] == totals["fct_right_member_resolves"] == ROWS
    # The version that was live has the same mistake, so the next one does not build on it.
    for _ in range(2):
        published(staging, production)
    change(staging, "UPDATE fct_left SET amount = 3 WHERE id = 2")
    assert published(staging, production).written["fct_left"] == 2


def test_the_second_publication_writes_a_difference_already(staging):
    """The first one fills both slots, and so does one that makes new slots for other columns."""
    with database() as production:
        for column in ("amount", "note"):
            told: list[str] = []
            published(staging, production, told)
            assert f"fct_left: {ROWS:,} rows copied, because the slot does" in "\n".join(told)
            assert_slots_are_alike(production)
            change(staging, f"UPDATE fct_left SET {column} = '2' WHERE id <= 5")
            for _ in range(2):
                done = published(staging, production)
                assert done.written == {"dim_member": 0, "fct_right": 0, "fct_left": 10}
            change(staging, "ALTER TABLE fct_left ADD COLUMN IF NOT EXISTS note text DEFAULT 'x'")


def assert_slots_are_alike(production: PostgresConnection) -> None:
    """Both slots hold the live rows, with the same indexes and statistics."""
    with production.connect() as session:
        current = slots.read_current(session)
        assert current
        live, other = slots.slots_of(slots.pair_of(current.slot))
        held = contents.read(session)
        assert current.slot == live
        assert held[live] == held[other]
        assert slots.read_indexes(session, live) == slots.read_indexes(session, other)
        schema = slots.slot_schema(other)
        for name, columns in slots.read_shapes(session, schema)[schema].items():
            rows = contents.count(session, slots.slot_table(other, name), dict(columns))
            assert rows == held[other][name].rows
        figures = (
            "SELECT reltuples FROM pg_class WHERE relnamespace = '{}'::regnamespace ORDER BY 1"
        )
        numbers = [
            session.execute(figures.format(slots.slot_schema(slot)).encode()).fetchall()
            for slot in (live, other)
        ]
        assert numbers[0] == numbers[1]


def test_a_table_that_dbt_replaced_is_copied_whole_and_watched_again(staging, production):
    change(staging, SWAP.format("fct_left") + "UPDATE fct_left SET amount = 2 WHERE id = 7")
    told: list[str] = []
    for _ in range(2):
        assert published(staging, production, told).written["fct_left"] == ROWS
    lines = [line for line in told if line.startswith("fct_left: ")]
    assert (
        lines
        == [
            "fct_left: 2,000 rows copied, because the table was replaced in staging",
        ]
        * 2
    )
    change(staging, "UPDATE fct_left SET amount = 2 WHERE id = 1")
    assert published(staging, production).written["fct_left"] == 2
    change(staging, "CREATE TABLE kept AS TABLE fct_left; TRUNCATE fct_left")
    change(staging, "INSERT INTO fct_left TABLE kept")
    told.clear()
    assert published(staging, production, told).written["fct_left"] == ROWS
    assert any("fct_left: 2,000 rows copied, because its changes" in line for line in told)


def test_a_table_that_dbt_replaced_by_the_same_rows_is_not_written(staging, production):
    for number in range(1, 4):
        change(staging, SWAP.format("fct_left"))
        change(staging, "INSERT INTO fct_right VALUES (99999, 99, 1)")
        # The other line is held, and this one has to fit its live rows again afterwards.
        done = publish(staging, production, TABLES, AUDITS)
        assert done.written["fct_left"] == 0
        assert [name for name, each in done.lines.items() if not each.passed] == ["right"]
        change(staging, "DELETE FROM fct_right WHERE id = 99999")
        assert published(staging, production).written["fct_left"] == 0
        change(staging, f"UPDATE fct_left SET amount = 2 WHERE id = {number}")
        for _ in range(2):
            assert published(staging, production).written["fct_left"] == 2


def test_a_replaced_table_with_the_same_rows_keeps_its_version(staging, production):
    def versions() -> dict[str, str]:
        with production.connect() as session:
            return {name: contents.version_of(session, name) for name in NAMES}

    before = versions()
    change(staging, SWAP.format("fct_left") + "UPDATE fct_right SET amount = 2 WHERE id = 1")
    done = published(staging, production)
    after = versions()
    assert after == done.versions
    assert after["fct_left"] == before["fct_left"]
    assert {name.partition("/")[0] for name in before.values()} == {"1"}
    assert after["fct_right"].startswith("3/")


def test_what_an_older_release_published_has_the_version_of_the_whole(production):
    """Until the next publication. Extracts may be written before."""
    with production.connect() as session:
        session.execute("DROP TABLE production_meta.contents")
        assert contents.version_of(session, "fct_left") == "2"
        session.rollback()
        assert contents.version_of(session, "fct_left").startswith("1/2000/")


def test_a_new_column_a_new_table_and_another_key(staging, production):
    change(staging, "ALTER TABLE fct_left ADD COLUMN note text DEFAULT 'x'")
    for _ in range(2):
        published(staging, production)
    change(staging, "UPDATE fct_left SET note = 'y' WHERE id = 1")
    assert published(staging, production).written["fct_left"] == 2
    # A trigger of before must not stop who writes after a change of columns.
    change(
        staging,
        "ALTER TABLE fct_left RENAME COLUMN note TO remark;"
        "UPDATE fct_left SET remark = 'z' WHERE id = 2",
    )
    for _ in range(2):
        published(staging, production)
    # Another key: rows that it does not keep apart must be noticed.
    declared = [TABLES[0], replace(TABLES[1], key=("id", "amount")), TABLES[2]]
    change(staging, "INSERT INTO fct_left VALUES (1, 1, 5, 'z')")
    for _ in range(2):
        done = publish(staging, production, declared, audits_of(declared))
        assert done.lines["left"].passed
        assert_equal(staging, production)
    change(staging, "UPDATE fct_left SET amount = 6 WHERE amount = 5")
    assert publish(staging, production, declared, audits_of(declared)).written["fct_left"] == 2
    assert_equal(staging, production)
    change(staging, "UPDATE fct_left SET amount = 1 WHERE id = 1")
    done = publish(staging, production, declared, audits_of(declared))
    assert [each.name for each in done.lines["left"].failed] == ["fct_left_key_unique"]
    # A table that is published no more is not watched any more.
    new = replace(TABLES[1], declared=Published("fct_new"), references=())
    change(staging, "CREATE TABLE fct_new AS SELECT 1 AS id")
    assert publish(staging, production, [TABLES[0], new], ()).row_counts["fct_new"] == 1
    assert query(staging, "SELECT table_name FROM publication_changes._tables ORDER BY 1") == [
        ("dim_member",),
        ("fct_new",),
    ]


def test_a_refused_row_is_refused_again_until_it_is_repaired(staging, production):
    """It stays in the slot. The next publication does not write it, and must not overlook it."""
    change(staging, "INSERT INTO fct_left VALUES (5000, 99, 1)")
    for _ in range(3):
        with pytest.raises(AuditFailed, match="fct_left_member_resolves"):
            publish(staging, production, TABLES, AUDITS, lines={"left"})
        change(staging, "UPDATE fct_left SET amount = amount + 1 WHERE id = 1")
    change(staging, "UPDATE fct_left SET member = 1 WHERE id = 5000")
    assert published(staging, production).written["fct_left"] <= 8
    # The same of a key that is there twice, which the index of the slot refuses.
    change(staging, "INSERT INTO fct_left VALUES (5000, 1, 1)")
    for _ in range(3):
        done = publish(staging, production, TABLES, AUDITS)
        assert [each.name for each in done.lines["left"].failed] == ["fct_left_key_unique"]
    change(staging, "DELETE FROM fct_left WHERE id = 5000")
    published(staging, production)
    change(staging, "INSERT INTO fct_left VALUES (NULL, 1, 1)")
    done = publish(staging, production, TABLES, AUDITS)
    assert [each.name for each in done.lines["left"].failed] == ["fct_left_key_unique"]


def test_rows_that_did_not_change_may_lose_what_they_refer_to(staging, production):
    change(staging, "DELETE FROM dim_member WHERE member = 3")
    with pytest.raises(AuditFailed) as caught:
        publish(staging, production, TABLES, AUDITS)
    names = {"fct_left_member_resolves", "fct_right_member_resolves"}
    assert {result.name for result in caught.value.failed} == names
    change(staging, "INSERT INTO dim_member VALUES (3)")
    published(staging, production)


def test_a_reference_that_is_new_is_audited_whole(staging, production):
    change(staging, "UPDATE dim_member SET member = member")
    reference = replace(TABLES[1].references[0], column="id")
    declared = [TABLES[0], replace(TABLES[1], references=(reference,)), TABLES[2]]
    done = publish(staging, production, declared, audits_of(declared))
    assert [each.name for each in done.lines["left"].failed] == ["fct_left_id_resolves"]


def test_sums_are_carried_forward(staging, production):
    audits = audits_of(SUMS)
    agrees = "fct_right_amount_agrees_with_fct_left"

    def sums(done: Publication) -> dict[str, object]:
        [found] = [audit for audit in done.audits if audit.name == agrees]
        return found.details

    for _ in range(2):
        publish(staging, production, SUMS, audits)
    for name in NAMES[1:]:
        change(staging, f"UPDATE {name} SET amount = 2.50 WHERE id = 1")
        change(staging, f"DELETE FROM {name} WHERE id = 2")
    for _ in range(2):
        done = publish(staging, production, SUMS, audits)
        assert sums(done) == {"amount": "2000.50", "amount_of_fct_left": "2000.50"}
        assert done.written["fct_left"] == 3
    change(staging, "UPDATE fct_left SET amount = amount + 0.01 WHERE id = 9")
    done = publish(staging, production, SUMS, audits)
    assert [each.name for each in done.lines["right"].failed] == [agrees]
    assert sums(done) == {"amount": "2000.50", "amount_of_fct_left": "2000.51"}


def test_sums_of_many_digits_are_carried_forward_exactly(staging, production):
    audits, digits = audits_of(SUMS), "12345678901234567890.12345678901234567891"
    for name in NAMES[1:]:
        change(staging, f"ALTER TABLE {name} ALTER amount TYPE numeric")
        change(staging, f"UPDATE {name} SET amount = {digits} WHERE id = 1")
    for _ in range(2):
        publish(staging, production, SUMS, audits)
    change(staging, "UPDATE fct_left SET amount = 3 WHERE id = 2")
    change(staging, "UPDATE fct_right SET amount = 3 WHERE id = 2;" + SWAP.format("fct_right"))
    done = publish(staging, production, SUMS, audits)
    assert (done.written["fct_left"], done.written["fct_right"]) == (2, ROWS)
    assert all(outcome.passed for outcome in done.lines.values())


def test_a_key_that_changes_its_type_holds_no_line(staging, production):
    """Old and new values cannot be compared, so all references are audited."""
    references = (replace(TABLES[1].references[0], unknown="'0'"),)
    declared = [TABLES[0], *(replace(table, references=references) for table in TABLES[1:])]
    audits = audits_of(declared)
    publish(staging, production, declared, audits)
    for name in NAMES:
        change(staging, f"ALTER TABLE {name} ALTER member TYPE text USING 'm' || member")
    done = publish(staging, production, declared, audits)
    assert [each for each in done.audits if not each.passed] == []
    assert_equal(staging, production)


def test_two_production_databases_of_one_staging(staging, production):
    """Notes that one has used are gone for the other, which copies the table whole."""
    with database() as other:
        for number in range(3):
            change(staging, f"UPDATE fct_left SET amount = 2 WHERE id = {number}")
            for _ in range(2):
                published(staging, production)
            published(staging, other)


def test_a_held_line_gets_its_live_rows_back_by_difference(staging, production):
    for version in range(3):
        change(staging, f"UPDATE fct_left SET amount = 5, member = 99 WHERE id = {version + 1}")
        change(staging, f"UPDATE fct_right SET amount = 5 WHERE id = {version + 1}")
        done = publish(staging, production, TABLES, AUDITS)
        assert [each.name for each in done.lines["left"].failed] == ["fct_left_member_resolves"]
        assert done.written["fct_left"] <= 4 * (version + 1)
        assert done.written["fct_right"] <= 4
        assert query(production, "SELECT sum(amount) FROM production.fct_left") == [(ROWS,)]
    change(staging, "UPDATE fct_left SET member = 1 WHERE member = 99")
    assert published(staging, production).written["fct_left"] <= 2 * 3
