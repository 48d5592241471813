"""Table map events as bytes; tests/integration/test_capture_log.py has the servers' own."""

from __future__ import annotations

import re

import pytest

from softcart_assets.ingestion.connectors.mysql import charsets as server_charsets
from softcart_assets.ingestion.connectors.mysql.charsets import Charset
from softcart_assets.ingestion.connectors.mysql.schema import (
    LogColumn,
    columns_of,
    define,
    source_type_of,
)
from softcart_assets.ingestion.errors import IngestionError, UnsupportedColumn

CHARSETS = {8: Charset("latin-1", 1), 45: Charset("utf-8", 4), 63: Charset("binary", 1)}


def text(data: bytes) -> bytes:
    assert len(data) < 251
    return bytes([len(data)]) + data


def table_map(types: bytes, metas: bytes, nulls: int = 0, **fields: bytes) -> bytes:
    """A table map event's body; `fields` are named `f` and their number."""
    body = text(b"shop") + b"\0" + text("größe".encode()) + b"\0" + text(types) + text(metas)
    body += nulls.to_bytes((len(types) + 7) // 8, "little")
    return body + b"".join(bytes([int(name[1:])]) + text(data) for name, data in fields.items())


def test_everything_that_a_column_has() -> None:
    body = table_map(
        bytes([3, 15, 254, 254, 254, 246, 16, 252, 13, 8]),
        bytes([80, 0, 0xF7, 1, 0xCE, 0x20, 0xFE, 16, 10, 2, 2, 1, 3]),
        nulls=0b10,
        f1=bytes([0b1001_0000]),  # of the id, the decimal, the year and the last
        f2=bytes([45, 2, 63, 3, 63]),
        f4=b"".join(
            map(
                text,
                (b"id", b"name", b"e", b"long", b"hash", b"price", b"flags", b"blob", b"y", b"big"),
            )
        ),
        f6=bytes([2]) + text(b"a") + text(b"b,'c"),
        f8=bytes([0]),
        f10=bytes([8]),
    )
    definition = define(body, CHARSETS, {"hash": "uuid", "id": "inet4"})
    assert definition[:2] == ("shop", "größe")
    assert definition.key == (0,)
    assert definition.columns == (
        LogColumn("id", 3, unsigned=True, nullable=False),
        LogColumn("name", 15, 80, charset="utf-8", length=20),
        LogColumn("e", 247, 1, charset="latin-1", labels=("a", "b,'c"), nullable=False),
        LogColumn("long", 254, 800, charset="utf-8", nullable=False, length=200),
        LogColumn("hash", 254, 16, nullable=False, form="uuid", length=16),
        LogColumn("price", 246, 10 * 256 + 2, nullable=False),
        LogColumn("flags", 16, 10, nullable=False),
        LogColumn("blob", 252, 3, nullable=False),
        LogColumn("y", 13, nullable=False),
        LogColumn("big", 8, unsigned=True, nullable=False),
    )
    assert [(c.source_type, c.target_type) for c in columns_of(definition.columns, "shop.t")] == [
        ("int unsigned", "bigint"),
        ("varchar(20)", "text"),
        ("enum('a','b,''c')", "text"),
        ("char(200)", "text"),
        ("uuid", "text"),
        ("decimal(10,2)", "numeric(10,2)"),
        ("bit(10)", "bigint"),
        ("mediumblob", "bytea"),
        ("year", "smallint"),
        ("bigint unsigned", "numeric(20,0)"),
    ]


@pytest.mark.parametrize(
    ("column", "source_type"),
    [
        (LogColumn("c", 18, 3), "datetime(3)"),
        (LogColumn("c", 17), "timestamp"),
        (LogColumn("c", 19, 6), "time(6)"),
        (LogColumn("c", 254, 16, length=16), "binary(16)"),
        (LogColumn("c", 15, 300, length=300), "varbinary(300)"),
        (LogColumn("c", 252, 4, charset="utf-8"), "longtext"),
        (LogColumn("c", 255, 4, form="point"), "point"),
        (LogColumn("c", 248, 1, labels=("p", "q")), "set('p','q')"),
        (LogColumn("c", 242, 4, length=5), "vector(5)"),
        (LogColumn("c", 245, 4), "json"),
        (LogColumn("c", 4, 4, unsigned=True), "float unsigned"),
    ],
)
def test_types_as_the_catalog_writes_them(column: LogColumn, source_type: str) -> None:
    assert source_type_of(column) == source_type


def test_without_names_the_setting_is_named() -> None:
    with pytest.raises(IngestionError, match="SET GLOBAL binlog_row_metadata = FULL"):
        define(table_map(bytes([3]), b""), CHARSETS)


def test_compressed_columns_hold_texts_or_bytes() -> None:
    names = text(b"a") + text(b"b") + text(b"c")
    # c is VARBINARY: its collation is that of bytes.
    found = define(
        table_map(bytes([140, 140, 141]), bytes([2, 2, 80, 0]), f3=bytes([45, 63, 63]), f4=names),
        CHARSETS,
    )
    assert [column.source_type for column in columns_of(found.columns, "shop.t")] == [
        "text compressed",
        "blob compressed",
        "varbinary compressed",
    ]


def test_what_cannot_be_carried_is_named() -> None:
    names = text(b"secret")
    with pytest.raises(UnsupportedColumn, match=r"column `secret` has collation number 99"):
        define(table_map(bytes([15]), bytes([80, 0]), f2=bytes([99]), f4=names), CHARSETS)
    with pytest.raises(UnsupportedColumn, match="unknown type 77"):
        columns_of(define(table_map(bytes([77]), b"", f4=names), CHARSETS).columns, "shop.t")


def test_charsets_of_the_server_and_python() -> None:
    characters = {"41": "A", "82a0": "あ", "815f": "\\"}

    def query(sql: str) -> list[tuple[str | None, ...]]:
        if "character_sets" in sql:
            return [("utf8mb4", "4"), ("odd1", "1"), ("sjis", "2"), ("big5", "2"), ("unheard", "2")]
        if "information_schema.columns" in sql:
            return [("sjis",)]
        if "USING odd1" in sql:
            return [("".join(f"{n ^ 1:08X}" for n in range(256)),)]
        if "USING sjis" in sql:
            return [
                tuple(
                    f"{ord(characters.get(x, '?')):08X}" for x in re.findall("X'([0-9a-f]+)'", sql)
                )
            ]
        return [
            ("45", "utf8mb4"),
            ("200", "odd1"),
            ("13", "sjis"),
            ("1", "big5"),
            ("300", "unheard"),
        ]

    charsets = server_charsets.fetch_charsets(query, "shop", is_mariadb=False)
    assert {number: charset.width for number, charset in charsets.items()} == {45: 4, 200: 1, 13: 2}
    assert charsets[45].codec == "utf-8"
    odd, sjis = charsets[200].codec, charsets[13].codec
    assert b"ab".decode(odd) == "`c"
    assert "`c".encode(odd) == b"ab"
    assert b"\x81\x5fA\x82\xa0".decode(sjis) == "\\Aあ"
    with pytest.raises(UnicodeDecodeError):
        b"A\x82\xa1".decode(sjis)
    # Another server has another character there.
    characters["82a1"] = "い"
    assert (
        b"A\x82\xa1".decode(
            server_charsets.fetch_charsets(query, "shop", is_mariadb=False)[13].codec
        )
        == "Aい"
    )
    with pytest.raises(UnicodeDecodeError):
        b"A\x82\xa1".decode(sjis)
