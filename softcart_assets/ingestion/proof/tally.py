"""Checksums of passing rows, for a source whose server cannot compute them."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from decimal import ROUND_HALF_UP, Decimal

import pyarrow as pa

from softcart_assets.ingestion.codec.hashing import hash_sum
from softcart_assets.ingestion.proof.digest import EXACT, HASH_DIGITS, Checksums, checksum
from softcart_assets.ingestion.types import Column, Kind


class Accumulator:
    """Checksums of Arrow batches, equal to those that PostgreSQL computes of the same rows."""

    def __init__(self) -> None:
        self._rows = 0
        self._counts: dict[str, int] = {}
        self._sums: dict[str, Decimal] = {}

    def add(self, columns: Sequence[Column], rows: pa.RecordBatch) -> None:
        """Add a batch."""
        self._rows += len(rows)
        for column in columns:
            values = rows.column(column.name).drop_null()
            self._counts[column.name] = self._counts.get(column.name, 0) + len(values)
            self._sums[column.name] = EXACT.add(
                self._sums.get(column.name, Decimal(0)), _sum_of_numbers(column, values)
            )

    def result(self, columns: Sequence[Column]) -> tuple[int, Checksums]:
        """Return the number of rows and the checksum of each column."""
        return self._rows, {
            c.name: checksum(
                Decimal(self._counts.get(c.name, 0)), self._sums.get(c.name, Decimal(0))
            )
            for c in columns
        }


def _sum_of_numbers(column: Column, values: pa.Array) -> Decimal:
    """Return the sum of the numbers of a MongoDB column's values."""
    # Only the kinds that MongoDB's columns have. Every case repeats PostgreSQL's expression
    # exactly.
    match column.kind:
        case Kind.BOOLEAN:
            return Decimal(values.true_count)
        case Kind.INTEGER | Kind.INSTANT:
            numbers = values.cast(pa.int64()).to_numpy()
            # In halves: a sum of 64-bit numbers would overflow.
            return (Decimal(int((numbers >> 32).sum())) * (1 << 32)) + int(
                (numbers & 0xFFFFFFFF).sum()
            )
        case Kind.TEXT:
            return Decimal(hash_sum(values))
        case Kind.JSON:  # written as PostgreSQL prints jsonb
            return Decimal(hash_sum(values, True))
        case Kind.DOUBLE:
            return Decimal(sum(_hash(_double_text(value)) for value in values.to_pylist()))
        case Kind.DECIMAL:
            return Decimal(sum(_hash(format(value, "f")) for value in values.to_pylist()))
    raise AssertionError(column)


def _hash(text: str) -> int:
    return int(hashlib.sha256(text.encode()).hexdigest()[:HASH_DIGITS], 16)


def _double_text(value: float) -> str:
    """Return PostgreSQL's text of a double in `_postgres_number`."""
    if not math.isfinite(value):
        return {math.inf: "Infinity", -math.inf: "-Infinity"}.get(value, "NaN")
    size = abs(value)
    if value and not 1e-5 <= size < 1e15:
        for power in range(20, 301, 20):
            if size >= float(f"1e{power - 5}") and (power > 290 or size < float(f"1e{power + 15}")):
                value /= float(f"1e{power}")
                break
            if size < float(f"1e-{power - 15}") and (
                power == 300 or size >= float(f"1e-{power + 5}")
            ):
                value *= float(f"1e{power}")
                break
    scaled = Decimal(repr(value)).quantize(Decimal(1).scaleb(-30), ROUND_HALF_UP, context=EXACT)
    return format(scaled or abs(scaled), "f")
