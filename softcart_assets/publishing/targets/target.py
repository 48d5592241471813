"""What a server must offer to get what production holds. `mirror` moves the rows through it.

A product has a module beside this one, with a `Target` and a `Server`, and all of its SQL. What
moves and when is in `mirror`, which knows no product.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Protocol

import psycopg
from psycopg.sql import Composable, Identifier

from softcart_assets.publishing.contents import Point, Rows
from softcart_assets.publishing.slots import Columns, PublishError

Tell = Callable[[str], None]
Stream = Callable[[Composable], Iterator[tuple[Any, ...]]]
"""Asks production, and gives the rows a part at a time."""
Row = tuple[Any, int, int]
"""A row as the server takes it, its number, and the digest of its values."""


class InUse(PublishError):
    """Readers kept a table for so long that it could not be changed."""


@dataclass(frozen=True)
class Sums:
    """The rows of a table: as production counts them, and the sum of digests of their values."""

    rows: Rows
    digest: Decimal

    def plus(self, other: Sums) -> Sums:
        """Both added up."""
        return Sums(self.rows.plus(other.rows), self.digest + other.digest)

    def minus(self, other: Sums) -> Sums:
        """These rows without the others."""
        return Sums(self.rows.minus(other.rows), self.digest - other.digest)


@dataclass(frozen=True)
class Held:
    """What a slot holds of a published table.

    `relation`: the name of its `Relation`. `since`: the version that first showed this relation.
    `label`: the version of production's rows. `point`: the state of staging, None if unknown.
    """

    relation: str
    since: int
    label: str
    point: Point | None
    sums: Sums


@dataclass(frozen=True)
class Current:
    """The version that readers see."""

    slot: int
    version: int
    production_version: int


class Relation(Protocol):
    """A published table as the server has it. Another shape has another name."""

    @property
    def name(self) -> str:
        """Its name on the server."""

    @property
    def columns(self) -> Sequence[str]:
        """The names of the columns, as production has them."""


@dataclass(frozen=True)
class Shown:
    """What readers should see: for each table what its slot holds, and the relation of its shape.

    `readable`: the columns that the role `reader` may read. No role may if `reader` is empty.
    """

    held: Mapping[str, Held]
    relations: Mapping[str, Relation]
    readable: Mapping[str, Sequence[str]]
    reader: str


class Target(Protocol):
    """A server that the settings name."""

    @property
    def name(self) -> str:
        """What messages and assets call it."""

    @property
    def address(self) -> str:
        """A text that tells it from all others."""

    def open(self) -> AbstractContextManager[Server]:
        """The only publication to it. Raises `PublishError` or `ServerUnreachable`."""

    def explained(self, step: str) -> AbstractContextManager[None]:
        """Make a `PublishError` of a server's error, with the name of the step and what to do."""


class Server(ABC):
    """A session of the publishing user. It has two slots: readers see one of them."""

    @abstractmethod
    def relation(
        self,
        table: str,
        columns: Columns,
        key: tuple[str, ...],
        indexes: tuple[tuple[str, ...], ...],
    ) -> Relation:
        """A table of that shape. Raises `PublishError` if the server has no type for a column."""

    @abstractmethod
    def current(self) -> Current | None:
        """The version that readers see, None before the first."""

    @abstractmethod
    def contents(self) -> dict[int, dict[str, Held]]:
        """Slot → what it holds of each table."""

    @abstractmethod
    def transaction(self) -> AbstractContextManager[None]:
        """A transaction, which an error in the block takes back."""

    @abstractmethod
    def store(self, slot: int, table: str, held: Held) -> None:
        """Record what a slot holds, in the transaction that writes it."""

    @abstractmethod
    def forget(self, slot: int, table: str) -> None:
        """Record that nobody knows what a slot holds. It comes before its rows are touched."""

    @abstractmethod
    def make(self, relation: Any) -> None:
        """Make room for the rows of a relation, if there is none yet."""

    @abstractmethod
    def read(
        self, stream: Stream, view: Composable, columns: Columns, relation: Any, join: Composable
    ) -> Iterator[Row]:
        """The rows of a view of production that the join leaves."""

    @abstractmethod
    def sums_of_production(
        self, session: psycopg.Connection, view: Composable, columns: Columns, relation: Any
    ) -> Sums:
        """The sums of all rows of a view of production, as they would be on the server."""

    @abstractmethod
    def hold_keys(
        self, relation: Any, key: Sequence[str], stream: Stream, keys: Identifier
    ) -> None:
        """Take the keys of the rows that differ from a table of production's session."""

    @abstractmethod
    def sums(self, relation: Any, slot: int, key: Sequence[str] = ()) -> Sums:
        """Add up the rows of a slot. `key`: only those whose keys are held."""

    @abstractmethod
    def delete(self, relation: Any, slot: int, key: Sequence[str]) -> None:
        """Delete the rows of a slot whose keys are held."""

    @abstractmethod
    def empty(self, relation: Any, slot: int) -> None:
        """Delete all rows of a slot. Older snapshots still see them."""

    @abstractmethod
    def insert(self, relation: Any, slot: int, rows: Iterator[Any], *, commits: bool) -> None:
        """Insert rows, as `read` gives them.

        `commits`: outside a transaction of the caller's, in parts. So the server need not be able
        to take all of it back.
        """

    @abstractmethod
    def copy(self, relation: Any, slot: int, to: int) -> None:
        """Insert the rows of a slot into the other one."""

    @abstractmethod
    def switch(
        self,
        slot: int,
        version: int,
        production_version: int,
        before: Shown,
        after: Shown,
        tell: Tell,
    ) -> None:
        """Let readers see this slot from now on, all tables at one moment."""

    @abstractmethod
    def settle(self, shown: Shown, tell: Tell) -> None:
        """Do what is left after a switch to this. Does nothing where nothing is left."""

    @abstractmethod
    def drop_others(self, kept: Collection[str]) -> None:
        """Drop rows that no slot shows or holds any more. `kept`: the relations that stay."""

    @abstractmethod
    def comment(self, relation: Any, texts: dict[str, str]) -> None:
        """Write the comments that are not there yet, by column. That of the table has no name."""
