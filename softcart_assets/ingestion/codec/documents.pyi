"""Documents from BSON to Arrow, compiled: one pass to learn the types of their fields, one to make columns of them.

Here belongs what is done to every single value of a document. A document with anything rare in it (a type that is seldom
used, a number that may not fit, bytes that are no text) is handed back as it came: `mongodb` knows what becomes of it.
"""

from collections.abc import Sequence

import pyarrow as pa

from softcart_assets.ingestion.types import Column

TARGET_TYPES: tuple[str, ...]
"""What `Types.counts` counts values as: PostgreSQL types, and `whole double`, a double without a fraction."""

class Types:
    """Counts, per field of the documents' top level, the values of each type. NULLs, and documents that are not sound, do not count."""

    def add(self, raw: bytes) -> int:
        """Count in the documents that stand end to end in `raw`; how many they are. `ValueError` if they do not."""

    @property
    def counts(self) -> dict[str, dict[str, int]]:
        """Per field, in the order of their first appearance, how many values of each of `TARGET_TYPES`, zeros left out."""

class Decoder:
    """Makes Arrow arrays of documents, for the columns given; holds the values of the documents added since `take`.

    Columns named `_id`, `_id_type` and `document` are made of the whole document. JSON is relaxed extended JSON, written as
    PostgreSQL prints it from jsonb: keys by length, then bytes.
    """

    def __init__(self, columns: Sequence[Column]) -> None: ...
    def add(self, raw: bytes) -> list[bytes]:
        """Take in the documents that stand end to end in `raw`; those not for here come back, each by itself, as they were.

        `ValueError` if the bytes are not whole documents, `OverflowError` if a column would exceed 2 GiB.
        """

    def take(self) -> pa.RecordBatch:
        """The rows added since the last time, in their order, with the columns' `arrow_type`."""

    @property
    def nbytes(self) -> int:
        """How much memory the values take, about."""

    def __len__(self) -> int:
        """How many rows `take` would give."""

def hash_sum(array: pa.Array, without_numbers: bool = False) -> int:
    """The sum of the first 56 bits of the SHA-256 of each text of a string array, NULLs left out.

    `without_numbers`: after leaving out every character that a number in JSON may be written with.
    """
