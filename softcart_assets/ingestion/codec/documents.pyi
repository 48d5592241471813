"""Documents from BSON to Arrow, compiled.

A document with anything rare in it (a type that is seldom used, a number that may not fit, bytes
that are no text) is handed back as it came: the MongoDB connector knows what becomes of it.
"""

from collections.abc import Sequence

import pyarrow as pa

from softcart_assets.ingestion.types import Column

class Decoder:
    """Makes Arrow arrays of documents, for the columns given; holds the values of the documents
    added since `take`.

    Columns named `_id`, `_id_type` and `document` are made of the whole document. JSON is relaxed
    extended JSON, written as PostgreSQL prints it from jsonb: keys by length, then bytes.
    """

    def __init__(self, columns: Sequence[Column]) -> None: ...
    def add(self, raw: bytes) -> list[bytes]:
        """Take in the documents that stand end to end in `raw`; those not for here come back, each
        by itself, as they were.

        `ValueError` if the bytes are not whole documents, `OverflowError` if a column would exceed
        2 GiB.
        """

    def take(self) -> pa.RecordBatch:
        """The rows added since the last time, in their order, with the columns' `arrow_type`."""

    @property
    def nbytes(self) -> int:
        """How much memory the values take, about."""

    def __len__(self) -> int:
        """How many rows `take` would give."""
