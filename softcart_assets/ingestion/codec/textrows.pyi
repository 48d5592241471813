"""Rows of MySQL's text protocol to Arrow, compiled. Only what receives holds Python's lock.

This module refuses every value that `types.parse` refuses. It hands back the whole row unchanged.
It does not decide what becomes of rows.
"""

from collections.abc import Callable, Sequence

import pyarrow as pa

from softcart_assets.ingestion.types import Column

class TextReader:
    """Reads the rows of one query over MySQL's text protocol. The result is not held on our side.

    `receive`: puts what the server sends after the definitions of the columns into a buffer, and
    returns the number of bytes, at least one. `columns`: those of the query, in its order.
    `is_open`: whether there may be more rows. As long as there may, nobody else can use the
    connection. That is for ever if the server broke the protocol, which only an error tells.
    Server errors are raised as PyMySQL raises them.
    """

    is_open: bool

    def __init__(self, receive: Callable[[memoryview], int], columns: Sequence[Column]) -> None: ...
    def read(
        self, max_rows: int, max_bytes: int
    ) -> tuple[pa.RecordBatch, list[tuple[bytes | None, ...]]] | None:
        """Return up to `max_rows` rows, ending with the row that reaches `max_bytes`. None at the
        end.

        The result has the rows that are fit, then each row with a value that cannot be carried, as
        MySQL sent it. `types.parse_rows` says what is wrong with these.
        """

    def close(self) -> None:
        """Read off the rest of the result, unless the server broke the protocol.

        Kill the query first if that may be much. Harmless at the end.
        """
