"""The character sets of MySQL and MariaDB as Python codecs, where Python has none that reads
exactly as the server does.
"""

from __future__ import annotations

import codecs
import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple


class Charset(NamedTuple):
    """A character set: Python's codec for it, and the greatest number of bytes of a character."""

    codec: str
    width: int


Query = Callable[[str], Sequence[Sequence[str | None]]]
"""Runs a statement and gives its rows as text."""

_CODECS = {
    **{
        "utf8mb4": "utf-8",
        "utf8mb3": "utf-8",
        "utf8": "utf-8",
        "ascii": "ascii",
        "binary": "binary",
    },
    **{"ucs2": "utf-16-be", "utf16": "utf-16-be", "utf16le": "utf-16-le", "utf32": "utf-32-be"},
    **{
        "gb2312": "gb2312",
        "gbk": "gbk",
        "gb18030": "mysql_gb18030",
        "cp932": "cp932",
        # MySQL's euckr has the characters that Microsoft added, which only this codec of Python's
        # knows.
        "euckr": "cp949",
    },
}
"""The codec of each character set that Python reads as the servers do."""
_TWO_BYTES = [bytes((lead, trail)) for lead in range(0x81, 0xFF) for trail in range(0x40, 0xFF)]
_THREE_BYTES = [
    bytes((0x8F, lead, trail)) for lead in range(0xA1, 0xFF) for trail in range(0xA1, 0xFF)
]
_SEQUENCES = {
    "big5": (rb"[\x81-\xfe].", _TWO_BYTES),
    "sjis": (rb"[\x81-\x9f\xe0-\xfc].", _TWO_BYTES),
    "ujis": (rb"\x8f..|[\x8e\xa1-\xfe].", _TWO_BYTES + _THREE_BYTES),
    "eucjpms": (rb"\x8f..|[\x8e\xa1-\xfe].", _TWO_BYTES + _THREE_BYTES),
}
"""Those that Python reads otherwise: what a character of several bytes looks like, and all that may
be one."""
_SEQUENCES_A_QUERY = 4_000

_tables: dict[str, str | dict[bytes, str]] = {}
"""By codec: the characters of its 256 bytes, or of each sequence of bytes."""
_GB18030_OF_2005 = {0x1E3F: 0xE7C7, 0xE7C7: 0x1E3F}
"""The characters that a later edition exchanged, which the servers follow and Python does not."""


def _find_codec(name: str) -> codecs.CodecInfo | None:
    if name == "mysql_gb18030":
        return codecs.CodecInfo(
            name=name,
            encode=_cannot_encode,
            decode=_decode_gb18030,  # type: ignore[arg-type]
        )
    table = _tables.get(name)
    if table is None:
        return None
    if isinstance(table, dict):
        return codecs.CodecInfo(name=name, encode=_cannot_encode, decode=_decoder(name, table))
    return codecs.CodecInfo(
        name=name,
        encode=lambda text, errors="strict": codecs.charmap_encode(
            text, errors, codecs.charmap_build(table)
        ),
        decode=lambda data, errors="strict": codecs.charmap_decode(
            data,
            errors,
            table,  # type: ignore[arg-type]
        ),
    )


def _decoder(name: str, table: Mapping[bytes, str]) -> Callable[..., tuple[str, int]]:
    sequence = re.compile(_SEQUENCES[name.split("_")[1]][0] + b"|.", re.DOTALL)

    def decode(data: bytes, errors: str = "strict") -> tuple[str, int]:
        characters = []
        for match in sequence.finditer(bytes(data)):
            character = table.get(match[0])
            if character is None:
                raise UnicodeDecodeError(name, bytes(data), *match.span(), "no character")
            characters.append(character)
        return "".join(characters), len(data)

    return decode


def _decode_gb18030(data: bytes, errors: str = "strict") -> tuple[str, int]:
    return str(data, "gb18030", errors).translate(_GB18030_OF_2005), len(data)


