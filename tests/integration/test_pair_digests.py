"""The digests of keys and cursors, by which an incremental load finds deletions and late rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import date, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from softcart_assets.connections import MySQLConnection, PostgresConnection
from softcart_assets.ingestion.connectors.mysql.dialect import MYSQL
from softcart_assets.ingestion.connectors.mysql.reader import MySQLReader
from softcart_assets.ingestion.connectors.mysql.session import Session
from softcart_assets.ingestion.proof import digest
from softcart_assets.ingestion.proof.digest import Digest, Segments
from softcart_assets.ingestion.proof.postgres import POSTGRES
from softcart_assets.ingestion.proof.verify import compare
from softcart_assets.ingestion.sinks.pairs import Pairs
from softcart_assets.ingestion.types import Column
from tests.support.ingestion import (
    fill,
    incremental,
    load_all,
    mysql_rows,
    query,
    raw_rows,
    run,
    source_of,
)

SOURCE = source_of(incremental("items", "id"))
START = datetime(2026, 1, 1)
MOMENTS = st.datetimes(datetime(1000, 1, 1), datetime(9999, 12, 31))
COLUMNS = {
    "n": ("bigint", "bigint", st.integers(-(2**63), 2**63 - 1)),
    "u": ("bigint unsigned", "numeric(20,0)", st.integers(0, 2**64 - 1)),
    "d": ("decimal(12,3)", "numeric(12,3)", st.decimals(-(10**8), 10**8, places=3)),
    "wide": ("decimal(40,5)", "numeric(40,5)", st.decimals(-(10**30), 10**30, places=5)),
    "code": ("varchar(9) COLLATE utf8mb4_bin", "text", st.text("aé🛒 0", max_size=9)),
    "b": ("varbinary(9)", "bytea", st.binary(max_size=9)),
    "day": ("date", "date", st.dates(date(1000, 1, 1))),
    "at": ("datetime(6)", "timestamp", MOMENTS),
    "span": ("time(6)", "interval", st.timedeltas(timedelta(0), timedelta(30))),
}
# What comes last is the cursor, which may be NULL.
DIVISIONS = ["n at", "u at", "n u d wide n at", "code at", "b n", "day d", "at code day", "span u"]


@pytest.mark.parametrize("names", DIVISIONS)
@settings(
    max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.data())
def test_both_databases_have_the_same_digest_exactly_if_the_rows_are_the_same(
    any_mysql: MySQLConnection, postgres: PostgresConnection, names: str, data: st.DataObject
) -> None:
    *key, cursor = (Column(name, *COLUMNS[name][:2]) for name in dict.fromkeys(names.split()))
    values = [COLUMNS[c.name][2] for c in key]
    pairs = st.lists(st.tuples(*values, COLUMNS[cursor.name][2] | st.none()), max_size=20)
    rows = data.draw(pairs)
    # Often rows that differ little: one is lost, or two have met.
    others = data.draw(st.permutations(rows) | pairs | st.just(rows[1:]) | st.just(rows[:1] * 2))
    segments = Segments.of_about_a_thousand_rows(tuple(key), cursor, 20)
    columns = [*key, cursor]
    run(any_mysql, "DROP TABLE IF EXISTS pairs", f"CREATE TABLE pairs ({_defined(columns, 0)})")
    if rows:
        fill(any_mysql, "pairs", rows)
    session = Session(any_mysql)
    [at_source] = session.query(f"SELECT {segments.digest(MYSQL)} FROM pairs")
    session.close()
    assert _digest(at_source) == _in_postgres(postgres, segments, columns, rows)
    is_same = Counter(rows) == Counter(others)
    assert (_digest(at_source) == _in_postgres(postgres, segments, columns, others)) == is_same


def _defined(columns: Iterable[Column], number: int) -> str:
    return ", ".join(f"`{c.name}` {(c.source_type, c.target_type)[number]}" for c in columns)


def _digest(row: Iterable[object]) -> Digest:
    count, total = (int(str(value or 0)) for value in row)
    return count, total


def _in_postgres(
    postgres: PostgresConnection, segments: Segments, columns: list[Column], rows: list[tuple]
) -> Digest:
    with postgres.connect() as connection:
        definitions = _defined(columns, 1).replace("`", '"')
        connection.execute(f"CREATE TEMP TABLE pairs ({definitions}) ON COMMIT DROP".encode())
        with connection.cursor() as cursor:
            places = ", ".join(["%s"] * len(columns))
            cursor.executemany(f"INSERT INTO pairs VALUES ({places})".encode(), rows)
        found = connection.execute(f"SELECT {segments.digest(POSTGRES)} FROM pairs".encode())
        return _digest(found.fetchone() or ())


# Sets of as many keys, with equal sums of keys, of their squares, and so on up to some power.
SWAPS = [
    ({7}, {7 + 2**31 - 1}),
    ({1, 4}, {2, 3}),
    ({7, 5 + 2**31 - 1}, {7 + 2**31 - 1, 5}),
    ({1, 5, 6}, {2, 3, 7}),
    ({0, 4, 7, 11}, {1, 2, 9, 10}),
    ({1, 2, 10, 14, 18}, {0, 4, 8, 16, 17}),
    ({-n for n in (0, 4, 9, 17, 22, 26)}, {-n for n in (1, 2, 12, 14, 24, 25)}),
]


@pytest.mark.parametrize(("gone", "come"), SWAPS)
def test_no_swap_of_keys_hides_behind_equal_count_and_sum(
    postgres: PostgresConnection, gone: set[int], come: set[int]
) -> None:
    """All rows have the same cursor, as after a bulk update. Only the keys can tell them apart."""
    key, cursor = Column("id", "bigint", "bigint"), Column("at", "datetime(6)", "timestamp")
    with postgres.connect() as connection:
        for factor in (1, 1000, 10**9):
            for _ in range(100):
                segments = Segments.of_about_a_thousand_rows((key,), cursor, 1000)
                one, other = (
                    connection.execute(
                        f"SELECT {segments.digest(POSTGRES)} FROM (SELECT id * {factor} AS id,"
                        " timestamp '2026-01-01' AS at FROM unnest(%s::bigint[]) AS id) rows",
                        (sorted(keys),),
                    ).fetchone()
                    for keys in (gone, come)
                )
                assert one
                assert other
                assert one[0] == other[0]
                assert one[1] != other[1]


@pytest.fixture
def items(any_mysql: MySQLConnection, postgres: PostgresConnection, lake: str) -> MySQLConnection:
    """9,000 items that changed at one moment, loaded once. Some keys are free."""
    run(
        any_mysql,
        "CREATE TABLE items (id BIGINT PRIMARY KEY, name VARCHAR(50), updated_at DATETIME(6),"
        " KEY (updated_at))",
    )
    fill(
        any_mysql,
        "items",
        ((n, f"item {n}", START) for n in range(-4500, 4500) if n not in (102, 103, 107)),
    )
    run(any_mysql, f"INSERT INTO items VALUES (9999, 'last', '{START + timedelta(1)}')")
    load_all(SOURCE, any_mysql, postgres, lake)
    return any_mysql


def test_late_keys_in_place_of_deleted_ones_are_found(
    items: MySQLConnection, postgres: PostgresConnection, lake: str
) -> None:
    run(
        items,
        "DELETE FROM items WHERE id IN (101, 105, 106)",
        f"INSERT INTO items SELECT id, 'late', '{START}' FROM (SELECT 102 AS id UNION SELECT 103"
        " UNION SELECT 107) AS late",
    )
    result = load_all(SOURCE, items, postgres, lake)["items"]
    assert (result.strategy, result.inserted, result.deleted) == ("incremental", 3, 3)
    assert raw_rows(postgres, "items") == mysql_rows(items, "items")
    assert compare(SOURCE, postgres, "items").is_equal


def test_a_load_reads_nothing_of_raw_to_find_that_no_row_is_gone(
    items: MySQLConnection, postgres: PostgresConnection, lake: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What raw has follows its writes, so only the source has to look at all rows."""
    digests = Pairs.digests

    def refused(*_: object) -> dict[int, Digest]:
        raise AssertionError("raw was read")

    monkeypatch.setattr(Pairs, "digests", refused)
    assert not load_all(SOURCE, items, postgres, lake)["items"].is_changed
    later = START + timedelta(2)
    run(
        items,
        f"UPDATE items SET name = 'new', updated_at = '{later}' WHERE id % 100 = 7",
        f"INSERT INTO items VALUES (103, 'new', '{later}')",
    )
    result = load_all(SOURCE, items, postgres, lake)["items"]
    assert (result.inserted, result.updated) == (1, 44)
    monkeypatch.setattr(Pairs, "digests", digests)
    run(items, "DELETE FROM items WHERE id = 5")
    assert load_all(SOURCE, items, postgres, lake)["items"].deleted == 1
    monkeypatch.setattr(Pairs, "digests", refused)
    assert not load_all(SOURCE, items, postgres, lake)["items"].is_changed
    assert raw_rows(postgres, "items") == mysql_rows(items, "items")


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM raw_t.items WHERE id = 5",
        "UPDATE raw_t.items SET updated_at = NULL WHERE id = 5",
        "TRUNCATE raw_t.items",
        "CREATE TABLE raw_t.other (LIKE raw_t.items INCLUDING ALL); INSERT INTO raw_t.other SELECT"
        " * FROM raw_t.items WHERE id <> 5; DROP TABLE raw_t.items; ALTER TABLE raw_t.other RENAME"
        " TO items",
    ],
)
def test_what_somebody_else_did_to_raw_is_mended_by_the_next_load(
    items: MySQLConnection, postgres: PostgresConnection, lake: str, statement: str
) -> None:
    load_all(SOURCE, items, postgres, lake)
    with postgres.connect() as session:
        session.execute(statement.encode())
    load_all(SOURCE, items, postgres, lake)
    assert raw_rows(postgres, "items") == mysql_rows(items, "items")


