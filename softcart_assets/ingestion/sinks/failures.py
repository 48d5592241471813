"""What PostgreSQL's errors during a load mean, and what to do about them."""

from __future__ import annotations

from collections.abc import Sequence

import psycopg

from softcart_assets.ingestion.errors import TargetFailed


def explain(error: psycopg.Error, asset: str, key: Sequence[str]) -> TargetFailed:
    """Translate a PostgreSQL error during a load into what happened and what to do."""
    # CardinalityViolation, too: ON CONFLICT raises it if one statement meets a key twice.
    if isinstance(error, psycopg.errors.UniqueViolation | psycopg.errors.CardinalityViolation):
        what = (
            f"the declared key ({', '.join(key)}) is not unique at the source "
            f"({error.diag.message_detail}). Declare a unique key, or none and strategy "
            "'snapshot'."
        )
    elif isinstance(error, psycopg.errors.NotNullViolation):
        what = f"the declared key ({', '.join(key)}) is NULL in some row. Declare another key."
    elif isinstance(error, psycopg.errors.DiskFull):
        what = "the disk of the staging warehouse is full. Make room, then run the load again."
    elif isinstance(error, psycopg.errors.ProgramLimitExceeded) and key:
        what = (
            f"a value of the declared key ({', '.join(key)}) is longer than PostgreSQL can index "
            f"({error.diag.message_primary}). "
            "Declare another key, or none and strategy 'snapshot' or 'cdc'."
        )
    elif isinstance(error, psycopg.OperationalError):
        what = (
            f"the staging warehouse failed ({str(error).strip()}). Run the load again; if it "
            "persists, check "
            "SOFTCART_STAGING_HOST, _PORT."
        )
    else:
        what = f"the staging warehouse refused the rows ({str(error).strip()})."
    return TargetFailed(f"{asset}: {what} Nothing of it was committed.")
