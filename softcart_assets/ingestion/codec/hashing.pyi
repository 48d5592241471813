"""Checksums of texts, compiled."""

import pyarrow as pa

def hash_sum(array: pa.Array, without_numbers: bool = False) -> int:
    """Return the sum of the first 56 bits of the SHA-256 of each text of a string array, without
    NULLs.

    `without_numbers`: first drop every character that a number in JSON may contain.
    """
