"""What was known at a moment: the versions of rows that a job with `history` takes.

A row that was logged is known from its commit on. A table is copied once, before its log is
followed, and nobody knows when the source learned of the rows of this copy. They count as known
since ever. So do rows that come with a later copy only, after a gap in the log. So whoever asks for
a moment before the copy must look at the times in the rows, such as the one at which a record was
written.
"""

from __future__ import annotations

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

_EVER = "0001-01-01"
_FOR_GOOD = "9999-12-31"


def versions(changes: DataFrame, *key: str) -> DataFrame:
    """Each version of each row, known after `_known_from` up to `_known_to`. No deletions."""
    by_key = Window.partitionBy(*key).orderBy("_version", "_place")
    is_first_copy = (F.row_number().over(by_key) == 1) & F.col("_operation").isNull()
    return (
        changes.select(
            "*",
            F.when(is_first_copy, _instant(_EVER))
            .otherwise(F.coalesce("_committed_at", "_loaded_at"))
            .alias("_known_from"),
        )
        .select(
            "*",
            F.coalesce(F.lead("_known_from").over(by_key), _instant(_FOR_GOOD)).alias("_known_to"),
        )
        .where(~F.col("_deleted"))
    )


def known_before(moment: Column) -> Column:
    """Whether a version of `versions` was the one that was known just before a moment."""
    return (F.col("_known_from") < moment) & (moment <= F.col("_known_to"))


def known_now() -> Column:
    """Whether a version of `versions` is the last one."""
    return F.col("_known_to") == _instant(_FOR_GOOD)


def last_position() -> Column:
    """The position of the last change, as an aggregate over the changes of a table."""
    return F.max_by("_position", F.struct("_version", "_place"))


def _instant(text: str) -> Column:
    # A literal needs a session, so it cannot be made when the module is imported.
    return F.lit(text).cast("timestamp")
