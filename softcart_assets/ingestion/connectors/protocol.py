"""What a connector offers: everything that depends on the kind of a source system.

Some of it is true of a kind without any server: its settings, and the rules for declarations. This
part is needed wherever declarations are read. So a connector's own module imports no client library
until a method needs it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, Protocol

from softcart_assets.connections import PostgresConnection
from softcart_assets.findings import Finding
from softcart_assets.ingestion.errors import IngestionError
from softcart_assets.lines.model import Privacy, Source, Table

if TYPE_CHECKING:  # these bring client libraries and Arrow along
    from softcart_assets.ingestion.readers import Reader
    from softcart_assets.ingestion.request import Call, Load

Strategy = Literal["snapshot", "incremental", "cdc"]


@dataclass(frozen=True)
class Setting:
    """One setting of a source's connection: the environment variable `<prefix>_<suffix>`.

    `default`: used if the variable is not set. None: it must be set. `is_secret`: never shown.
    `example`: a typical value, in which `{name}` stands for the source's name.
    """

    suffix: str
    description: str
    default: str | None = None
    is_secret: bool = False
    example: str = ""


TLS_SETTINGS = (
    Setting(
        "TLS_CA",
        "File with the certificates of the authorities that may vouch for the server (PEM). It "
        "turns encryption on, and a server that cannot prove its name is refused.",
        default="",
        example="/etc/ssl/certs/ca-certificates.crt",
    ),
    Setting(
        "TLS_CERT",
        "File with our own certificate, for a server that asks for one.",
        default="",
        example="/etc/softcart/client.pem",
    ),
    Setting("TLS_KEY", "File with its key.", default="", example="/etc/softcart/client-key.pem"),
    Setting(
        "TLS_VERIFY_HOST",
        "no: the certificate may be for any host. Some servers' certificates have no host's name.",
        default="",
        example="yes",
    ),
)
"""The settings of an encrypted connection, the same for every server with `_HOST`. See
`connections.Tls`.
"""


@dataclass(frozen=True)
class Changes:
    """What changed at a source: the tables, each with the position of the last change found.

    `position`: the source was examined up to here. Other tables did not change before it.
    `unchanged`: later positions of tables that did not change, from which to ask the next time. A
    kind may leave them out.
    """

    position: str
    tables: dict[str, str]
    unchanged: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ResultColumn:
    """A column of a query's result. `scale`: the digits after the decimal point of a decimal."""

    name: str
    kind: Literal["integer", "decimal", "text", "date", "timestamp", "other"]
    scale: int = 0


@dataclass(frozen=True)
class Result:
    """The result of a query. Times are in UTC, with their zone."""

    columns: Sequence[ResultColumn]
    rows: Sequence[tuple[Any, ...]]


class SourceMoment(Protocol):
    """One moment of a source's database, which can only be read.

    SQL is PostgreSQL's, over `<source>.<table>` with the declared names. Parameters are named as
    `%(name)s`. Queries raise `IngestionError`.
    """

    at: datetime

    def result(self, query: str, parameters: Mapping[str, object]) -> Result:
        """The whole result of a query."""

    def batches(
        self, query: str, parameters: Mapping[str, object], size: int
    ) -> Iterator[Sequence[tuple[Any, ...]]]:
        """The rows of a result, so many at once."""


class CannotListen(IngestionError):
    """A kind of source does not tell when tables change."""


