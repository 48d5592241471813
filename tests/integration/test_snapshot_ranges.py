"""Big tables in key ranges: the ranges hold every row once, whatever the keys; what is copied
equals the source.
"""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from softcart_assets.connections import MySQLConnection, PostgresConnection
from softcart_assets.ingestion.connectors.mysql import ranges
from softcart_assets.ingestion.connectors.mysql.reader import MySQLReader
from softcart_assets.ingestion.connectors.mysql.session import Session
from softcart_assets.ingestion.engine.parts import PartTable
from softcart_assets.ingestion.errors import LoadsFailed, MissingGrant
from softcart_assets.ingestion.load import LoadRequest, load
from softcart_assets.ingestion.proof.verify import compare
from softcart_assets.lines.model import Source, Table
from tests.support.ingestion import load_all, mysql_rows, query, raw_rows, run, snapshot, source_of

KEYS = {
    "dense": ("id INT PRIMARY KEY", "seq"),
    "skewed": ("id BIGINT PRIMARY KEY", "IF(seq <= 990, seq, seq * 9000000000000)"),
    "negative": ("id BIGINT PRIMARY KEY", "CAST(seq * seq * seq AS SIGNED) - 500000000"),
    "unsigned": ("id BIGINT UNSIGNED PRIMARY KEY", "18446744073709551615 - seq * 3"),
    "string": ("id VARCHAR(40) PRIMARY KEY", "CONCAT(CHAR(97 + seq % 26), 'é''\\\\%', seq)"),
    "latin": (
        "id VARCHAR(40) CHARACTER SET latin1 PRIMARY KEY",
        "CONCAT(CHAR(97 + seq % 26), 'Ü', seq)",
    ),
    "binary": ("id VARBINARY(20) PRIMARY KEY", "UNHEX(SHA1(seq))"),
    "decimal": ("id DECIMAL(20,5) PRIMARY KEY", "seq / 7"),
    "moment": ("id DATETIME(6) PRIMARY KEY", "'2026-01-01' + INTERVAL seq * 1000003 MICROSECOND"),
    "enum": (
        "id ENUM('b', 'a', 'c') NOT NULL, n INT NOT NULL, PRIMARY KEY (id, n)",
        "1 + seq % 3, seq",
    ),
    "composite": ("id INT NOT NULL, n INT NOT NULL, PRIMARY KEY (id, n)", "seq DIV 100, seq"),
    "optional": ("id INT NULL, KEY (id)", "IF(seq % 10 = 0, NULL, seq)"),
    "unindexed": ("id INT NOT NULL", "seq"),
}


@pytest.fixture(autouse=True)
def small_ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranges, "_RANGE_ROWS", (40, 100))


def _make(
    connection: MySQLConnection, table: str, columns: str, values: str, rows: int = 1000
) -> None:
    filling = f"SELECT {values}, CONCAT('row ', seq) FROM seq_1_to_{rows}"
    run(
        connection,
        f"CREATE TABLE {table} ({columns}, v VARCHAR(50))",
        f"INSERT INTO {table} {filling}",
        f"ANALYZE TABLE {table}",
    )


