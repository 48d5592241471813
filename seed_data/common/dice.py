"""Random Spark columns that depend on the seed, a purpose and a row's key, and on nothing else.

A draw is a hash, not a generator's next number. So the same row gets the same value however Spark
partitions the data, and any table can recompute another table's value from its key instead of
joining.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from pyspark.sql import Column
from pyspark.sql import functions as F

_SEPARATOR = "\x1f"


def strings(values: Sequence[str]) -> Column:
    """A literal array of strings. It is one literal that Spark splits once while it plans."""
    return F.split(F.lit(_SEPARATOR.join(values)), _SEPARATOR)


def numbers(values: Sequence[float], spark_type: str = "bigint") -> Column:
    """A literal array of integers (or, with `spark_type="double"`, of floats)."""
    return strings([str(value) for value in values]).cast(f"array<{spark_type}>")


def div(dividend: Column, divisor: Column | int) -> Column:
    """Integer division, rounded towards zero. It is exact for longs, unlike `/` on doubles."""
    return F.call_function("div", dividend, F.lit(divisor) if isinstance(divisor, int) else divisor)


class Dice:
    """Draws for one seed."""

    def __init__(self, seed: int):
        self._seed = seed

    def salt(self, purpose: str) -> int:
        """A 63-bit number for a purpose, so that the draws of two columns differ."""
        digest = hashlib.blake2b(f"{self._seed}/{purpose}".encode(), digest_size=8).digest()
        # Spark's longs have a sign, so one bit must go.
        return int.from_bytes(digest, "big") >> 1

    def uniform(self, purpose: str, *key: Column) -> Column:
        """A double in [0, 1) with 53 random bits."""
        return F.shiftrightunsigned(F.xxhash64(F.lit(self.salt(purpose)), *key), 11) * F.lit(
            2.0**-53
        )

    def chance(self, share: float, purpose: str, *key: Column) -> Column:
        """True for this share of the keys."""
        return self.uniform(purpose, *key) < share

    def integer(self, low: Column | int, count: Column | int, purpose: str, *key: Column) -> Column:
        """A long, uniform in [low, low + count)."""
        return (F.floor(self.uniform(purpose, *key) * count) + low).cast("bigint")

    def pick(self, array: Column, count: int, purpose: str, *key: Column) -> Column:
        """An element of an array of `count` elements, each as likely as the other."""
        return array[self.integer(0, count, purpose, *key).cast("int")]

    def uuid(self, purpose: str, key: Column) -> Column:
        """A text in the form of a UUID."""
        digest = F.md5(F.concat(F.lit(f"{self.salt(purpose)}/"), key.cast("string")))
        pieces = ((1, 8), (9, 4), (13, 4), (17, 4), (21, 12))
        return F.concat_ws("-", *(F.substring(digest, start, size) for start, size in pieces))

    def weighted(self, weights: Mapping[str, float], purpose: str, *key: Column) -> Column:
        """A key of `weights`, as likely as its weight says."""
        return thresholds(self.uniform(purpose, *key), weights)


def thresholds(uniform: Column, weights: Mapping[str, float]) -> Column:
    """The name of the piece in which `uniform` lies, if `weights` cut [0, 1) into pieces."""
    names = list(weights)
    total, reached, column = sum(weights.values()), 0.0, None
    for name in names[:-1]:
        reached += weights[name] / total
        column = (F if column is None else column).when(uniform < reached, name)
    return F.lit(names[-1]) if column is None else column.otherwise(names[-1])


def draws(salt: int, *keys: npt.NDArray[np.int64] | int) -> npt.NDArray[np.float64]:
    """Doubles in [0, 1) for what numpy computes day after day: by a salt and the keys alone.

    `Dice.salt` makes the salt. A row gets the same value however the rows are split.
    """
    state: Any = np.uint64(salt)
    # Whole numbers overflow on purpose.
    with np.errstate(over="ignore"):
        for key in keys:
            state = _mixed(state ^ (np.asarray(key).astype(np.uint64) * np.uint64(_GOLDEN)))
    values: npt.NDArray[np.float64] = (state >> np.uint64(11)).astype(np.float64) * 2.0**-53
    return values


_GOLDEN = 0x9E3779B97F4A7C15


def _mixed(state: Any) -> Any:
    """The end of SplitMix64, which spreads each bit over all others."""
    state = (state + np.uint64(_GOLDEN)).astype(np.uint64)
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))
