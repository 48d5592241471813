"""What definitions in a source's log mean for raw: columns that come, go and change, and tables
that are emptied or renamed.

The table's contract decides. `evolve`: raw follows. `freeze`: the table stops. `quarantine`: raw
keeps its columns, and rows with values in other columns go to quarantine.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing

from softcart_assets.connections import MySQLConnection
from softcart_assets.ingestion.capture.rewrites import Rewrites
from softcart_assets.ingestion.captured import Captured, CapturedTable
from softcart_assets.ingestion.changes import Changes
from softcart_assets.ingestion.connectors.mysql.ddl import TableChange
from softcart_assets.ingestion.connectors.mysql.events import TableMap, Unreadable
from softcart_assets.ingestion.connectors.mysql.schema import columns_of
from softcart_assets.ingestion.connectors.mysql.session import Session, explained
from softcart_assets.ingestion.connectors.mysql.tables import check_key, unique_keys
from softcart_assets.ingestion.errors import SchemaChanged, UnsupportedColumn
from softcart_assets.ingestion.position import Place
from softcart_assets.ingestion.sinks import Sink
from softcart_assets.ingestion.sinks.failures import BEYOND_LIMITS, explain
from softcart_assets.ingestion.sinks.merge import RawSink
from softcart_assets.ingestion.types import Column, widens


class Definitions:
    """Makes raw follow the definitions of a source's tables."""

    def __init__(
        self,
        captured: Captured,
        raw: RawSink,
        sinks: Sequence[Sink],
        connection: MySQLConnection,
    ) -> None:
        self.captured, self.raw, self.sinks = captured, raw, sinks
        self.connection = connection
        self.rewrites = Rewrites(captured, raw)

    def adapt(self, table: CapturedTable, definition: TableMap) -> Sequence[Column] | None:
        """Make raw follow a definition. Returns the columns to decode its rows in.

        None skips the table, because it has stopped.
        """
        try:
            self._check_key(table, definition)
            columns = columns_of(definition.shown, table.asset)
        except (UnsupportedColumn, SchemaChanged) as error:
            self.captured.stop(table, str(error))
            return None
        return self.fit_or_stop(table, columns)

    def fit_or_stop(
        self, table: CapturedTable, columns: Sequence[Column]
    ) -> Sequence[Column] | None:
        """Do what `fit` does. If that fails, stop the table and return None."""
        try:
            return self.fit(table, columns)
        except (UnsupportedColumn, SchemaChanged) as error:
            self.captured.stop(table, str(error))
            return None

    def refuse(self, table: CapturedTable, unreadable: Unreadable) -> None:
        """Stop a table with changes that the log does not tell."""
        reason = f"{table.asset}: {unreadable.what} {_goes_on(table, unreadable.remedy)}"
        self.captured.stop(table, reason)

    def _check_key(self, table: CapturedTable, definition: TableMap) -> None:
        """Raise `SchemaChanged` if the declared key is not unique any more."""
        declared = set(table.table.key)
        primary = {definition.columns[index].name for index in definition.key}
        primary.discard(definition.row_end or "")
        if (primary and primary <= declared) or not declared <= {c.name for c in definition.shown}:
            return
        with (
            explained(self.connection, table.asset),
            closing(Session(self.connection)) as session,
        ):
            keys = unique_keys(session, table.asset, table.table.at_source)
        # A table that is gone since has had its statement in the log, which is still to come.
        if keys is None:
            return
        # The log tells the primary key as it was for these rows. It has no other keys, and so they
        # are those of now.
        keys.pop("PRIMARY", None)
        check_key(table.table, table.asset, [*keys.values(), *([primary] if primary else [])])

    def fit(self, table: CapturedTable, columns: Sequence[Column]) -> Sequence[Column]:
        """Return the columns in which to take rows that have `columns` at the source.

        Raises `SchemaChanged` if the contract forbids it.
        """
        names = {column.name for column in columns}
        if missing := [name for name in table.table.key if name not in names]:
            raise SchemaChanged(
                f"{table.asset}: column {', '.join(map(repr, missing))} of the declared key is no "
                "longer at the source. Declare "
                f"the key that the table has now, drop the raw table, and load again."
            )
        have = {column.name: column for column in table.columns}
        new = [c for c in columns if c.name not in have]
        gone = [name for name in have if name not in names and name not in table.dropped]
        retyped = [
            c
            for c in columns
            if c.name in have and not widens(c.target_type, have[c.name].target_type)
        ]
        match table.table.contract:
            case "freeze" if new or gone or retyped:
                changes = [
                    *(f"{c.name!r} was added" for c in new),
                    *(f"{name!r} was dropped" for name in gone),
                    *(f"{c.name!r} became {c.source_type}" for c in retyped),
                ]
                raise SchemaChanged(_frozen(table, f"column {', '.join(changes)}"))
            # The new columns are decoded all the same: only their values tell which rows go to
            # quarantine.
            case "quarantine":
                return [*table.columns, *new]
            case "evolve" if new or retyped:
                self._evolve(table, columns)
        return table.columns

    def _evolve(self, table: CapturedTable, columns: Sequence[Column]) -> None:
        """Give raw the columns of a definition."""
        staged = self.raw.staged[table.name]
        if staged.is_staged:
            # These rows have the columns of before: they go into raw while it has those, too.
            assert self.captured.place
            self.raw.merge(staged, self.captured.place.position, None)
        connection = self.captured.connection
        # All or nothing: what fails here stops this table, not the flush. The savepoint needs an
        # open transaction.
        connection.execute("SELECT 1")
        try:
            with connection.transaction():
                _, is_retyped = staged.raw.evolve(columns, table.columns)
        except BEYOND_LIMITS as error:
            raise SchemaChanged(str(explain(error, table.asset, table.table.key))) from error
        table.is_retyped |= is_retyped
        for sink in self.sinks:
            sink.begin(table)

    def define(
        self, change: TableChange, place: Place, committed_at: int | None, database: str
    ) -> Iterator[Changes]:
        """Apply to the tables what a statement at `place` did to them. Yields the changes of
        rows.
        """
        for table in self.captured.live:
            is_it = change.database == database and change.table in (table.name, "")
            becomes_it = change.new == (database, table.name)
            # A table that is further than the log has been read with this definition already.
            if place.position <= table.position or not (is_it or becomes_it):
                continue
            if becomes_it or change.kind in ("drop", "rename"):
                # Another table takes this name, at once or later. Its rows were never in this
                # table's log. Mostly they are the rows of before: so gh-ost and pt-osc alter a
                # table (Altinity/clickhouse-sink-connector#184). So raw keeps its rows until they
                # can be compared.
                self.captured.note_stale(table, place.position)
            elif change.kind == "truncate":
                yield from self.rewrites.empty(table, place.position, committed_at)
            elif change.kind == "rewrite" or change.changes_values or _returns(table, change):
                # The log tells the statement, but not the values that rows have after it.
                if table.table.contract == "freeze":
                    self.captured.stop(table, _frozen(table, "its definition"))
                else:
                    self.captured.note_stale(table, place.position)


def _returns(table: CapturedTable, change: TableChange) -> bool:
    """Return whether a statement adds a column that raw has. It was dropped before, perhaps in the
    same statement, and raw has kept its values. At the source all rows have NULL.
    """
    return not {column.name for column in table.columns}.isdisjoint(change.added)


def _frozen(table: CapturedTable, what: str) -> str:
    goes_on = _goes_on(table, "Check what the change means for the models.")
    return f"{table.asset}: {what} at the source, and the table's contract is 'freeze'. {goes_on}"


def _goes_on(table: CapturedTable, remedy: str) -> str:
    """Return what happens after a table stopped, and what to do."""
    source, name = table.asset.removeprefix("raw_").split("/", 1)
    command = f"Then run `softcart resnapshot {source}.{name}`, which takes it as it is now."
    parts = ("The raw table stays as it was, and the other tables go on.", remedy, command)
    return " ".join(filter(None, parts))
