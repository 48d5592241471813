"""The targets of changes: one sink per kind, all in the transaction that moves the position."""

from __future__ import annotations

from typing import Protocol

import psycopg

from softcart_assets.ingestion.captured import CapturedTable
from softcart_assets.ingestion.changes import Changes
from softcart_assets.ingestion.position import Place, Position


class Sink(Protocol):
    """Takes the changes of captured tables, over the connection whose transaction moves the
    source's position.

    What a sink writes over that connection commits together with the position, or not at all. So
    after a kill, the log goes on exactly behind what the sink has. A sink never commits and never
    rolls back. After any error it cannot be used any more. A new one continues from what is
    committed.
    """

    def begin(self, table: CapturedTable) -> None:
        """Prepare for a table: it is followed from now on, or its columns have changed."""

    def since(self, table: CapturedTable) -> Position:
        """Return the position up to which the sink has a table's changes for good. It gets only
        later ones.
        """

    def take(self, changes: Changes) -> None:
        """Take changes of one table, in the log's order.

        The last transaction may still be open. Then its rest follows.

        The rows of an update have its new values. An update of the key comes as a deletion and an
        insertion. A table that was truncated or read again brings the changed rows in the same
        form. Raw does not have the changes yet.
        """

    def void(self) -> None:
        """Forget what was taken of the open transaction, because it was rolled back."""

    def flush(self, place: Place, committed_at: int | None) -> None:
        """Finish what was taken: whole transactions, up to `place`.

        The position moves there in the same transaction.
        """

    def restate(self, connection: psycopg.Connection, table: str) -> None:
        """Take a table anew, as raw has it, because a load has copied or compared it as a whole.

        This happens in the load's own transaction, over its connection. The log's changes go on
        behind it. Several threads call it at once, each for another table.
        """

    def discard(self) -> None:
        """Remove what lies outside PostgreSQL. The transaction is rolled back."""
