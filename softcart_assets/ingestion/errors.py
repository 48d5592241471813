"""The exceptions of a load, as one family.

Each message says what happened, to which table and asset, and what to do. This module raises
nothing.
"""


class IngestionError(RuntimeError):
    """A load failed. Nothing of the table concerned was committed."""


class MissingTable(IngestionError):
    """A declared table or collection, or a declared column of it, does not exist at the source."""


class MissingGrant(IngestionError):
    """We lack a privilege at the source. The message has the statement that grants it."""


class UnsupportedColumn(IngestionError):
    """A column's type or name cannot be carried exactly."""


class SchemaChanged(IngestionError):
    """The source's columns no longer fit the raw table, and a person has to decide what to do."""


class SourceLost(IngestionError):
    """The source went away during a load, or was too busy. The load can be run again."""


class SourceRefused(IngestionError):
    """The source refuses a statement. It will do so again until somebody removes the cause."""


class PositionPurged(IngestionError):
    """The source's log no longer holds what follows a position. A new snapshot is needed."""


class TargetFailed(IngestionError):
    """PostgreSQL or the lake refused the rows (disk full, key not unique, connection lost)."""


class TableBusy(IngestionError):
    """Another load holds the table. The message names it."""


class NotComparable(IngestionError):
    """Neither the table nor its kind of source supports a comparison of rows."""


class TableBehind(IngestionError):
    """The table changed at the source after its last load, and the comparison was not allowed to
    load it.
    """


class TableStale(IngestionError):
    """A raw table may hold a mixture of two states of its source until it is compared with it."""


class UnknownEntry(IngestionError):
    """There is no quarantined row of that number."""


class LoadsFailed(IngestionError):
    """Some tables of a call could not be loaded. `failures` maps each table to its error."""

    def __init__(self, source: str, failures: dict[str, Exception]) -> None:
        # Every failure with its own text: whoever sees only the first would mend the tables one by
        # one.
        super().__init__(
            f"{len(failures)} table(s) of {source} were not loaded:\n"
            + "\n".join(f"- {table}: {error}" for table, error in failures.items())
        )
        self.failures = failures
