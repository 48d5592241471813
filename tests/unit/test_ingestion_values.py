"""Parsing of the source's text, what is refused and how, COPY text, segments, and what the binary
log says.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import bson
import pyarrow as pa
import pytest
from bson import Decimal128
from hypothesis import given
from hypothesis import strategies as st

from softcart_assets.ingestion.codec.doctypes import Types
from softcart_assets.ingestion.connectors.mongodb.columns import DOCUMENT, ID, ID_TYPE, columns_for
from softcart_assets.ingestion.connectors.mongodb.rows import batch_of
from softcart_assets.ingestion.connectors.mongodb.values import id_text, id_value
from softcart_assets.ingestion.connectors.mysql.changes import _Events, _touched
from softcart_assets.ingestion.connectors.mysql.dialect import MYSQL
from softcart_assets.ingestion.connectors.mysql.names import Wanted
from softcart_assets.ingestion.connectors.mysql.types import target_type
from softcart_assets.ingestion.proof.digest import Segments
from softcart_assets.ingestion.types import Column, parse_rows, widens
from softcart_assets.lines.model import Table


def _raw(*values: bytes | None) -> pa.Array:
    return pa.array(values, pa.binary())


def test_bad_values_are_found_and_their_rows_kept_whole() -> None:
    columns = [
        Column("id", "int", "integer"),
        Column("t", "text", "text"),
        Column("at", "datetime(6)", "timestamp"),
        Column("n", "decimal(4,2)", "numeric(4,2)"),
        Column("j", "json", "jsonb"),
    ]
    batch = parse_rows(
        columns,
        [
            _raw(b"1", b"2", b"3", b"4", b"5", b"6"),
            _raw(b"fine", b"\xff\xfe", b"nul\0", b"", None, b""),
            _raw(
                None,
                None,
                None,
                b"0000-00-00 00:00:00",
                b"0000-01-01 00:00:00",
                b"2026-02-30 00:00:00.000000",
            ),
            _raw(b"99.99", b"-1", b"0", b"0", b"100.00", b"0"),
            _raw(b"{}", b"1", b"1", b"1", rb'"\u0000"', b"1"),
        ],
        key=("id",),
        cursor="at",
    )
    assert batch.rows.to_pylist() == [
        {"id": 1, "t": "fine", "at": None, "n": Decimal("99.99"), "j": "{}"}
    ]
    bad = {rejected.key: rejected for rejected in batch.rejected}
    assert {key: rejected.column for key, rejected in bad.items()} == {
        ("2",): "t",
        ("3",): "t",
        ("4",): "at",
        ("5",): "at",
        ("6",): "at",
    }
    assert bad["2",].row["t"] == "\\xfffe"
    assert bad["3",].reason == "NUL character, which PostgreSQL's text cannot hold"
    assert set(bad["5",].reason.split("; ")) == {
        "at: year 0, which PostgreSQL does not have",
        "n: value out of range for numeric(4,2)",
        "j: NUL character, which PostgreSQL's jsonb cannot hold",
    }
    assert bad["4",].cursor is None
    assert len(batch.rows) + len(batch.rejected) == 6


@pytest.mark.parametrize(
    ("text", "has_nul"),
    [
        (rb'"\u0000"', True),
        (rb'"a\u0000"', True),
        (rb'"\\\\u0000"', False),
        (rb'"\\\\\u0000"', True),
        (rb'"\\\\u0000 \u0000"', True),
        (rb'"u0000"', False),
    ],
)
def test_a_backslash_before_u0000_is_no_nul(text: bytes, has_nul: bool) -> None:
    batch = parse_rows([Column("j", "json", "jsonb")], [_raw(text)], key=(), cursor=None)
    assert bool(batch.rejected) == has_nul


@pytest.mark.parametrize(
    ("narrow", "wide", "does"),
    [
        ("smallint", "bigint", True),
        ("bigint", "integer", False),
        ("bigint", "numeric(20,0)", True),
        ("bigint", "numeric(20,2)", False),
        ("numeric(10,2)", "numeric(12,2)", True),
        ("numeric(10,2)", "numeric(12,4)", True),
        ("numeric(10,2)", "numeric(11,4)", False),
        ("numeric(10,2)", "double precision", False),
        ("text", "text", True),
        ("date", "timestamp", False),
    ],
)
def test_only_exact_widening_counts(narrow: str, wide: str, does: bool) -> None:
    assert widens(narrow, wide) is does


def test_unknown_types_have_no_target() -> None:
    assert target_type("int(10) unsigned", 10, 0) == "bigint"
    assert target_type("set('int','x')", None, None) == "text"
    assert target_type("some_new_type", None, None) is None


@given(
    st.integers(-(10**6), 10**6),
    st.lists(st.integers(-50, 50), unique=True, min_size=1),
    st.integers(1, 10**4),
)
def test_ranges_cover_their_segments_exactly(number: int, chosen: list[int], size: int) -> None:
    key = Column("id", "bigint", "bigint")
    where = Segments((key,), key, size).where(MYSQL, chosen)
    ranges = [part.split(" BETWEEN ")[1].split(" AND ") for part in where.strip("()").split(" OR ")]
    is_in = any(int(low) <= number <= int(high) for low, high in ranges)
    assert is_in == (math.trunc(number / size) in chosen)


@given(st.integers(-(10**6), 10**6), st.integers(-(10**6), 10**6), st.integers(0, 10**8))
def test_parts_have_whole_segments_and_every_key(one: int, other: int, rows: int) -> None:
    key = Column("id", "bigint", "bigint")
    bounds = min(one, other), max(one, other)
    segments = Segments.of_about_a_thousand_rows((key,), key, rows, bounds, is_indexed=True)
    parts = segments.parts()
    for number in (one, other):
        assert math.trunc(number / parts.size) in parts.numbers()
        segment = math.trunc(number / segments.size)
        assert math.trunc(segment * segments.size / parts.size) == math.trunc(number / parts.size)
    assert len(parts.numbers()) <= 203


@pytest.mark.parametrize(
    ("event", "info", "tables"),
    [
        ("Table_map", "table_id: 35 (shop.orders)", ["orders"]),
        ("Table_map", "table_id: 35 (shop.order lines)", ["order lines"]),
        ("Table_map", "table_id: 35 (shop.orders_old)", []),
        ("Table_map", "table_id: 35 (other.orders)", []),
        ("Write_rows_v1", "table_id: 35 flags: STMT_END_F", []),
        ("Query", "BEGIN", []),
        ("Query", "use `shop`; ALTER TABLE orders ADD COLUMN x INT", ["orders"]),
        ("Query", "use `shop`; ALTER TABLE orders_old ADD COLUMN x INT", []),
        ("Query", "use `other`; TRUNCATE shop.orders", ["orders"]),
        ("Query", "use `other`; ALTER TABLE orders ADD COLUMN x INT", []),
        ("Query", "use `shop`; UPDATE anything SET x = 1", ["orders", "order lines"]),
        ("Query", "DROP DATABASE shop", ["orders", "order lines"]),
        ("Transaction_payload", "compression='ZSTD'", ["orders", "order lines"]),
        ("Incident", "#1 (LOST_EVENTS)", ["orders", "order lines"]),
        ("Execute_load_query", "use `shop`; LOAD DATA INFILE 'x'", ["orders", "order lines"]),
        ("Xid", "COMMIT /* xid=1 */", []),
    ],
)
def test_what_a_log_event_touched(event: str, info: str, tables: list[str]) -> None:
    names = {name: name for name in ("orders", "order lines")}
    assert list(_touched(Wanted("shop", names, ignores_case=False), event, info)) == tables


@pytest.mark.parametrize("ignores_case", [False, True])
@pytest.mark.parametrize(
    ("event", "info"),
    [
        ("Table_map", "table_id: 35 (shop.orders)"),
        ("Query", "use `shop`; TRUNCATE ORDERS"),
        ("Query", "TRUNCATE SHOP.orders"),
    ],
)
def test_the_case_of_names_counts_if_it_does_for_the_server(
    event: str, info: str, ignores_case: bool
) -> None:
    """pingcap/dm#1646: a table that is spelled otherwise received nothing."""
    wanted = Wanted("Shop", {"sales": "Orders"}, ignores_case)
    assert list(_touched(wanted, event, info)) == (["sales"] if ignores_case else [])
    assert wanted.name("shop", "orders") == ("sales" if ignores_case else None)
    assert wanted.name("Shop", "Orders") == "sales"
    assert wanted.name("other", "Orders") is None


