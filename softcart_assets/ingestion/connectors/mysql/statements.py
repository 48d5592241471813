"""The statements that a binary log holds as text, with what surrounds them in their events."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import NamedTuple

from softcart_assets.ingestion.connectors.mysql.charsets import Charset
from softcart_assets.ingestion.connectors.mysql.dump import inflated
from softcart_assets.ingestion.connectors.mysql.events import EXECUTE_LOAD, QUERY_COMPRESSED
from softcart_assets.ingestion.connectors.mysql.schema import Bytes

_U16 = struct.Struct("<H")
_LENGTHS = {0: 4, 1: 8, 3: 4, 4: 6, 7: 2, 8: 2, 9: 8, 10: 4}
"""The lengths of status variables. They come in the order in which the servers number them."""
_TEXTS = {5: 1, 6: 1, 11: 2}
"""Status variables that are texts with their length in front, and how many texts they are."""
_CHARSET, _USED = 4, 12
_MOST_USED = 16
"""If a statement uses more databases, MySQL writes a greater number and no names."""


class Logged(NamedTuple):
    """A statement. `database` was in use.

    `used`: the databases whose tables it changes, or reads for that, also through views, triggers
    and functions. MySQL logs them for its parallel replicas, MariaDB does not. None: not known.
    """

    database: str
    sql: str
    used: frozenset[str] | None


def read_statement(kind: int, body: bytes, charsets: Mapping[int, Charset]) -> Logged:
    """Read a query event's body. `charsets`: by collation number."""
    at = 26 if kind == EXECUTE_LOAD else 13
    length, variables = body[8], _U16.unpack_from(body, 11)[0]
    status, database = body[at : at + variables], body[at + variables : at + variables + length]
    sql = body[at + variables + length + 1 :]
    if kind == QUERY_COMPRESSED:
        sql = inflated(sql)
    collation, used = _variables(status)
    # Clients may send statements in another character set. The event names it.
    charset = charsets.get(collation)
    codec = charset.codec if charset and charset.codec != "binary" else "utf-8"
    # "replace": a statement may hold bytes that are no characters, and must not stop the log.
    return Logged(database.decode(), sql.decode(codec, "replace"), used)


def _variables(status: bytes) -> tuple[int, frozenset[str] | None]:
    """Return the collation number of the client, and the used databases."""
    reader, collation = Bytes(status), 0
    while reader.at < len(status):
        code = reader.take(1)[0]
        if code == _CHARSET:
            collation = _U16.unpack(reader.take(_LENGTHS[code])[:2])[0]
        elif code in _LENGTHS:
            reader.take(_LENGTHS[code])
        elif code in _TEXTS:
            for _ in range(_TEXTS[code]):
                reader.take(reader.take(1)[0])
        elif code == _USED and (count := reader.take(1)[0]) <= _MOST_USED:
            names = status[reader.at :].split(b"\0")[:count]
            return collation, frozenset(name.decode() for name in names)
        else:
            # The length of what is not known here is not known either. Nothing behind it is needed.
            break
    return collation, None