def test_another_day_has_other_random_numbers(
    items: MySQLConnection, postgres: PostgresConnection, lake: str
) -> None:
    """What chance hides from one comparison of all rows, it does not hide from the next."""
    salts = []
    for age in (0, 0, 2):
        with postgres.connect() as session:
            session.execute(
                "UPDATE ingestion.raw_sums SET read_at = read_at - %s", [timedelta(age)]
            )
        load_all(SOURCE, items, postgres, lake)
        salts += query(postgres, "SELECT salt FROM ingestion.raw_sums")
    assert salts[0] == salts[1] != salts[2]
    assert query(postgres, "SELECT sums[1] FROM ingestion.raw_sums") == [(8998,)]


def test_only_the_parts_that_differ_are_looked_at_closer(
    items: MySQLConnection,
    postgres: PostgresConnection,
    lake: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A look at all rows without groups takes MySQL half the time."""
    monkeypatch.setattr(digest, "_SEGMENTS_A_PART", 2)
    asked, digests = [], MySQLReader.digests

    def watched(self, table, segments, part, number):
        asked.append((segments == part, number))
        return digests(self, table, segments, part, number)

    monkeypatch.setattr(MySQLReader, "digests", watched)
    assert not load_all(SOURCE, items, postgres, lake)["items"].is_changed
    parts = {number for is_first, number in asked if is_first}
    assert len(parts) == 4
    assert all(is_first for is_first, _ in asked)
    asked.clear()
    # The last row goes, too: raw has it beyond all keys of the source.
    run(items, "DELETE FROM items WHERE id IN (0, 1, 9999)")
    assert load_all(SOURCE, items, postgres, lake)["items"].deleted == 3
    assert {number for is_first, number in asked if not is_first} == {0, 4}
    assert raw_rows(postgres, "items") == mysql_rows(items, "items")
    asked.clear()
    run(items, "DELETE FROM items")
    assert load_all(SOURCE, items, postgres, lake)["items"].total == 0
    assert query(postgres, "SELECT count(*) FROM raw_t.items WHERE NOT _deleted") == [(0,)]


def test_a_key_without_an_index_at_the_source_is_read_once(
    mysql: MySQLConnection,
    postgres: PostgresConnection,
    lake: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each range of its keys would be another scan of the table."""
    monkeypatch.setattr(digest, "_SEGMENTS_A_PART", 1)
    run(mysql, "CREATE TABLE items (id BIGINT NOT NULL, updated_at DATETIME(6), v DECIMAL(9,2))")
    fill(mysql, "items", ((n, START, Decimal(n)) for n in range(5000)))
    load_all(SOURCE, mysql, postgres, lake)
    asked, digests = [], MySQLReader.digests

    def watched(self, *arguments):
        asked.append(arguments)
        return digests(self, *arguments)

    monkeypatch.setattr(MySQLReader, "digests", watched)
    assert not load_all(SOURCE, mysql, postgres, lake)["items"].is_changed
    assert len(asked) == 1
    run(mysql, "DELETE FROM items WHERE id = 77")
    assert load_all(SOURCE, mysql, postgres, lake)["items"].deleted == 1
