"""Spark columns of the kinds that source tables hold."""

from __future__ import annotations

from pyspark.sql import Column
from pyspark.sql import functions as F


def money(cents: Column, precision: int = 12) -> Column:
    """Cents as an exact decimal amount in EUR."""
    return (cents.cast(f"decimal({precision},0)") * F.lit("0.01").cast("decimal(3,2)")).cast(
        f"decimal({precision},2)"
    )


def timestamp(microseconds: Column) -> Column:
    """Epoch microseconds as a timestamp."""
    return F.timestamp_micros(microseconds)
