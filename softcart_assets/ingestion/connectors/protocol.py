"""What a connector offers: everything that depends on the kind of a source system.

A connector says first what is true of its kind without any server: its settings, what a declaration
must fulfil. This part is needed wherever declarations are read, so a connector's own module imports
no client library before a method needs it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from softcart_assets.findings import Finding
from softcart_assets.lines.model import Privacy, Source, Table

if TYPE_CHECKING:  # these bring client libraries and Arrow along
    from softcart_assets.ingestion.readers import Reader
    from softcart_assets.ingestion.request import Call, Load

Strategy = Literal["snapshot", "incremental", "cdc"]


@dataclass(frozen=True)
class Setting:
    """One setting of a source's connection: the environment variable `<prefix>_<suffix>`.

    `default`: used if the variable is unset; None: it must be set. `is_secret`: never shown.
    `example`: what a value looks like; `{name}` stands for the source's name.
    """

    suffix: str
    description: str
    default: str | None = None
    is_secret: bool = False
    example: str = ""


@dataclass(frozen=True)
class Changes:
    """What changed at a source: the tables, each with the position of the last change seen.

    `position`: up to where the source was looked at. Other tables did not change up to there.
    """

    position: str
    tables: dict[str, str]


class Connector(ABC):
    """One kind of source system.

    Methods that take a `connection` take one that `connection` gave.
    """

    title: str
    """What a person calls the system."""
    settings: tuple[Setting, ...]
    """The settings of a connection; `.env.example` lists them."""
    needs: str = ""
    """What user and server need, for `.env.example`; `{name}` stands for the source's name."""
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

    def problems(self, source: Source) -> Iterator[str]:
        """What a declaration asks of its source that no source of this kind can do."""
        for table in source.tables:
            if table.strategy not in self.strategies:
                known = " or ".join(repr(each) for each in sorted(self.strategies))
                yield (
                    f"{table.declared_at}: table {source.name}.{table.name} declares the strategy "
                    f"{table.strategy!r}, which {self.title} does not have. Declare {known}."
                )

    @abstractmethod
    def connection(self, prefix: str) -> Any:
        """A connection by the settings of that prefix, read now. Raises `SettingError`.

        Nothing is opened yet.
        """

    @abstractmethod
    def examine(self, connection: Any) -> Iterator[Finding]:
        """Connect, and say whether the user may do what loads need. Raises `ServerUnreachable`."""

    @abstractmethod
    def changed_tables(self, source: Source, connection: Any, since: Mapping[str, str]) -> Changes:
        """Which tables changed since their positions; a table without one did.

        It may name a table that did not change, and never misses one that did.
        """

    @abstractmethod
    def readers(
        self, source: Source, connection: Any, wanted: int, epoch: int = 0
    ) -> AbstractContextManager[Sequence[Reader]]:
        """Up to `wanted` readers that see the source as of one moment, if the system can.

        `epoch`: of the positions that they state, if earlier ones are of another server.
        """

    def table_load(self, call: Call, table: Table) -> Load | None:
        """A way of its own to load a table; None: the engine's."""
        return None

    def raw_key(self, table: Table) -> tuple[str, ...]:
        """The key of the raw table: the declared one, and what else it takes to tell rows apart."""
        return table.key

    def privacy(self, table: Table, column: str) -> Privacy | None:
        """The privacy class of a raw column; None: nobody has classified it."""
        return table.privacy.get(column)

    def column_origins(self, columns: Iterable[str]) -> dict[str, list[str]]:
        """By raw column, the source's columns that it is made of."""
        return {column: [column] for column in columns}
