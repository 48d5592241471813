"""Where changes go: one sink per kind of target, all in the transaction that moves the position."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import psycopg

from softcart_assets.ingestion.captured import Captured, CapturedTable
from softcart_assets.ingestion.changes import Changes
from softcart_assets.ingestion.position import Place, Position


class Sink(Protocol):
    """Takes the changes of captured tables, over the connection whose transaction moves the source's position.

    What a sink writes over that connection is committed together with the position, or not at all: after a kill, the log
    goes on exactly behind what the sink has. A sink never commits and never rolls back. After any error it is of no use
    any more, and a new one takes up what is committed.
    """

    def begin(self, table: CapturedTable) -> None:
        """Make ready for a table: it is followed from now on, or its columns have become others."""

    def since(self, table: CapturedTable) -> Position:
        """Up to where the sink has a table's changes for good; only later ones are handed to it."""

    def take(self, changes: Changes) -> None:
        """Take changes of one table, in the log's order. The last transaction may still be open: then its rest follows.

        An update brings the row's new values alone, and an update of the key comes as a deletion and an insertion. A table
        that was truncated or read again brings the rows that this changed, in the same form.
        """

    def void(self) -> None:
        """Forget what was taken of the open transaction: it was rolled back."""

    def flush(self, place: Place, committed_at: int | None) -> None:
        """Finish what was taken: whole transactions, up to a place. The position moves there in this transaction."""

    def restate(self, connection: psycopg.Connection, table: str) -> None:
        """Take a table anew, as raw has it: a load has copied or compared it as a whole.

        Happens in the load's own transaction, over its connection. The log's changes go on behind it.
        """

    def discard(self) -> None:
        """Remove what lies outside of PostgreSQL and is not committed: the transaction is given up."""


SinkMaker = Callable[[psycopg.Connection, Captured], Sink]
"""Makes a sink over the connection that holds the source; anew whenever the log is followed over a new connection."""
