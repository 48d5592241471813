"""What PostgreSQL's errors during a load mean, and what to do about them."""

from __future__ import annotations

from collections.abc import Sequence

import psycopg

from softcart_assets.ingestion.errors import TargetFailed

BEYOND_LIMITS = (psycopg.errors.ProgramLimitExceeded, psycopg.errors.TooManyColumns)
"""A row or a table is too wide for PostgreSQL, or a key too long. Other tables can go on."""
CAUSED_BY_ROWS = (psycopg.IntegrityError, psycopg.DataError, *BEYOND_LIMITS)
"""Errors that the content of one table causes, so that only this table stops."""


def explain(error: psycopg.Error, asset: str, key: Sequence[str]) -> TargetFailed:
    """Translate a PostgreSQL error during a load into what happened and what to do."""
    message = str(error).strip() if cause(error) else error.diag.message_primary
    if _is_doubled_key(error, asset):
        what = (
            f"the declared key ({', '.join(key)}) is not unique at the source: several rows share "
            "one. Declare a unique key, or none and strategy 'snapshot'."
        )
    elif isinstance(error, psycopg.errors.NotNullViolation):
        what = f"the declared key ({', '.join(key)}) is NULL in some row. Declare another key."
    elif isinstance(error, psycopg.errors.DiskFull):
        what = "the disk of the staging warehouse is full. Make room, then run the load again."
    elif isinstance(error, BEYOND_LIMITS):
        what = _beyond_limits(error, key)
    elif isinstance(error, psycopg.OperationalError):
        what = (
            f"the staging warehouse failed ({message}). Run the load again; if it "
            "persists, check "
            "SOFTCART_STAGING_HOST, _PORT."
        )
    else:
        what = f"the staging warehouse refused the rows ({message})."
    return TargetFailed(f"{asset}: {what} Nothing of it was committed.")


def cause(error: psycopg.Error) -> psycopg.Error | None:
    """The error to show as the cause of another one, None if its detail has values of a row.

    They may be personal, and the whole chain of errors goes to Dagster's log.
    """
    return None if isinstance(error, psycopg.IntegrityError) else error


def _is_doubled_key(error: psycopg.Error, asset: str) -> bool:
    """Whether two rows have the same declared key."""
    # ON CONFLICT raises it if one statement meets a key twice.
    if isinstance(error, psycopg.errors.CardinalityViolation):
        return True
    # Our own tables have unique keys as well: the history's versions, the lists in `ingestion`.
    return (
        isinstance(error, psycopg.errors.UniqueViolation)
        and f"{error.diag.schema_name}/{error.diag.table_name}" == asset
    )


def _beyond_limits(error: psycopg.Error, key: Sequence[str]) -> str:
    # The text may be in any language. Of our tables, only the key has an index.
    if error.diag.source_function in ("_bt_check_third_page", "index_form_tuple_context"):
        return (
            f"a value of the declared key ({', '.join(key)}) is longer than PostgreSQL can index "
            f"({error.diag.message_primary}). Shorten it at the source, or declare another key, or "
            "none and strategy 'snapshot' or 'cdc'."
        )
    return (
        f"a row is wider than PostgreSQL allows ({error.diag.message_primary}). Shorten its values "
        "at the source, or declare a view of the table with fewer columns."
    )
