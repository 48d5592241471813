"""Checksums of texts, compiled."""

from collections.abc import Callable

import numpy as np
import pyarrow as pa

def hash_sum(
    array: pa.Array, without_numbers: bool = False, weights: np.ndarray | None = None
) -> int:
    """Return the sum of the first 56 bits of the SHA-256 of each text of a string array, without
    NULLs.

    `without_numbers`: first drop every character that a number in JSON may contain. `weights`:
    factors (int64, from 0 to 31), one for each row.
    """

def double_hash_sum(
    array: pa.Array, text_of: Callable[[float], str], weights: np.ndarray | None = None
) -> int:
    """Return the same of an array of doubles, each as the text that `text_of` gives for it."""
