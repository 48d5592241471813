"""What a declaration of a source consists of: plain data, no I/O, no Dagster.

The declarations themselves stand in one module per source system beside this one. Column types are not declared:
ingestion discovers them in the database's own catalog.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal


class Privacy(StrEnum):
    """How a column's content relates to a person."""

    NONE = "none"
    """Says nothing about a person."""
    PII = "pii"
    """Identifies or describes a person."""
    SENSITIVE = "sensitive"
    """Would harm a person if it leaked: pay, health, payment instruments."""


@dataclass(frozen=True)
class Table:
    """One source table or collection.

    `name`: letters, digits and `_`; unique over all sources, as the lake has one namespace. `source_name`: what the table is called
    at the source, if that is another name.
    `key`: the columns that identify a row (empty: the table has none, `incremental` cannot carry it).
    `strategy`: `snapshot` copies the whole table each time; `incremental` copies the rows past the stored position of
    `cursor`, a column that every insert and update of a row sets to the present, and finds deletions by comparing keys;
    `cdc` copies the table once and then follows MySQL's binary log, or the collection's change stream.
    `contract`: what `cdc` does when the table's columns change at the source. `evolve`: raw follows; a dropped column stays and
    is NULL in what changes from then on. `freeze`: the table stops until somebody has looked (`softcart resnapshot`).
    `quarantine`: raw's columns stay as they are, and rows with values that have no place in them go to quarantine.
    `privacy`: the class of every column (for documents: of every top-level field).
    `history`: keep every version of a row in `<table>_history` beside the current rows; feeds SCD2 dimensions.
    `lake_partition`: the timestamp column by whose month the lake's table is partitioned.
    `daily`: the timestamp column of which every day is expected to have rows, the latest full day included.
    """

    name: str
    description: str
    key: tuple[str, ...]
    strategy: Literal["snapshot", "incremental", "cdc"]
    privacy: Mapping[str, Privacy]
    cursor: str | None = None
    history: bool = False
    lake_partition: str | None = None
    daily: str | None = None
    contract: Literal["evolve", "freeze", "quarantine"] = "evolve"
    source_name: str | None = None

    @property
    def at_source(self) -> str:
        """What it is called at the source."""
        return self.source_name or self.name

    def __post_init__(self) -> None:
        """Refuse names that cannot be an asset's, and declarations that could lose rows."""
        if not re.fullmatch(r"[A-Za-z0-9_]+", self.name):
            raise ValueError(
                f"{self.name!r} cannot be the name of an asset or of a table in the lake: declare one of letters, digits and _, "
                f"with source_name={self.name!r}."
            )
        if self.strategy == "incremental" and not (self.cursor and self.key):
            raise ValueError(
                f"{self.name}: an incremental table needs a cursor and a key; declare both or use 'snapshot'."
            )
        if self.history and not self.key:
            raise ValueError(f"{self.name}: history needs a key.")


@dataclass(frozen=True)
class Source:
    """One operational database. `env_prefix` names the environment variables with its connection."""

    name: str
    kind: Literal["mysql", "mongodb"]
    env_prefix: str
    owner: str
    tables: tuple[Table, ...]

    def __post_init__(self) -> None:
        """Refuse what no source of that kind can do."""
        captured = [
            table for table in self.tables if table.strategy == "cdc" and self.kind == "mongodb"
        ]
        if wrong := [table.name for table in captured if table.key != ("_id",)]:
            raise ValueError(
                f"{self.name}: MongoDB's documents have the key '_id'; declare it for {', '.join(wrong)}."
            )
        if wrong := [table.name for table in captured if table.contract != "evolve"]:
            raise ValueError(
                f"{self.name}: documents have no columns to hold on to; {', '.join(wrong)} cannot have another contract than "
                "'evolve'. A document that does not fit the columns found so far goes to quarantine."
            )

    @property
    def schema(self) -> str:
        """The schema of its raw tables, which is also the asset key's prefix and the group's name."""
        return f"raw_{self.name}"

    def table(self, name: str) -> Table:
        """The declared table of that name; raises `KeyError` with the known names."""
        for table in self.tables:
            if table.name == name:
                return table
        raise KeyError(
            f"{self.name} declares no table {name!r}; it has {[t.name for t in self.tables]}"
        )


def classify(*, none: str = "", pii: str = "", sensitive: str = "") -> dict[str, Privacy]:
    """Privacy classes from three space-separated lists of column names."""
    classes: dict[str, Privacy] = {}
    for names, privacy in (
        (none, Privacy.NONE),
        (pii, Privacy.PII),
        (sensitive, Privacy.SENSITIVE),
    ):
        for name in names.split():
            if name in classes:
                raise ValueError(f"column {name!r} is classified twice")
            classes[name] = privacy
    return classes
