"""Items of DynamoDB on their way: numbers are exact, and nothing is lost in the JSON."""

from __future__ import annotations

import json
from collections import Counter
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from softcart_assets.ingestion.connectors.dynamodb.columns import (
    DOCUMENT,
    REMOVED_BY,
    columns_for,
    key_columns,
)
from softcart_assets.ingestion.connectors.dynamodb.rows import Spool, batch_of
from softcart_assets.ingestion.connectors.dynamodb.values import (
    document_text,
    fit,
    json_text,
    key_text,
    key_value,
    number_text,
    packed,
    type_of,
    unpacked,
    value_of,
)
from softcart_assets.ingestion.types import Column, Unfit
from softcart_assets.lines.model import NONE, Table
from softcart_assets.lines.model import Column as Declared

TABLE = Table("sessions", "", ("id",), "cdc", (Declared("id", NONE),))
KEYS = key_columns({"id": "S"})

numbers = st.builds(
    lambda digits, exponent, sign: f"{sign}{digits}E{exponent}",
    st.integers(0, 10**38 - 1),
    st.integers(-130, 87),
    st.sampled_from(["", "-"]),
)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
binaries = st.binary(max_size=8)


def same_number(text: str) -> Decimal:
    return Decimal(text)


leaves = st.one_of(
    texts.map(lambda text: {"S": text}),
    numbers.map(lambda text: {"N": number_text(text)}),
    st.booleans().map(lambda each: {"BOOL": each}),
    st.just({"NULL": True}),
    binaries.map(lambda each: {"B": each}),
    st.sets(texts, min_size=1, max_size=4).map(lambda each: {"SS": sorted(each)}),
    st.sets(numbers.map(number_text), min_size=1, max_size=4).map(
        lambda each: {"NS": sorted(each, key=same_number)}
    ),
    st.sets(binaries, min_size=1, max_size=4).map(lambda each: {"BS": sorted(each)}),
)
names = st.one_of(
    texts, st.sampled_from(["$map", "$binary", "$strings", "$numbers", "$binaries", "$"])
)
values = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda each: {"L": each}),
        st.dictionaries(names, inner, max_size=3).map(lambda each: {"M": each}),
    ),
    max_leaves=12,
)
items = st.dictionaries(names, values, max_size=5)


@given(values)
def test_json_of_a_value_says_all_of_it(value: dict[str, Any]) -> None:
    plain = json.loads(json_text(value), parse_int=Decimal, parse_float=Decimal)
    assert value_of(plain) == value


@given(items)
def test_an_item_comes_out_of_a_file_as_it_went_in(item: dict[str, Any]) -> None:
    line = packed(item)
    assert line.count(b"\n") == 1
    assert unpacked(line) == item


@given(numbers)
def test_a_number_has_one_text_with_all_its_digits(text: str) -> None:
    plain = number_text(text)
    assert Decimal(plain) == Decimal(text)
    assert "E" not in plain
    assert number_text(plain) == plain
    # Whatever zeros it is written with.
    assert number_text(plain + ("0" if "." in plain else ".0")) == plain


@given(numbers)
def test_a_column_takes_a_number_exactly_or_not_at_all(text: str) -> None:
    for target in ("bigint", "numeric(38,18)", "numeric(76,38)"):
        column = Column("n", "", target)
        try:
            fitted = fit(column, {"N": text})
        except Unfit:
            continue
        (carried,) = pa.array([fitted], column.arrow_type).to_pylist()
        assert carried == Decimal(text)
    # Text takes every number.
    assert Decimal(fit(Column("n", "", "text"), {"N": text})) == Decimal(text)