class Connector(ABC):
    """One kind of source system.

    Methods with an argument `connection` take one that `Connector.connection` has made.
    """

    title: str
    """The system's name for people."""
    settings: tuple[Setting, ...]
    """The settings of a connection. `.env.example` lists them."""
    needs: str = ""
    """What the user and the server need, for `.env.example`. `{name}` stands for the source's
    name.
    """
    strategies: frozenset[Strategy] = frozenset({"snapshot"})
    """The load strategies that tables of this kind can have."""
    has_log: bool = False
    """Whether all tables share one log, and positions are places in it.

    Then a sensor can look on from where it stopped looking, and `capture` follows the tables of
    strategy `cdc`. Without a log, a connector that allows `cdc` brings its own `table_load` for it.
    """
    own_columns: Mapping[str, str] = {}
    """Columns that every raw table has beside the source's own, and what they mean."""
    has_schema: bool = True
    """Whether a table's columns are known before its rows are read."""
    can_report: bool = False
    """Whether a source can report about itself, by `moment`."""
    is_comparable: bool = True
    """Whether all rows can be read again at any time, to compare them with raw."""

    def problems(self, source: Source) -> Iterator[str]:
        """Yield what a declaration asks of its source that no source of this kind can do."""
        for table in source.tables:
            if table.strategy not in self.strategies:
                known = " or ".join(repr(each) for each in sorted(self.strategies))
                yield (
                    f"{table.declared_at}: table {source.name}.{table.name} declares the strategy "
                    f"{table.strategy!r}, which {self.title} does not have. Declare {known}."
                )
        if source.reported and not self.can_report:
            yield (
                f"{source.declared_at}: source {source.name!r} declares reports about itself, for "
                f"which {self.title} has no SQL. Declare extracts and dashboards of its line."
            )

    @abstractmethod
    def connection(self, prefix: str) -> Any:
        """Return a connection by the settings with this prefix, read now. Raises `SettingError`.

        Nothing is opened yet.
        """

    @abstractmethod
    def examine(self, source: Source, connection: Any) -> Iterator[Finding]:
        """Connect, and report all that keeps the source from being loaded as declared.

        Raises `ServerUnreachable`.
        """

    @abstractmethod
    def changed_tables(self, source: Source, connection: Any, since: Mapping[str, str]) -> Changes:
        """Return the tables that changed since their positions. A table without a position counts
        as changed.

        It may name a table that did not change, but never misses one that did.
        """

    def listening(
        self, source: Source, connection: Any
    ) -> AbstractContextManager[Callable[[float], Collection[str]]]:
        """Return what waits for changes, at most so many seconds, and returns the tables with the
        strategy `cdc` that may have changed, from its beginning on.

        It may miss a change: who listens asks `changed_tables`, too. Only a kind without a log that
        can tell. Raises `CannotListen`.
        """
        raise CannotListen(
            f"{self.title} does not tell when tables change, so source {source.name!r} cannot be "
            "followed without end. Let the sensor load it, or run `softcart load`."
        )

    @abstractmethod
    def readers(
        self, source: Source, connection: Any, wanted: int, epoch: int = 0
    ) -> AbstractContextManager[Sequence[Reader]]:
        """Return up to `wanted` readers that see the source as of one moment, if the system can do
        that.

        `epoch`: the epoch of the positions that they state, see `Position`.
        """

    def moment(self, source: Source, connection: Any) -> AbstractContextManager[SourceMoment]:
        """Return a session that sees one moment of the source and cannot write.

        Only if `can_report`.
        """
        raise NotImplementedError(f"{self.title} has no SQL")

    def table_load(self, call: Call, table: Table) -> Load | None:
        """Return the kind's own way to load a table. None: the engine's way."""
        return None

    def state(self, source: Source, staging: PostgresConnection) -> list[str]:
        """Return lines for people on what was read from the source, and what was not and why."""
        return []

    def raw_key(self, table: Table) -> tuple[str, ...]:
        """Return the key of the raw table: the declared key, and what else is needed to tell rows
        apart.
        """
        return table.key

    def privacy(self, table: Table, column: str) -> Privacy | None:
        """Return the privacy class of a raw column. None: nobody has classified it."""
        return table.privacy.get(column)

    def column_origins(self, columns: Iterable[str]) -> dict[str, list[str]]:
        """Return, by raw column, the source's columns from which it is made."""
        return {column: [column] for column in columns}
