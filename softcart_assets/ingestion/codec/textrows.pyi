"""Rows of MySQL's text protocol to Arrow, compiled and free of Python's lock.

This module refuses every value that `types.parse` refuses. It hands back the whole row unchanged.
It does not decide what becomes of rows.
"""

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from softcart_assets.ingestion.types import Column

class TextReader:
    """Reads the rows of one query over MySQL's text protocol, straight from the client library's
    memory. The result is not held on our side.

    Takes over the result of a query just sent with `db.query(sql)`, instead of `db.use_result()`.
    `db`: a MySQLdb connection. `columns`: those of the query, in its order. The connection can be
    used again once `read` has returned None, or after `close`. Server errors are raised as MySQLdb
    raises them.
    """

    def __init__(self, db: Any, columns: Sequence[Column]) -> None: ...
    def read(
        self, max_rows: int, max_bytes: int
    ) -> tuple[pa.RecordBatch, list[tuple[bytes | None, ...]]] | None:
        """Return up to `max_rows` rows, ending with the row that reaches `max_bytes`. None at the
        end.

        The result has the rows that are fit, then each row with a value that cannot be carried, as
        MySQL sent it. `types.parse_rows` says what is wrong with these.
        """

    def close(self) -> None:
        """Read off the rest of the result. Kill the query first if that may be much. Harmless at
        the end.
        """
