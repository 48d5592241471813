"""Columns of whole numbers in as few bytes as a browser can unpack without a library.

A column is a minimum and the bytes of each number above it: first the lowest byte of all rows, then
the next. Bytes of one kind compress far better beside each other than as decimal text.
"""

from __future__ import annotations

import json
import zlib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

_LENGTH_BYTES = 4
"""The bytes before the description, with its length."""

_GZIP = 31
"""zlib's number for the format gzip. It writes no time."""

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

    @staticmethod
    def size(values: ArrayLike) -> int:
        """About the bytes that a column takes in the archive."""
        trial = Packer()
        trial.add(values)
        return len(zlib.compress(b"".join(trial._bytes)))

    def archive(self, description: Mapping[str, Any]) -> str:
        """The description and all columns, compressed, as text.

        No text in it can end the element around it. Equal data give an equal archive, as it
        contains no time.
        """
        text = json.dumps(
            description, default=_plain, ensure_ascii=False, separators=(",", ":")
        ).encode()
        archive = zlib.compressobj(9, wbits=_GZIP)
        parts = []
        for part in (len(text).to_bytes(_LENGTH_BYTES, "little"), text, *self._bytes):
            # Each part has a code of its own. A common one takes 10% more.
            parts += [archive.compress(part), archive.flush(zlib.Z_FULL_FLUSH)]
        return as_text(b"".join([*parts, archive.flush()]))


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

    rows: list[int]
    begins: list[int]
    columns: list[list[int]]


def distinct_amounts(
    keys: Sequence[int], amounts: Sequence[Sequence[int]], key_count: int
) -> Amounts | None:
    """The distinct amounts of each key once, because what a product costs repeats.

    The most frequent come first, so that most numbers are small. Returns None where it would not
    save space.
    """
    counts = Counter(zip(keys, *amounts, strict=True))
    if len(counts) > len(keys) // 3:
        return None
    by_key: defaultdict[int, list[tuple[int, ...]]] = defaultdict(list)
    for entry, _ in counts.most_common():
        by_key[entry[0]].append(entry)
    begins: list[int] = []
    ordered: list[tuple[int, ...]] = []
    numbers: dict[tuple[int, ...], int] = {}
    for key in range(key_count):
        begins.append(len(ordered))
        for number, entry in enumerate(by_key[key]):
            numbers[entry] = number
            ordered.append(entry[1:])
    rows = [numbers[entry] for entry in zip(keys, *amounts, strict=True)]
    return Amounts(rows, begins, [list(column) for column in zip(*ordered, strict=True)])


def rest_of_ratio(
    amounts: Amounts, main: Sequence[int], column: Sequence[int]
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