def test_an_xa_transaction_changes_its_tables_when_it_is_committed() -> None:
    """apache/flink-cdc#1239, with the texts of MySQL."""
    events = _Events(Wanted("shop", {"a": "a", "b": "b"}, ignores_case=False))
    log = [
        ("Query", "XA START X'78',X'',1", []),
        ("Table_map", "table_id: 1 (shop.a)", ["a"]),
        ("XA_prepare", "XA PREPARE X'78',X'',1", []),
        ("Table_map", "table_id: 2 (shop.b)", ["b"]),
        ("Query", "use `other`; XA COMMIT X'78',X'',1", ["a"]),
        ("Query", "XA ROLLBACK X'79',X'',1", []),
        # Prepared before the log that is looked at.
        ("Query", "XA COMMIT X'7A',X'',1", ["a", "b"]),
        ("Query", "XA START X'79',X'',1", []),
        ("Table_map", "table_id: 2 (shop.b)", ["b"]),
        ("XA_prepare", "XA COMMIT X'79',X'',1 ONE PHASE", []),
    ]
    assert [list(events.touched(event, info)) for event, info, _ in log] == [
        tables for _, _, tables in log
    ]


DOCS = Table("docs", "", ("_id",), "incremental", (), cursor="at")


def _typed(documents: list[Any], known: tuple[Column, ...] = ()) -> tuple[dict[str, str], Any]:
    types = Types()
    types.add(b"".join(map(bson.encode, documents)))
    columns, _ = columns_for(known or (ID, ID_TYPE, DOCUMENT), types.counts)
    return {c.name: c.target_type for c in columns}, batch_of(DOCS, columns, documents)


