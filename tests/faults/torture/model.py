"""What a source must hold, and how it came to it, by what its writers know to be committed.

Each key is written by one writer only, so the versions of a key stand here in the order of its
commits. Values are plain Python values as `canonical` makes them of what either database returns.
Nothing here knows a database.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

Key = tuple[Any, ...]
Row = dict[str, Any]


@dataclass(frozen=True)
class Version:
    """One row event: the row's values after it, or before it if it was a deletion.

    `is_unfit`: PostgreSQL cannot hold the row; of a deletion, the row without such values is kept.
    `is_optional`: a reader may have seen it or not (a deletion within a REPLACE). `began_at`,
    `ended_at`: between these times it was committed.
    """

    row: Row
    is_deleted: bool = False
    is_unfit: bool = False
    is_optional: bool = False
    began_at: float = 0.0
    ended_at: float = 0.0


class Model:
    """The versions of every key of every table whose changes are all known, in order."""

    def __init__(self, tables: Iterable[str]) -> None:
        self.versions: dict[str, dict[Key, list[Version]]] = {
            table: defaultdict(list) for table in tables
        }

    def live(self, table: str) -> dict[Key, Row]:
        """The rows that the table must hold now."""
        return {k: v[-1].row for k, v in self.versions[table].items() if not v[-1].is_deleted}

    def unfit(self, table: str) -> set[Key]:
        """The keys of those of them that cannot be carried."""
        return {
            k for k, v in self.versions[table].items() if v[-1].is_unfit and not v[-1].is_deleted
        }


def canonical(value: Any, column: str = "") -> Any:
    """A value in the one form in which both databases' values are compared."""
    if isinstance(value, datetime) and value.tzinfo:
        return value.replace(tzinfo=None)
    if column == "bits" and isinstance(value, bytes):
        return int.from_bytes(value, "big")
    if column == "document" and isinstance(value, str):
        return json.loads(value)
    if isinstance(value, (memoryview, bytearray)):
        return bytes(value)
    return value


def canonical_row(names: Sequence[str], values: Iterable[Any]) -> Row:
    """A row as both databases' rows are compared."""
    return {name: canonical(value, name) for name, value in zip(names, values, strict=True)}


def history_error(
    found: Sequence[tuple[bool, Row]],
    versions: Sequence[Version],
    first_load: tuple[float, float],
    *,
    every_version: bool,
) -> str | None:
    """What is wrong with a key's history, oldest version first, each as (is it a deletion, values);
    None if nothing.

    With `every_version` all that was committed after the first load must be there and of what was
    before its beginning at most the last: `first_load` are the times of its first attempt's
    beginning and of its success. Without, versions may be missing (a reader that samples), but none
    may be doubled, invented or out of order, and the last must be there.
    """
    remaining = [version for version in versions if not version.is_unfit]
    older = 0
    for is_deleted, row in reversed(found):
        while remaining:
            version = remaining.pop()
            # What a sampling reader knows of a deleted row are the values that it saw last.
            if version.is_deleted == is_deleted and (
                version.row == row or (is_deleted and not every_version)
            ):
                older += version.ended_at < first_load[0]
                break
            if every_version and not version.is_optional:
                return f"{_brief(version)} is missing behind {(is_deleted, row)}"
        else:
            return f"{(is_deleted, row)} was never committed, or not there"
    if every_version:
        if older > 1:
            return f"{older} versions from before the first load"
        if lost := [v for v in remaining if not v.is_optional and v.began_at > first_load[1]]:
            return f"missing: {', '.join(map(_brief, lost))}"
        return None
    last = versions[-1]
    if last.is_deleted and found and not found[-1][0]:
        return "the deletion at the end is missing"
    if not (last.is_deleted or last.is_unfit) and (not found or found[-1] != (False, last.row)):
        return f"the last {_brief(last)} is missing"
    return None


def _brief(version: Version) -> str:
    return f"{'deletion of' if version.is_deleted else 'version'} {version.row}"
