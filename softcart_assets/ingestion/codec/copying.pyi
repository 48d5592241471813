"""Arrow to PostgreSQL's binary COPY, compiled and free of Python's lock."""

from collections.abc import Sequence

import pyarrow as pa

from softcart_assets.ingestion.types import Column

COPY_HEADER: bytes
"""What COPY in binary format begins with."""
COPY_TRAILER: bytes
"""What COPY in binary format ends with."""

def copy_rows(columns: Sequence[Column], batch: pa.RecordBatch) -> bytes:
    """Return the rows in PostgreSQL's format COPY BINARY, each with these columns in this order,
    without header and trailer.

    The batch's columns must have the columns' `arrow_type`, and the table's exactly their
    `target_type`. Several results may be sent one after the other between `COPY_HEADER` and
    `COPY_TRAILER`. `TypeError` names a column of another Arrow type, `KeyError` one that the batch
    lacks.
    """
