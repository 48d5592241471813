"""What the binary log says of a table's columns, and how raw names these types.

This module reads table map events: types, character sets, labels, keys. Values are decoded
elsewhere.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from softcart_assets.ingestion.connectors.mysql.charsets import Charset, Query, literal
from softcart_assets.ingestion.connectors.mysql.types import target_type
from softcart_assets.ingestion.errors import IngestionError, UnsupportedColumn
from softcart_assets.ingestion.types import Column


@dataclass(frozen=True, slots=True)
class LogColumn:
    """One column as a table map event describes it. This is all that is needed to decode its
    values.

    `type_code`: MySQL's code of the type in the row image. ENUM and SET have their real code (247,
    248), never 254. `meta`: a number that depends on the code. DECIMAL: precision * 256 + scale.
    BIT: its bits. CHAR, BINARY, VARCHAR, VARBINARY: the greatest length in bytes (up to 255 a
    value's length takes one byte in the image, otherwise two). BLOB, TEXT, JSON, GEOMETRY, VECTOR:
    the bytes of the length in front of a value (1 to 4). ENUM and SET: the bytes of a value.
    TIMESTAMP2, DATETIME2, TIME2 (17, 18, 19): the fractional digits. FLOAT and DOUBLE: 4 and 8.
    Otherwise 0.

    `charset`: Python's codec for its text, 'binary' if values are bytes or not text. `labels`:
    those of an ENUM or SET, in order. `nullable`: as in the log. `form`: what the type code does
    not tell: 'uuid', 'inet4', 'inet6' (bytes that mean a text), or a geometry's type. `length`:
    declared length of CHAR and VARCHAR (characters), BINARY and VARBINARY (bytes), and VECTOR
    (entries). Values of BINARY have no trailing zeros.
    """

    name: str
    type_code: int
    meta: int = 0
    unsigned: bool = False
    charset: str = "binary"
    labels: tuple[str, ...] = ()
    nullable: bool = True
    form: str = ""
    length: int = 0


class Definition(NamedTuple):
    """The content of a table map event."""

    database: str
    table: str
    columns: tuple[LogColumn, ...]
    key: tuple[int, ...]


FLOAT, DOUBLE, YEAR, VARCHAR, BIT, JSON, DECIMAL, ENUM, SET, BLOB, STRING, GEOMETRY = (
    *(4, 5, 13, 15, 16, 245, 246, 247, 248, 252, 254, 255),
)
TIMESTAMP2, DATETIME2, TIME2 = 17, 18, 19
VECTOR = 242
_META_BYTES = {
    **dict.fromkeys(
        (
            FLOAT,
            DOUBLE,
            TIMESTAMP2,
            DATETIME2,
            TIME2,
            JSON,
            BLOB,
            GEOMETRY,
            VECTOR,
            140,
            249,
            250,
            251,
        ),
        1,
    ),
    **dict.fromkeys((VARCHAR, BIT, DECIMAL, ENUM, SET, STRING, 141, 253), 2),
}
"""The number of bytes of metadata by type. Other types have none.

140, 141: MariaDB's compressed columns.
"""
_NUMERIC = {1, 2, 3, FLOAT, DOUBLE, 8, 9, YEAR, DECIMAL}
_TEXTUAL = {STRING, VARCHAR, BLOB, VECTOR, 140, 141, 253}
"""Types for which the log states signedness or character sets. MariaDB adds GEOMETRY."""
_GEOMETRIES = (
    "geometry",
    "point",
    "linestring",
    "polygon",
    "multipoint",
    "multilinestring",
    "multipolygon",
)
_INTEGERS = {1: "tinyint", 2: "smallint", 3: "int", 8: "bigint", 9: "mediumint"}
_PLAIN = {FLOAT: "float", DOUBLE: "double", 10: "date", YEAR: "year", 14: "date", JSON: "json"}
_TIMES = {
    **{7: "timestamp", 11: "time", 12: "datetime"},
    **{TIMESTAMP2: "timestamp", TIME2: "time", DATETIME2: "datetime"},
}
_BLOB_SIZES = {1: "tiny", 2: "", 3: "medium", 4: "long"}
_FORM_LENGTHS = {16, 4}
"""Lengths of BINARY columns that may really be MariaDB's uuid and inet6, or inet4."""


ENDS_OF_CURRENT_ROWS = ("2038-01-19 03:14:07.999999", "2106-02-07 06:28:15.999999")
"""The end of a row that is current: the last moment that MariaDB knows, before and since 11.5."""


def names_in(body: bytes) -> tuple[str, str]:
    """Return database and table of a table map event's body, which starts after the table id and
    flags.
    """
    length = body[0]
    table = length + 2
    return body[1 : 1 + length].decode(), body[table + 1 : table + 1 + body[table]].decode()


class Bytes:
    """Reads along some bytes."""

    def __init__(self, data: bytes, at: int = 0) -> None:
        self.data = data
        self.at = at

    def take(self, count: int) -> bytes:
        """Return the next bytes."""
        self.at += count
        return self.data[self.at - count : self.at]

    def number(self) -> int:
        """Return a length-encoded integer."""
        first = self.take(1)[0]
        return (
            first
            if first < 251
            else int.from_bytes(self.take({252: 2, 253: 3, 254: 8}[first]), "little")
        )

    def text(self) -> bytes:
        """Return length-encoded bytes."""
        return self.take(self.number())

    def numbers(self) -> Iterator[int]:
        """Yield length-encoded integers to the end."""
        while self.at < len(self.data):
            yield self.number()


def define(
    body: bytes,
    charsets: Mapping[int, Charset],
    forms: Mapping[str, str] | None = None,
    *,
    is_mariadb: bool = False,
) -> Definition:
    """Read a table map event's body, which starts after the table id and flags.

    `charsets`: by collation id, see `fetch_charsets`. `forms`: by column name, see `fetch_forms`.
    Raises `IngestionError` if the log holds no names, and `UnsupportedColumn` for an unknown type.
    """
    database, table = names_in(body)
    where = f"{database}.{table}"
    reader = Bytes(body, len(database.encode()) + len(table.encode()) + 4)
    count = reader.number()
    codes = reader.take(count)
    metas = Bytes(reader.text())
    # How much metadata a type has is not in the log. One type read with the wrong size would shift
    # all that follow.
    types = [_typed(code, metas.take(_META_BYTES.get(code, 0))) for code in codes]
    nulls = reader.take((count + 7) // 8)
    # Optional metadata follow, each with its number and length.
    extra: dict[int, bytes] = {}
    while reader.at < len(body):
        field = reader.take(1)[0]
        extra[field] = reader.text()
    if 4 not in extra:
        raise IngestionError(
            f"{where}: the binary log holds no column names. Run SET GLOBAL binlog_row_metadata = "
            "FULL on the server (and set "
            "it in its configuration; MySQL before 8.0.1 and MariaDB before 10.5 do not have it: "
            "use strategy 'incremental' or "
            "'snapshot' there). Changes logged before that cannot be read."
        )
    # The log has names only with binlog_row_metadata=FULL. Names from the catalog would not do: it
    # shows the table as it is now, not as it was when the row was logged.
    names = Bytes(extra[4])
    columns = [
        LogColumn(names.text().decode(), code, meta, nullable=bool(nulls[i // 8] >> i % 8 & 1))
        for i, (code, meta) in enumerate(types)
    ]
    # The optional metadata come by kind of column: each of these steps completes the columns of one
    # kind.
    _note_signs(columns, extra)
    _note_charsets(columns, extra, charsets, where, is_mariadb=is_mariadb)
    _note_labels(columns, extra)
    _note_forms(columns, extra, forms or {}, is_mariadb=is_mariadb)
    key = (
        # A key may be of prefixes of columns. Then the server writes it in another form, with
        # lengths.
        tuple(Bytes(extra.get(8, b"")).numbers()) or tuple(Bytes(extra.get(9, b"")).numbers())[::2]
    )
    return Definition(database, table, tuple(columns), key)


def _those(columns: Sequence[LogColumn], codes: Collection[int]) -> list[int]:
    """Return the indexes of the columns of some types."""
    return [index for index, column in enumerate(columns) if column.type_code in codes]


def _note_signs(columns: list[LogColumn], extra: Mapping[int, bytes]) -> None:
    # Not strict: the bits are padded to whole bytes.
    for index, bit in zip(_those(columns, _NUMERIC), _bits(extra.get(1, b"")), strict=False):
        # A YEAR is marked as unsigned, but nothing calls it so.
        columns[index] = replace(columns[index], unsigned=bit and columns[index].type_code != YEAR)


def _note_charsets(
    columns: list[LogColumn],
    extra: Mapping[int, bytes],
    charsets: Mapping[int, Charset],
    where: str,
    *,
    is_mariadb: bool,
) -> None:
    texts = _those(columns, _TEXTUAL | {GEOMETRY} if is_mariadb else _TEXTUAL)
    collations = {
        **_collations(texts, extra.get(2), extra.get(3)),
        **_collations(_those(columns, (ENUM, SET)), extra.get(10), extra.get(11)),
    }
    for index, collation in collations.items():
        column, charset = columns[index], charsets.get(collation)
        if charset is None:
            raise UnsupportedColumn(
                f"{where}: column `{column.name}` has collation number {collation}, whose "
                "characters are not known. "
                "Convert it to utf8mb4, or use strategy 'snapshot'."
            )
        if column.type_code in (GEOMETRY, VECTOR):
            continue
        # The log counts bytes. Declarations count characters.
        length = column.meta // charset.width if column.type_code in (STRING, VARCHAR, 253) else 0
        columns[index] = replace(column, charset=charset.codec, length=length)


def _note_labels(columns: list[LogColumn], extra: Mapping[int, bytes]) -> None:
    for code, field in ((SET, 5), (ENUM, 6)):
        values = Bytes(extra.get(field, b""))
        for index in _those(columns, (code,)):
            labels = [values.text() for _ in range(values.number())]
            codec = columns[index].charset
            # A label of a binary ENUM is bytes that nobody can name.
            columns[index] = replace(
                columns[index],
                labels=tuple(x.decode("latin-1" if codec == "binary" else codec) for x in labels),
            )


def _note_forms(
    columns: list[LogColumn],
    extra: Mapping[int, bytes],
    forms: Mapping[str, str],
    *,
    is_mariadb: bool,
) -> None:
    """Note what type codes do not tell: kinds of geometries, lengths of vectors, and MariaDB's
    types that look like BINARY.
    """
    collection = "geometrycollection" if is_mariadb else "geomcollection"
    kinds = (*_GEOMETRIES, collection)
    geometries = Bytes(extra.get(7, b"")).numbers()
    for index, geometry in zip(_those(columns, (GEOMETRY,)), geometries, strict=False):
        columns[index] = replace(columns[index], form=kinds[min(geometry, 7)])
    dimensions = Bytes(extra.get(13, b"")).numbers()
    for index, count in zip(_those(columns, (VECTOR,)), dimensions, strict=False):
        columns[index] = replace(columns[index], length=count)
    for index, column in enumerate(columns):
        if may_have_form(column):
            columns[index] = replace(column, form=forms.get(column.name, ""))


def may_have_form(column: LogColumn) -> bool:
    """Return whether a column may be of one of MariaDB's types that the log shows as BINARY."""
    return (
        column.type_code == STRING and column.charset == "binary" and column.meta in _FORM_LENGTHS
    )


def may_be_period(column: LogColumn) -> bool:
    """Return whether a column may be the start or the end of a row's version."""
    # A period may be of numbers of transactions, too. MariaDB then logs statements and no rows.
    return column.type_code == TIMESTAMP2 and column.meta == 6 and not column.nullable


def _typed(code: int, meta: bytes) -> tuple[int, int]:
    """Return a column's real type, and its `LogColumn.meta`."""
    if code in (STRING, 253):
        # ENUM and SET come as STRING. Their real type is in the metadata.
        real, length = meta
        if real & 0x30 != 0x30:
            # Lengths above 255 hide their upper bits in the type.
            return real | 0x30, length | (real & 0x30 ^ 0x30) << 4
        return real, length
    if code in (ENUM, SET):
        return code, meta[1]
    if code == DECIMAL:
        return code, meta[0] << 8 | meta[1]
    if code == BIT:
        return code, meta[1] * 8 + meta[0]
    return code, int.from_bytes(meta, "little")


def _bits(data: bytes) -> Iterator[bool]:
    for byte in data:
        # The highest bit comes first, unlike in the bitmaps of NULLs.
        for shift in range(7, -1, -1):
            yield bool(byte >> shift & 1)


def _collations(
    columns: Sequence[int], default: bytes | None, each: bytes | None
) -> Mapping[int, int]:
    """Return the collation number of each of these columns."""
    if each is not None:
        return dict(zip(columns, Bytes(each).numbers(), strict=True))
    if default is None:
        return {}
    first, *pairs = Bytes(default).numbers()
    others = dict(zip(pairs[::2], pairs[1::2], strict=True))
    return {column: others.get(number, first) for number, column in enumerate(columns)}


def columns_of(columns: Iterable[LogColumn], where: str) -> list[Column]:
    """Return the columns with their types in raw.

    Raises `UnsupportedColumn`, with the table's name `where`, for a column that cannot be carried.
    """
    result = []
    for column in columns:
        source_type = source_type_of(column)
        precision, scale = (
            divmod(column.meta, 256) if column.type_code == DECIMAL else (column.meta, 0)
        )
        target = target_type(source_type, precision, scale)
        if target is None:
            raise UnsupportedColumn(
                f"{where}: column `{column.name}` has type {source_type}, which cannot be carried "
                "exactly. "
                "Convert it at the source, or declare a view without it with strategy 'snapshot'."
            )
        result.append(Column(column.name, source_type, target, column.nullable))
    return result


def source_type_of(column: LogColumn) -> str:
    """Return a column's type as information_schema writes COLUMN_TYPE.

    Display widths are missing, because the log does not have them.
    """
    code, meta, is_text = column.type_code, column.meta, column.charset != "binary"
    unsigned = " unsigned" if column.unsigned else ""
    if code in _INTEGERS:
        return _INTEGERS[code] + unsigned
    if code == DECIMAL:
        return f"decimal({meta >> 8},{meta & 255}){unsigned}"
    if code in _PLAIN:
        return _PLAIN[code] + unsigned
    if code in _TIMES:
        return _TIMES[code] + (f"({meta})" if meta else "")
    if code == BIT:
        return f"bit({meta})"
    if code in (ENUM, SET):
        labels = ",".join("'" + label.replace("'", "''") + "'" for label in column.labels)
        return f"{'enum' if code == ENUM else 'set'}({labels})"
    if code == BLOB:
        return _BLOB_SIZES[meta] + ("text" if is_text else "blob")
    if code in (VARCHAR, 253):
        return f"varchar({column.length})" if is_text else f"varbinary({meta})"
    if code == STRING:
        return column.form or (f"char({column.length})" if is_text else f"binary({meta})")
    if code == GEOMETRY:
        return column.form or "geometry"
    if code == VECTOR:
        return f"vector({column.length})"
    if code in (140, 141):
        plain = ("text", "varchar") if is_text else ("blob", "varbinary")
        return f"{plain[code - 140]} compressed"
    return f"unknown type {code}"


def fetch_forms(query: Query, database: str, table: str) -> dict[str, str]:
    """Return the types of the columns that MariaDB's log shows as BINARY although they are
    others.
    """
    rows = query(
        "SELECT column_name, data_type FROM information_schema.columns WHERE data_type IN "
        "('uuid', 'inet4', 'inet6')"
        f" AND table_schema = {literal(database)} AND table_name = {literal(table)}"
    )
    return {str(name): str(data_type).lower() for name, data_type in rows}
