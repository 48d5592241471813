"""The lock that keeps raw tables unchanged while models are built from them.

Loads share the lock. A build holds it alone. Otherwise models would be built from one state of the
raw tables and compared with another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from softcart_assets import locks
from softcart_assets.connections import PostgresConnection
from softcart_assets.ingestion.bookkeeping import RAW_TABLES_LOCK


@contextmanager
def raw_tables_held(
    staging: PostgresConnection, *, still: bool, tell: Callable[[str], None]
) -> Iterator[None]:
    """Hold the raw tables while the block runs: shared for a load, or alone (`still`) for a build.

    Waits without limit, and calls `tell` once with the name of the holder.
    """

    def on_wait(holder: locks.LockSession | None) -> None:
        tell(f"Waiting for the raw tables, which {holder or 'another run'} is using.")

    # A session of its own: PostgreSQL frees the lock with the session, even after a kill.
    with staging.connect(autocommit=True) as connection:
        locks.take(connection, RAW_TABLES_LOCK, shared=not still, on_wait=on_wait)
        yield