def plug_pulled_at(number: int, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Let the load fail when so many ranges are recorded. Returns their list, which grows."""
    record, recorded = PartTable.record, []

    def failing(self: PartTable, *arguments) -> None:
        record(self, *arguments)
        recorded.append(arguments[1])
        if len(recorded) == number:
            raise RuntimeError("the plug was pulled")

    monkeypatch.setattr(PartTable, "record", failing)
    return recorded


@pytest.mark.parametrize("kind", KEYS)
def test_ranges_hold_every_row_once(mysql: MySQLConnection, kind: str) -> None:
    columns, values = KEYS[kind]
    _make(mysql, "t", columns, values)
    source = source_of(snapshot("t", "id"))
    [table] = source.tables
    with closing(
        Session(mysql)
    ) as session:  # left open, it would keep the database from being dropped
        reader = MySQLReader(source, session, "")
        conditions = reader.ranges(table, reader.columns(table, ()), 2)
        if kind in ("enum", "unindexed"):
            assert conditions == [None]
            return
        counts = [
            int(session.query(f"SELECT COUNT(*) FROM t WHERE {each}")[0][0] or 0)
            for each in conditions
        ]
    assert sum(counts) == 1000
    assert len(counts) > 4
    assert max(counts) <= 250


@pytest.mark.parametrize("kind", sorted(KEYS.keys() - {"optional", "enum", "unindexed"}))
def test_a_table_in_ranges_equals_its_source(
    mysql: MySQLConnection, postgres: PostgresConnection, lake: str, kind: str
) -> None:
    columns, values = KEYS[kind]
    _make(mysql, "t", columns, values)
    key = ("id", "n") if kind == "composite" else ("id",)
    source = source_of(Table("t", "", key, "snapshot", (), history=True))
    first = load_all(source, mysql, postgres, lake)["t"]
    assert (first.inserted, first.total) == (1000, 1000)
    run(mysql, "UPDATE t SET v = 'changed' WHERE v LIKE '%7'", "DELETE FROM t WHERE v LIKE '%3'")
    second = load_all(source, mysql, postgres, lake)["t"]
    assert (second.inserted, second.updated, second.deleted) == (0, 100, 100)
    assert sorted(raw_rows(postgres, "t"), key=str) == sorted(mysql_rows(mysql, "t"), key=str)
    assert compare(source, postgres, "t").is_equal
    assert query(postgres, "SELECT count(*) FROM raw_t.t_history") == [(1200,)]
    assert query(postgres, "SELECT sum(row_count) FROM ingestion.lake_files") == [(1200,)]
    assert query(postgres, "SELECT count(*) FROM ingestion.snapshot_ranges") == [(0,)]
    assert query(postgres, "SELECT count(*) FROM pg_tables WHERE tablename LIKE 'part_%'") == [(0,)]


def test_bad_rows_of_ranges_are_in_quarantine(
    mysql: MySQLConnection, postgres: PostgresConnection, lake: str
) -> None:
    _make(
        mysql,
        "t",
        "id INT PRIMARY KEY, d DATE",
        "seq, IF(seq % 100 = 0, '0000-00-00', '2026-01-01')",
    )
    source = source_of(snapshot("t", "id"))
    result = load_all(source, mysql, postgres, lake)["t"]
    assert (result.inserted, result.quarantined) == (990, 10)
    run(mysql, "UPDATE t SET d = '2026-02-02' WHERE id = 100")
    result = load_all(source, mysql, postgres, lake)["t"]
    assert (result.inserted, result.quarantined, result.total) == (1, 9, 991)
    assert compare(source, postgres, "t").is_equal


def test_all_readers_share_the_question_for_checksums(
    mysql: MySQLConnection, postgres: PostgresConnection, lake: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One reader takes a source of two processors twice the time."""
    asked, checksums = [], MySQLReader.checksums

    def watched(self, table, columns, where=None):
        asked.append((columns, where))
        return checksums(self, table, columns, where)

    monkeypatch.setattr(MySQLReader, "checksums", watched)
    _make(
        mysql,
        "t",
        "id BIGINT UNSIGNED PRIMARY KEY, d DATE",
        "18446744073709551615 - seq * 3, IF(seq % 100 = 0, '0000-00-00', '1969-01-01')",
    )
    source = source_of(snapshot("t", "id"))
    load_all(source, mysql, postgres, lake)
    assert len({where for _, where in asked}) > 4
    assert [columns for columns, where in asked if not where] == [()]
    found = compare(source, postgres, "t")
    assert found.is_equal
    assert (found.statement.rows, found.quarantined_rows) == (990, 10)


def test_a_row_that_ranges_lose_is_missed(
    mysql: MySQLConnection, postgres: PostgresConnection, lake: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The source states its rows by the same ranges. It must not state too few, as raw has."""
    conditions = ranges.conditions

    def fewer(*arguments) -> list[str | None]:
        return conditions(*arguments)[:-1]

    monkeypatch.setattr(ranges, "conditions", fewer)
    _make(mysql, "t", "id INT PRIMARY KEY", "seq")
    source = source_of(snapshot("t", "id"))
    lost = 1000 - load_all(source, mysql, postgres, lake)["t"].total
    found = compare(source, postgres, "t")
    assert lost
    assert (found.statement.rows, found.raw_rows) == (1000, 1000 - lost)
    assert not found.is_equal


def test_an_empty_raw_table_with_a_view_is_filled_in_place(
    mysql: MySQLConnection, postgres: PostgresConnection, lake: str
) -> None:
    run(mysql, "CREATE TABLE t (id INT PRIMARY KEY, v VARCHAR(50))")
    source = source_of(snapshot("t", "id"))
    load_all(source, mysql, postgres, lake)
    with postgres.connect() as session:
        session.execute("CREATE VIEW seen AS SELECT * FROM raw_t.t")
    run(mysql, "INSERT INTO t SELECT seq, 'x' FROM seq_1_to_1000", "ANALYZE TABLE t")
    assert load_all(source, mysql, postgres, lake)["t"].inserted == 1000
    assert query(postgres, "SELECT count(*) FROM seen") == [(1000,)]
    assert query(postgres, "SELECT sum(row_count) FROM ingestion.lake_files") == [(1000,)]


def test_finished_ranges_outlast_a_failure_where_the_log_completes_them(
    mysql: MySQLConnection, postgres: PostgresConnection, lake: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The strategies that take a table at one position begin anew; change data capture goes on with
    what is missing.
    """
    _make(mysql, "t", "id INT PRIMARY KEY", "seq")
    recorded = plug_pulled_at(4, monkeypatch)
    source = source_of(snapshot("t", "id"))
    with pytest.raises(LoadsFailed, match="the plug was pulled"):
        list(load(LoadRequest(source, mysql, postgres, lake)))
    assert query(postgres, "SELECT count(*) FROM ingestion.snapshot_ranges") == [(0,)]
    recorded.clear()
    captured = Source(
        "t",
        "mysql",
        "",
        (Table("t", "", ("id",), "cdc", ()),),
        owner="team:test",
        prefix="SOFTCART_SHOP",
    )
    with pytest.raises(LoadsFailed, match="the plug was pulled"):
        list(load(LoadRequest(captured, mysql, postgres, lake)))
    done = query(
        postgres, "SELECT count(*) FROM ingestion.snapshot_ranges WHERE position IS NOT NULL"
    )[0][0]
    assert done > 0
    run(mysql, "UPDATE t SET v = 'changed meanwhile'", "DELETE FROM t WHERE id <= 500")
    before = len(recorded)
    list(load(LoadRequest(captured, mysql, postgres, lake)))
    assert len(recorded) - before + done < before + 20
    assert raw_rows(postgres, "t") == mysql_rows(mysql, "t")


def test_finished_ranges_outlast_a_failure_before_the_copy_goes_on(
    mysql: MySQLConnection, postgres: PostgresConnection, lake: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A grant that is missing at the next attempt must not cost the hours of the first one."""
    _make(mysql, "t", "id INT PRIMARY KEY", "seq")
    recorded = plug_pulled_at(4, monkeypatch)

    def refused(*_: object) -> None:
        raise MissingGrant("not now")

    source = source_of(Table("t", "", ("id",), "cdc", ()))
    with pytest.raises(LoadsFailed, match="the plug was pulled"):
        load_all(source, mysql, postgres, lake)
    done = "SELECT number FROM ingestion.snapshot_ranges WHERE position IS NOT NULL ORDER BY 1"
    finished = query(postgres, done)
    assert finished
    with monkeypatch.context() as patch:
        patch.setattr(MySQLReader, "columns", refused)
        with pytest.raises(LoadsFailed, match="not now"):
            load_all(source, mysql, postgres, lake)
    assert query(postgres, done) == finished
    recorded[:] = [0] * 4
    load_all(source, mysql, postgres, lake)
    assert not {number for (number,) in finished} & set(recorded[4:])
    assert raw_rows(postgres, "t") == mysql_rows(mysql, "t")
    paths = query(postgres, "SELECT path FROM ingestion.lake_files")
    assert all((Path(lake.removeprefix("file://")) / path).exists() for (path,) in paths)


def test_bad_rows_of_finished_ranges_stay_in_quarantine(
    mysql: MySQLConnection, postgres: PostgresConnection, lake: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A resumed copy does not read the finished ranges again, and must not take their bad rows for
    deleted.
    """
    dates = "seq, IF(seq % 100 = 0, '0000-00-00', '2026-01-01')"
    _make(mysql, "t", "id INT PRIMARY KEY, d DATE", dates)
    plug_pulled_at(8, monkeypatch)
    source = source_of(Table("t", "", ("id",), "cdc", ()))
    with pytest.raises(LoadsFailed, match="the plug was pulled"):
        load_all(source, mysql, postgres, lake)
    before = query(postgres, "SELECT count(*) FROM ingestion.quarantine")[0][0]
    assert before > 0
    # One of the bad rows is mended meanwhile, and one is deleted. The log tells both.
    run(mysql, "UPDATE t SET d = '2026-02-02' WHERE id = 100", "DELETE FROM t WHERE id = 200")
    result = load_all(source, mysql, postgres, lake)["t"]
    assert (result.total, result.quarantined) == (991, 8)
    assert compare(source, postgres, "t").is_equal
    closed = "SELECT key[1], closed_because FROM ingestion.quarantine WHERE closed_at IS NOT NULL"
    assert set(query(postgres, closed)) <= {("100", "mended"), ("200", "deleted")}
