"""Checksums of texts, compiled."""

import pyarrow as pa

def hash_sum(array: pa.Array, without_numbers: bool = False) -> int:
    """The sum of the first 56 bits of the SHA-256 of each text of a string array, NULLs left out.

    `without_numbers`: after leaving out every character that a number in JSON may be written with.
    """