def test_numbers_of_documents_stay_exact_or_become_text() -> None:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    types, batch = _typed(
        [
            {"_id": 1, "at": at, "price": Decimal128("19.990"), "x": 1.5},
            {"_id": 2, "at": at, "price": 5, "x": float("nan")},
            {"_id": 3, "at": at, "price": 0.1, "x": 2.0**53},
            {"_id": 4, "at": at, "price": Decimal128("1e-19")},
            {"_id": 5, "at": at, "price": Decimal128("NaN")},
            {"_id": 6, "at": at, "price": 1e20},
        ]
    )
    assert types["price"] == "numeric(38,18)"
    assert [(row["price"], row["price__text"]) for row in batch.rows.to_pylist()] == [
        (Decimal("19.99"), None),
        (Decimal(5), None),
        (Decimal("0.1"), None),
        (None, "1E-19"),
        (None, "NaN"),
        (None, "1e+20"),
    ]
    assert not batch.rejected


def test_whole_doubles_are_at_home_among_integers() -> None:
    known = (
        Column("_id", "", "text"),
        Column("_id_type", "", "text"),
        Column("document", "", "jsonb"),
    )
    types, batch = _typed([{"_id": 1, "n": 19.0}], (*known, Column("n", "", "bigint")))
    assert (types["n"], batch.rows.column("n").to_pylist()) == ("bigint", [19])
    assert (
        _typed([{"_id": 1, "n": 19.5}], (*known, Column("n", "", "bigint")))[0]["n"]
        == "numeric(38,18)"
    )


def test_a_document_with_broken_text_is_kept_as_bytes() -> None:
    good = bson.encode({"_id": "k", "name": "abc"})
    _, batch = _typed([])
    batch = batch_of(
        DOCS,
        [Column("_id", "", "text"), Column("_id_type", "", "text")],
        [good.replace(b"abc", b"\xff\xfe\xfd")],
    )
    assert [(r.key, r.reason) for r in batch.rejected] == [(("k", "string"), "invalid UTF-8")]
    assert bytes.fromhex(batch.rejected[0].row["bson"]) == good.replace(b"abc", b"\xff\xfe\xfd")


@given(
    st.one_of(
        st.text(),
        st.integers(-(2**63), 2**63 - 1),
        st.booleans(),
        st.floats(allow_nan=False),
        st.builds(bson.ObjectId, st.binary(min_size=12, max_size=12)),
        st.datetimes(min_value=datetime(1, 1, 2), max_value=datetime(9999, 12, 30)).map(
            lambda t: t.replace(microsecond=t.microsecond // 1000 * 1000, tzinfo=UTC)
        ),
        st.dictionaries(
            st.text(st.characters(exclude_categories=["Cs"], exclude_characters="$\0"), min_size=1),
            st.integers(0, 9),
        ),
    )
)
def test_any_id_comes_back_from_its_text(value: Any) -> None:
    assert id_value(*id_text(value)) == value