# Python wants both directions of a codec. Only reading is needed.
def _cannot_encode(text: str, errors: str = "strict") -> tuple[bytes, int]:
    raise NotImplementedError


codecs.register(_find_codec)


def fetch_charsets(query: Query, database: str, *, is_mariadb: bool) -> dict[int, Charset]:
    """Return the server's character sets by collation number.

    Character sets of one byte become codecs of our own, made from the server's tables. So do those
    of several bytes that Python reads otherwise. These are fetched only if a column of the database
    uses them, because their tables are long.
    """
    sets = query("SELECT character_set_name, maxlen FROM information_schema.character_sets")
    widths = {str(name): int(width or 1) for name, width in sets}
    columns = query(
        "SELECT DISTINCT character_set_name FROM information_schema.columns WHERE"
        f" table_schema = {literal(database)} AND character_set_name IN "
        f"({', '.join(map(literal, _SEQUENCES))})"
    )
    used = {str(name) for (name,) in columns}
    charsets = {
        name: Charset(_CODECS[name], width) for name, width in widths.items() if name in _CODECS
    }
    narrow = [name for name, width in widths.items() if width == 1 and name not in charsets]
    # The server itself says which character each byte is. Its tables differ from Python's codecs,
    # even where these have the same name.
    every = bytes(range(256)).hex()
    select = ", ".join(
        f"HEX(CONVERT(CONVERT(X'{every}' USING {name}) USING utf32))" for name in narrow
    )
    for name, found in zip(narrow, query(f"SELECT {select}")[0], strict=True):
        charsets[name] = Charset(_register(name, bytes.fromhex(found or "").decode("utf-32-be")), 1)
    for name in used & widths.keys():
        charsets[name] = Charset(_register(name, _fetch_characters(query, name)), widths[name])
    rows = query(
        "SELECT id, character_set_name FROM information_schema.collations WHERE id IS NOT NULL"
    )
    if is_mariadb:
        # Collations that serve several character sets have their numbers here, from 10.10 on.
        available = query(
            "SELECT 1 FROM information_schema.columns WHERE table_schema = 'information_schema'"
            " AND table_name = 'COLLATION_CHARACTER_SET_APPLICABILITY' AND column_name = 'ID'"
        )
        if available:
            rows = query(
                "SELECT id, character_set_name FROM "
                "information_schema.collation_character_set_applicability"
            )
    return {int(number or 0): charsets[str(name)] for number, name in rows if name in charsets}


def _register(charset: str, characters: str | dict[bytes, str]) -> str:
    """Return the name of the codec that reads a character set as this server does.

    Two servers may differ in a character set of the same name.
    """
    name = f"mysql_{charset}_{hashlib.md5(repr(characters).encode()).hexdigest()}"
    _tables.setdefault(name, characters)
    return name


def _fetch_characters(query: Query, charset: str) -> dict[bytes, str]:
    """Return the character of each valid sequence of bytes in a character set."""
    characters = {}
    sequences = [bytes((byte,)) for byte in range(256)] + _SEQUENCES[charset][1]
    for start in range(0, len(sequences), _SEQUENCES_A_QUERY):
        some = sequences[start : start + _SEQUENCES_A_QUERY]
        select = (
            f"HEX(CONVERT(CONVERT(X'{sequence.hex()}' USING {charset}) USING utf32))"
            for sequence in some
        )
        for sequence, found in zip(some, query(f"SELECT {', '.join(select)}")[0], strict=True):
            text = bytes.fromhex(found or "").decode("utf-32-be")
            # What is no character comes as a question mark or not at all.
            if len(text) == 1 and (text != "?" or sequence == b"?"):
                characters[sequence] = text
    return characters


def literal(text: str) -> str:
    """Return a text as SQL."""
    return "'" + re.sub(r"(['\\])", r"\1\1", text) + "'"
