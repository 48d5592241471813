"""Rows between a source's own bytes, Arrow and PostgreSQL's binary COPY, compiled and free of Python's lock.

Here belongs what is done to every single value. A value that `types.parse` refuses is refused here, and a row with one is
handed back as it came, whole. What becomes of rows is not decided here.
"""

from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa

from softcart_assets.ingestion.connectors.mysql.schema import LogColumn
from softcart_assets.ingestion.types import Column, Rejected

COPY_HEADER: bytes
"""What COPY in binary format begins with."""
COPY_TRAILER: bytes
"""What COPY in binary format ends with."""

def copy_rows(columns: Sequence[Column], batch: pa.RecordBatch) -> bytes:
    """The rows in the format COPY BINARY, each with these columns in this order; no header, no trailer.

    The batch's columns have the columns' `arrow_type`; the table's have their `target_type`, to the letter. Batches'
    results may be sent one after the other between `COPY_HEADER` and `COPY_TRAILER`. `TypeError` names a column of
    another Arrow type, `KeyError` one that the batch lacks.
    """

class TextReader:
    """The rows of one query over MySQL's text protocol, straight from the client library's memory, not held on our side.

    Takes over the result of a query just sent with `db.query(sql)`, instead of `db.use_result()`. `db` is a MySQLdb
    connection; `columns` are those of the query in its order. The connection can be used again once `read` has given
    None or after `close`. Server errors are raised as MySQLdb raises them.
    """

    def __init__(self, db: Any, columns: Sequence[Column]) -> None: ...
    def read(
        self, max_rows: int, max_bytes: int
    ) -> tuple[pa.RecordBatch, list[tuple[bytes | None, ...]]] | None:
        """The next rows, up to `max_rows`, ending with the row that makes them `max_bytes` or more; None at the end.

        First the rows that are fit, then each row with a value that cannot be carried, as MySQL sent it; what is wrong
        with these `types.parse_rows` says.
        """

    def close(self) -> None:
        """Read off what is left of the result (kill the query first if that may be much). Harmless if at the end."""

class RowsDecoder:
    """Changes of one table, from rows events of the binary log to Arrow; values are the same as those of `TextReader`.

    `log_columns`: the columns of the events, `key_indexes`: those of them that are the table's key, `columns`: those of
    the batches. A column of the batches that the log does not have is NULL; one of the log that they do not have
    is left out. Where a column's target type is another than its log type asks for, the value's text is parsed as
    that type. `json_text` makes JSON text (UTF-8) of MySQL's binary JSON, or raises ValueError.
    """

    def __init__(
        self,
        log_columns: Sequence[LogColumn],
        key_indexes: Sequence[int],
        columns: Sequence[Column],
        json_text: Callable[[bytes], bytes] | None = None,
    ) -> None: ...
    def decode(self, body: bytes | memoryview, kind: int) -> int:
        """Append the rows of one event's `log.Rows.body`; how many changes they made.

        `kind`: 0 delete, 1 insert, 2 update. An update that changes the key, or of a table without a key, counts as the
        old row's deletion and the new one's insertion. `ValueError` if the body is not what `log_columns` describe or
        does not hold whole rows; nothing of it is appended then. `OverflowError` if a column would exceed 2 GiB:
        take what there is first.
        """

    def take(self) -> tuple[pa.RecordBatch, pa.Array, list[tuple[int, int, Rejected]]]:
        """What was decoded since the last time: the fit rows, their operations (int8) and the other changes, in order.

        An operation is 0 delete, 1 insert, 2 update (with the new row's values). A change that cannot be carried comes
        as the number of rows of the batch before it, its operation, and its values and what is wrong with them.
        """

    def __len__(self) -> int:
        """How many changes `take` would give, fit or not."""

    @property
    def nbytes(self) -> int:
        """How much memory they hold, about."""