@pytest.mark.parametrize(
    ("text", "type_"),
    [
        ("0", "bigint"),
        ("-0", "bigint"),
        ("9223372036854775807", "bigint"),
        ("9223372036854775808", "numeric(38,18)"),
        ("1E+3", "bigint"),
        ("0.1", "numeric(38,18)"),
        ("99999999999999999999999999999999999999", "numeric(76,38)"),
        ("1.2345678901234567890123456789012345678", "numeric(76,38)"),
        ("1E+125", "wide number"),
        ("1E-130", "wide number"),
    ],
)
def test_the_type_of_a_number(text: str, type_: str) -> None:
    assert type_of({"N": text}) == type_


@given(st.one_of(texts.map(lambda t: {"S": t}), binaries.map(lambda b: {"B": b})))
def test_a_key_comes_back_from_its_text(value: dict[str, Any]) -> None:
    ((type_, _),) = value.items()
    assert key_value(key_text(value), type_) == value


@given(numbers)
def test_a_number_as_a_key_comes_back_from_its_text(text: str) -> None:
    assert Decimal(key_value(key_text({"N": text}), "N")["N"]) == Decimal(text)


def test_a_missing_attribute_and_null_differ_in_the_document() -> None:
    columns, _ = columns_for([*KEYS, DOCUMENT], {"a": Counter(text=1)})
    missing, null = {"id": {"S": "1"}}, {"id": {"S": "2"}, "a": {"NULL": True}}
    rows = batch_of(TABLE, columns, [missing, null]).rows.to_pylist()
    assert [row["a"] for row in rows] == [None, None]
    assert [json.loads(row["document"]) for row in rows] == [{"id": "1"}, {"id": "2", "a": None}]


def test_values_of_another_type_have_a_column_of_their_own() -> None:
    some = [
        {"id": {"S": "1"}, "n": {"N": "1"}},
        {"id": {"S": "2"}, "n": {"N": "2"}},
        {"id": {"S": "3"}, "n": {"S": "three"}},
        {"id": {"S": "4"}, "n": {"N": "1E+100"}},
    ]
    spool = Spool(some)
    columns, warnings = columns_for([*KEYS, DOCUMENT, REMOVED_BY], spool.types)
    (batch,) = spool.rows(TABLE, columns)
    assert not batch.rejected
    assert batch.rows.column("n").to_pylist() == [1, 2, None, None]
    assert batch.rows.column("n__text").to_pylist() == [None, None, "three", "1" + "0" * 100]
    assert batch.rows.column("removed_by").null_count == 4
    assert len(warnings) == 1


def test_a_column_of_whole_numbers_is_widened_and_no_other() -> None:
    known = [*KEYS, Column("n", "bigint", "bigint"), Column("t", "text", "text"), DOCUMENT]
    columns, _ = columns_for(
        known, {"n": Counter({"numeric(38,18)": 1}), "t": Counter({"numeric(38,18)": 1})}
    )
    types = {column.name: column.target_type for column in columns}
    assert types["n"] == "numeric(38,18)"
    assert types["t"] == "text"


def test_names_that_no_column_can_have_are_told() -> None:
    some = ["document", "removed_by", "a__text", "A" * 64, "Id", ""]
    columns, warnings = columns_for([*KEYS, DOCUMENT], {name: Counter(text=1) for name in some})
    assert [column.name for column in columns] == ["id", "document"]
    assert "6 attributes" in warnings[0]


@pytest.mark.parametrize("value", [{"S": "a\0b"}, {"L": [{"S": "a\0b"}]}, {"SS": ["\0"]}])
def test_an_item_with_a_nul_is_rejected_and_named(value: dict[str, Any]) -> None:
    item = {"id": {"S": "1"}, "a": value}
    columns, _ = columns_for([*KEYS, DOCUMENT], Spool([item]).types)
    batch = batch_of(TABLE, columns, [item, {"id": {"S": "2"}}])
    assert batch.rows.column("id").to_pylist() == ["2"]
    (rejected,) = batch.rejected
    assert rejected.key == ("1",)
    assert rejected.column == "a"
    assert rejected.row["document"] == document_text(item)
