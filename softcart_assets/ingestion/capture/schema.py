"""What the binary log says of a table's columns, and how raw names the same types.

Here belongs the reading of table map events: types, character sets, labels, keys. Values are decoded elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LogColumn:
    """One column as a table map event describes it: all that decoding its values needs.

    `type_code`: MySQL's code of the type that the row image holds; for ENUM and SET the real one (247, 248), never 254.
    `meta`: what belongs to the code, as one number: DECIMAL precision * 256 + scale; BIT its bits; CHAR, BINARY, VARCHAR,
    VARBINARY the greatest length in bytes (a value's length takes one byte in the image up to 255, else two);
    BLOB, TEXT, JSON, GEOMETRY, VECTOR the bytes of the length in front of a value (1 to 4); ENUM and SET the bytes of a
    value; TIMESTAMP2, DATETIME2, TIME2 (17, 18, 19) the fractional digits; FLOAT and DOUBLE 4 and 8; otherwise 0.
    `charset`: Python's codec for its text, 'binary' where the value is bytes or is no text.
    `labels`: those of an ENUM or SET, in order. `nullable`: as the log has it.
    `form`: what the type code does not tell: 'uuid', 'inet4', 'inet6' (bytes that mean a text), or a geometry's type.
    `length`: declared length of CHAR, VARCHAR (characters) and of BINARY, VARBINARY (bytes); values of BINARY come
    without their trailing zeros.
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
