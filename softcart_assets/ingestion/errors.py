"""What can go wrong in a load, as one family of exceptions.

Each message says what happened, to which table and asset, and what to do. Nothing is raised here.
"""


class IngestionError(RuntimeError):
    """A load could not be done; nothing of the table concerned was committed."""


class MissingTable(IngestionError):
    """A declared table or collection, or a declared column of it, does not exist at the source."""


class MissingGrant(IngestionError):
    """We lack a privilege at the source; the message has the statement that grants it."""


class UnsupportedColumn(IngestionError):
    """A column's type or name cannot be carried exactly."""


class SchemaChanged(IngestionError):
    """The source's columns no longer fit the raw table and somebody has to decide."""


class SourceLost(IngestionError):
    """The source went away in the middle, or refuses a query; running the load again is safe."""


class PositionPurged(IngestionError):
    """The source's log no longer holds what comes after a position: take a new snapshot."""


class TargetFailed(IngestionError):
    """PostgreSQL or the lake refused the rows (disk full, key not unique, connection lost)."""


class TableBusy(IngestionError):
    """Another load holds the table; the message says who."""


class NotStated(IngestionError):
    """The source did not state its checksums at the last load, so there is nothing to compare raw
    with.
    """


class NotComparable(IngestionError):
    """Neither the table nor its kind of source has what a comparison of rows needs."""


class TableBehind(IngestionError):
    """The table changed at the source since it was loaded, and was not to be loaded for a
    comparison.
    """


class UnknownEntry(IngestionError):
    """There is no quarantined row of that number."""


class LoadsFailed(IngestionError):
    """Some tables of a call could not be loaded; `failures` has the error of each, by table."""

    def __init__(self, source: str, failures: dict[str, Exception]) -> None:
        super().__init__(
            f"{len(failures)} table(s) of {source} were not loaded:\n"
            + "\n".join(f"- {table}: {error}" for table, error in failures.items())
        )
        self.failures = failures
