"""Rows of the binary log to Arrow, compiled and free of Python's lock.

This module refuses every value that `types.parse` refuses. It hands back the whole row as text. It
does not decide what becomes of rows.
"""

from collections.abc import Callable, Sequence

import pyarrow as pa

from softcart_assets.ingestion.connectors.mysql.schema import LogColumn
from softcart_assets.ingestion.types import Column, Rejected

class RowsDecoder:
    """Turns changes of one table from rows events of the binary log into Arrow. Values are the same
    as those of `TextReader`.

    `log_columns`: the columns of the events. `key_indexes`: those that form the table's key.
    `columns`: the columns of the batches. A column that the log does not have is NULL. A column of
    the log that the batches do not have is left out. If a column's target type does not follow from
    its log type, the value's text is parsed as the target type. `json_text` turns MySQL's binary
    JSON into JSON text (UTF-8), or raises ValueError.
    """

    def __init__(
        self,
        log_columns: Sequence[LogColumn],
        key_indexes: Sequence[int],
        columns: Sequence[Column],
        json_text: Callable[[bytes], bytes] | None = None,
    ) -> None: ...
    def decode(self, body: bytes | memoryview, kind: int) -> int:
        """Append the rows of one event's `log.Rows.body`. Returns the number of changes.

        `kind`: 0 delete, 1 insert, 2 update. An update counts as a deletion of the old row and an
        insertion of the new one if it changes the key, or if the table has no key. Raises
        `ValueError` if the body does not fit `log_columns` or does not hold whole rows. Nothing of
        it is appended then. Raises `OverflowError` if a column would exceed 2 GiB: call `take`
        first.
        """

    def take(self) -> tuple[pa.RecordBatch, pa.Array, list[tuple[int, int, Rejected]]]:
        """Return what was decoded since the last call: the fit rows, their operations (int8), and
        the other changes, in order.

        An operation is 0 delete, 1 insert, or 2 update (with the new row's values). A change that
        cannot be carried is returned as the number of rows of the batch before it, its operation,
        and its values with what is wrong with them.
        """

    def take_before(self) -> pa.RecordBatch:
        """Return the rows as they were before updates and deletions, since the last call, in order.

        A row that could not be carried then is left out.
        """

    @property
    def before(self) -> int:
        """The number of rows that `take_before` would return."""

    def __len__(self) -> int:
        """Return the number of changes that `take` would return, fit or not."""
