"""Documents from BSON to Arrow, compiled.

A document with something rare is handed back unchanged: a rare type, a number that may not fit, or
bytes that are not UTF-8. The MongoDB connector handles it.
"""

from collections.abc import Mapping, Sequence

import pyarrow as pa

from softcart_assets.ingestion.types import Column

class Decoder:
    """Makes Arrow arrays of documents, for the given columns. It holds the documents added since
    `take`.

    Columns named `_id`, `_id_type` and `document` are made of the whole document. JSON is relaxed
    Extended JSON, as PostgreSQL prints it from jsonb: keys by length, then by bytes. A column of
    text takes any value: a value of another type as its JSON. `others`: for the name of a column,
    that of the column of text for values of a type that it does not take.
    """

    def __init__(self, columns: Sequence[Column], others: Mapping[str, str]) -> None: ...
    def add(self, raw: bytes) -> list[bytes]:
        """Add the documents that stand end to end in `raw`. Returns those that cannot be handled
        here, unchanged, one by one.

        Raises `ValueError` if the bytes are not whole documents, and `OverflowError` if a column
        would exceed 2 GiB.
        """

    def take(self) -> pa.RecordBatch:
        """Return the rows added since the last call, in their order, with the columns'
        `arrow_type`.
        """

    def __len__(self) -> int:
        """Return the number of rows that `take` would return."""
