"""Rows of the binary log to Arrow, compiled and free of Python's lock.

A value that `types.parse` refuses is refused here, and a row with one is handed back as text,
whole. What becomes of rows is not decided here.
"""

from collections.abc import Callable, Sequence

import pyarrow as pa

from softcart_assets.ingestion.connectors.mysql.schema import LogColumn
from softcart_assets.ingestion.types import Column, Rejected

class RowsDecoder:
    """Changes of one table, from rows events of the binary log to Arrow; values are the same as
    those of `TextReader`.

    `log_columns`: the columns of the events, `key_indexes`: those of them that are the table's key,
    `columns`: those of the batches. A column of the batches that the log does not have is NULL; one
    of the log that they do not have is left out. Where a column's target type is another than its
    log type asks for, the value's text is parsed as that type. `json_text` makes JSON text (UTF-8)
    of MySQL's binary JSON, or raises ValueError.
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

        `kind`: 0 delete, 1 insert, 2 update. An update that changes the key, or of a table without
        a key, counts as the old row's deletion and the new one's insertion. `ValueError` if the
        body is not what `log_columns` describe or does not hold whole rows; nothing of it is
        appended then. `OverflowError` if a column would exceed 2 GiB: take what there is first.
        """

    def take(self) -> tuple[pa.RecordBatch, pa.Array, list[tuple[int, int, Rejected]]]:
        """What was decoded since the last time: the fit rows, their operations (int8) and the other
        changes, in order.

        An operation is 0 delete, 1 insert, 2 update (with the new row's values). A change that
        cannot be carried comes as the number of rows of the batch before it, its operation, and its
        values and what is wrong with them.
        """

    def __len__(self) -> int:
        """How many changes `take` would give, fit or not."""

    @property
    def nbytes(self) -> int:
        """How much memory they hold, about."""
