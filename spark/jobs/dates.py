"""What all aggregates mean by a plausible date and by a sum of money, as the warehouse does."""

from __future__ import annotations

from pyspark.sql import Column
from pyspark.sql import functions as F

MONEY = "decimal(24,2)"
"""Sums of money, in one currency. A sum that does not fit is an error."""

UNKNOWN_DATE = "1900-01-01"
"""The date of events whose time is implausible."""

CALENDAR_START, CALENDAR_END = "2000-01-01T00:00:00Z", "2050-01-01T00:00:00Z"
"""Of the warehouse's dim_date."""


def is_dated_plausibly(instant: Column, loaded_at: Column) -> Column:
    """Whether the time of an event is in the calendar, and not after the load of its row.

    A day is allowed, because some sources write their local time.
    """
    start, end = (F.lit(day).cast("timestamp") for day in (CALENDAR_START, CALENDAR_END))
    return (instant >= start) & (instant < end) & (instant <= loaded_at + F.expr("INTERVAL 1 DAY"))
