"""Checksums of passing rows: documents of a server that computes none, and changes of a log."""

from __future__ import annotations

import math
from collections.abc import Sequence
from decimal import ROUND_HALF_UP, Decimal

import numpy as np
import pyarrow as pa

from softcart_assets.ingestion.codec.hashing import double_hash_sum, hash_sum
from softcart_assets.ingestion.proof.digest import (
    EXACT,
    LONGEST_DECIMAL,
    Checksums,
    checksum,
    is_whole,
)
from softcart_assets.ingestion.types import Column, Kind

_MODULUS = 1009
_DAYS_BEFORE_1970 = 719_528
"""From the year 0 on, where the digests of dates begin."""


class Accumulator:
    """Checksums of Arrow batches, equal to those that PostgreSQL computes of the same rows.

    `key`: the table's key, whose leading column weighs the numbers, see `digest`.
    """

    def __init__(self, key: Sequence[str] = ()) -> None:
        self._leading = key[0] if key else None
        self.rows = 0
        self._counts: dict[str, int] = {}
        self._sums: dict[str, Decimal] = {}

    def add(self, columns: Sequence[Column], rows: pa.RecordBatch, sign: int = 1) -> None:
        """Add a batch. A `sign` of -1 takes its rows away."""
        self.rows += sign * len(rows)
        leading = next((c for c in columns if c.name == self._leading and is_whole(c)), None)
        weights = _weights(leading, rows.column(leading.name)) if leading else None
        for column in columns:
            values = rows.column(column.name)
            count = len(values) - values.null_count
            self._counts[column.name] = self._counts.get(column.name, 0) + sign * count
            total = _sum_of_numbers(column, values, weights)
            self._sums[column.name] = EXACT.add(
                self._sums.get(column.name, Decimal(0)), total.copy_negate() if sign < 0 else total
            )

    def include(self, other: Accumulator) -> None:
        """Add what another one has."""
        self.rows += other.rows
        for name, total in other._sums.items():
            self._counts[name] = self._counts.get(name, 0) + other._counts[name]
            self._sums[name] = EXACT.add(self._sums.get(name, Decimal(0)), total)

    def of(self, name: str) -> str:
        """Return the checksum of a column."""
        return checksum(Decimal(self._counts.get(name, 0)), self._sums.get(name, Decimal(0)))

    def result(self, columns: Sequence[Column]) -> tuple[int, Checksums]:
        """Return the number of rows and the checksum of each column."""
        return self.rows, {c.name: self.of(c.name) for c in columns}


def _weights(column: Column, values: pa.Array) -> np.ndarray:
    """Return the weights of rows by their leading key, as a `Dialect` computes them."""
    if column.kind is Kind.INTEGER:
        keys = values.fill_null(0).cast(pa.int64()).to_numpy()
        # The remainder goes first, as the smallest bigint has no absolute value.
        rests = np.abs(np.fmod(keys, _MODULUS))
    else:
        keys = values.to_pylist()
        rests = np.array([abs(int(key or 0)) % _MODULUS for key in keys], np.int64)
    # A NULL key makes every product NULL, which adds nothing.
    valid = values.is_valid().to_numpy(zero_copy_only=False)
    return np.ascontiguousarray((1 + rests * rests % 31) * valid)


def _sum_of_numbers(column: Column, values: pa.Array, weights: np.ndarray | None) -> Decimal:
    """Return the weighted sum of the numbers of a column's values.

    Every case repeats PostgreSQL's expression exactly, see `proof.postgres`.
    """
    match column.kind:
        case Kind.TEXT | Kind.BYTES:
            return Decimal(hash_sum(values, weights=weights))
        case Kind.JSON:  # written as PostgreSQL prints jsonb
            return Decimal(hash_sum(values, True, weights=weights))
        case Kind.DOUBLE:
            return Decimal(double_hash_sum(values, _double_text, weights))
        case Kind.DECIMAL if column.decimal and column.decimal[0] > LONGEST_DECIMAL:
            texts = [None if v is None else format(v, "f") for v in values.to_pylist()]
            return Decimal(hash_sum(pa.array(texts, pa.string()), weights=weights))
    if weights is not None:
        weights = weights[values.is_valid().to_numpy(zero_copy_only=False)]
    if not len(values := values.drop_null()):
        return Decimal(0)
    if column.decimal:
        return _sum_of_decimals(values, weights).scaleb(-column.decimal[1], EXACT)
    if column.kind is Kind.DATE:
        numbers = values.cast(pa.int32()).to_numpy().astype(np.int64) + _DAYS_BEFORE_1970
    else:
        numbers = values.cast(pa.int64()).to_numpy()
    return Decimal(_sum(numbers >> 32, weights) * (1 << 32) + _sum(numbers & 0xFFFFFFFF, weights))


def _sum(halves: np.ndarray, weights: np.ndarray | None) -> int:
    """Return a weighted sum of numbers of 32 bits, which does not overflow 64 for any batch."""
    return int((halves if weights is None else halves * weights).sum())


def _sum_of_decimals(values: pa.Array, weights: np.ndarray | None) -> Decimal:
    """Return the weighted sum of the digits of decimals with up to 30 of them."""
    quarters = np.frombuffer(values.buffers()[1], np.uint32)
    quarters = quarters[4 * values.offset : 4 * (values.offset + len(values))].reshape(-1, 4)
    quarters = quarters.astype(np.int64)
    # The highest of the four has the sign.
    quarters[:, 3] = quarters[:, 3].astype(np.int32)
    return Decimal(sum(_sum(quarters[:, place], weights) << 32 * place for place in range(4)))


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
