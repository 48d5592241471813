"""Columns of whole numbers in as few bytes as a browser can unpack without a library.

A column is a minimum and the bytes of each number above it: first the lowest byte of all rows, then
the next. Bytes of one kind compress far better beside each other than as decimal text.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

_LENGTH_BYTES = 4
"""The bytes before the description, with its length."""

_RAW = -15
"""zlib's number for its format without head and check sum, in which parts can be joined."""

_LETTERS = np.array([code for code in range(33, 127) if chr(code) not in "<>&"], dtype=np.uint8)
"""The 91 visible letters of ASCII that mean nothing in HTML."""

_PARTS = 1_000_000
"""A ratio is a whole number of millionths."""


class Packer:
    """Collects columns. `add` returns what stands for a column in the description."""

    def __init__(self) -> None:
        self._bytes: list[bytes] = []
        self._size = 0

    def add(self, values: ArrayLike) -> dict[str, int]:
        """Pack a column. Numbers must fit into 53 bits, as the browser's do."""
        numbers = np.asarray(values, dtype=np.int64)
        if not numbers.size:
            return {"at": 0, "rows": 0, "low": 0, "bytes": 0}
        low = int(numbers.min())
        span = int(numbers.max()) - low
        if max(abs(low), span) >= 2**53:
            raise OverflowError(f"A page cannot contain {low} to {low + span} exactly")
        width = (span.bit_length() + 7) // 8
        above = numbers - low
        self._bytes += [((above >> 8 * n) & 255).astype(np.uint8).tobytes() for n in range(width)]
        at = self._size
        self._size += len(numbers) * width
        return {"at": at, "rows": len(numbers), "low": low, "bytes": width}

    def add_codes(self, codes: ArrayLike, count: int) -> dict[str, int]:
        """Pack a column of numbers from 0 to `count` - 1, as they are or by their steps.

        Steps go round: from the last number, the next one is 0.
        """
        column = np.asarray(codes, dtype=np.int64)
        steps = np.diff(column, prepend=0) % count
        if self.size(steps) < self.size(column):
            return self.add(steps) | {"wrap": count}
        return self.add(column)

    @staticmethod
    def size(values: ArrayLike) -> int:
        """About the bytes that a column takes in the archive."""
        trial = Packer()
        trial.add(values)
        return len(zlib.compress(b"".join(trial._bytes), 1))

    def archive(self, description: Mapping[str, Any]) -> str:
        """The description and all columns, compressed, as text.

        No text in it can end the element around it. Equal data give an equal archive, as it
        contains no time.
        """
        text = json.dumps(
            description, default=_plain, ensure_ascii=False, separators=(",", ":")
        ).encode()
        parts = (len(text).to_bytes(_LENGTH_BYTES, "little"), text, *self._bytes)
        return as_text(b"".join([*map(_shortest, parts), zlib.compressobj(wbits=_RAW).flush()]))


def _shortest(part: bytes) -> bytes:
    """A part, compressed by itself: with repetitions, or by the frequency of its bytes alone.

    Columns of codes repeat by chance only, and then the second takes up to a fifth less.
    """
    tries = []
    for strategy in (zlib.Z_DEFAULT_STRATEGY, zlib.Z_HUFFMAN_ONLY):
        packing = zlib.compressobj(wbits=_RAW, strategy=strategy)
        tries.append(packing.compress(part) + packing.flush(zlib.Z_FULL_FLUSH))
    return min(tries, key=len)


def as_text(content: bytes) -> str:
    """Bytes as their number, a colon, and two letters for each 13 bits.

    It takes 23% more than the bytes. Base64 takes 33%, which is 60 KB of a large page.
    """
    bits = np.unpackbits(np.frombuffer(content, dtype=np.uint8))
    groups = np.append(bits, np.zeros(-len(bits) % 13, dtype=np.uint8)).reshape(-1, 13)
    numbers = groups @ (1 << np.arange(12, -1, -1))
    letters = np.stack([numbers // len(_LETTERS), numbers % len(_LETTERS)], axis=1)
    return f"{len(content)}:{_LETTERS[letters].tobytes().decode()}"


def _plain(value: Any) -> Any:
    if isinstance(value, date | datetime):
        return value.isoformat()
    if isinstance(value, Decimal):
        return float(value)
    raise TypeError(f"{value!r} has no place in the data of a page")


class Amounts(NamedTuple):
    """The distinct amounts of each key, such as a product.

    `rows`: for each row, its number among those of its key. `begins`: for each key, where its
    amounts begin. `columns`: the amounts, key by key.
    """

    rows: NDArray[np.int64]
    begins: NDArray[np.int64]
    columns: list[NDArray[np.int64]]


def combined(
    columns: Sequence[ArrayLike], rows: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """A number for each row, the same where all columns are, and a row of each number.

    The most frequent combination is 0, so that most numbers are small.
    """
    number = np.zeros(rows, dtype=np.int64)
    # Column by column. To sort rows of several columns takes far longer.
    for column in columns:
        values, of_row = np.unique(column, return_inverse=True)
        number = np.unique(number * len(values) + of_row, return_inverse=True)[1]
    _, examples, counts = np.unique(number, return_index=True, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.arange(len(order))
    return place[number], examples[order]


def distinct_amounts(
    keys: ArrayLike, amounts: Sequence[ArrayLike], key_count: int
) -> Amounts | None:
    """The distinct amounts of each key once, because what a product costs repeats.

    The most frequent come first, so that most numbers are small. Returns None where it would not
    save space.
    """
    keys = np.asarray(keys, dtype=np.int64)
    number, first = combined([keys, *amounts], len(keys))
    if len(first) > len(keys) // 3:
        return None
    # By key, and in it by the number, which the frequency gave.
    order = np.lexsort([np.arange(len(first)), keys[first]])
    ordered = keys[first[order]]
    begins = np.searchsorted(ordered, np.arange(key_count))
    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.arange(len(order)) - begins[ordered]
    columns = [np.asarray(column, dtype=np.int64)[first[order]] for column in amounts]
    return Amounts(place[number], begins, columns)


def rest_of_ratio(
    amounts: Amounts, main: ArrayLike, column: ArrayLike
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """A ratio to the main column for each key, in millionths, and what it does not explain.

    The tax of a product is a share of its revenue: then the rest is nearly always 0.
    """
    first = np.asarray(main, dtype=np.float64)
    other = np.asarray(column, dtype=np.int64)
    begins = np.asarray(amounts.begins)
    lengths = np.diff(np.append(begins, len(first)))
    # The most frequent amounts of a key, where it has any.
    heads = np.minimum(begins, len(first) - 1)
    base = first[heads]
    ratios = np.where(base == 0, 0, np.rint(other[heads] * _PARTS / np.where(base == 0, 1, base)))
    # The script does the same operations on the same floating-point numbers.
    guess = np.floor(first * np.repeat(ratios, lengths) / _PARTS + 0.5)
    return ratios.astype(np.int64), other - guess.astype(np.int64)
