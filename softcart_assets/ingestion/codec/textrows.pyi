"""Rows of MySQL's text protocol to Arrow, compiled and free of Python's lock.

A value that `types.parse` refuses is refused here, and a row with one is handed back as it came,
whole. What becomes of rows is not decided here.
"""

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from softcart_assets.ingestion.types import Column

class TextReader:
    """The rows of one query over MySQL's text protocol, straight from the client library's memory,
    not held on our side.

    Takes over the result of a query just sent with `db.query(sql)`, instead of `db.use_result()`.
    `db` is a MySQLdb connection; `columns` are those of the query in its order. The connection can
    be used again once `read` has given None or after `close`. Server errors are raised as MySQLdb
    raises them.
    """

    def __init__(self, db: Any, columns: Sequence[Column]) -> None: ...
    def read(
        self, max_rows: int, max_bytes: int
    ) -> tuple[pa.RecordBatch, list[tuple[bytes | None, ...]]] | None:
        """The next rows, up to `max_rows`, ending with the row that makes them `max_bytes` or more;
        None at the end.

        First the rows that are fit, then each row with a value that cannot be carried, as MySQL
        sent it; what is wrong with these `types.parse_rows` says.
        """

    def close(self) -> None:
        """Read off what is left of the result (kill the query first if that may be much). Harmless
        if at the end.
        """
