"""Looks into the folder: which files are there, which of them are complete, and what they hold.

A look is one listing. A file that was listed is read later, so reading says whether it is still the
one that was listed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from pyarrow import fs

from softcart_assets.findings import Finding
from softcart_assets.ingestion.connectors.files.content import Content, Unfinished
from softcart_assets.ingestion.connectors.files.names import (
    UNFINISHED,
    format_of,
    sequence_of,
)
from softcart_assets.ingestion.connectors.files.names import Sequence as FileSequence
from softcart_assets.ingestion.errors import NotComparable, SourceLost
from softcart_assets.ingestion.types import Batch, Column
from softcart_assets.lines.model import Source, Table
from softcart_assets.stores import FolderConnection

FILE = Column("_file", "number", "bigint", False)
LINE = Column("_line", "number", "bigint", False)


@dataclass(frozen=True)
class Found:
    """A file as it was listed: its path below the folder, and its form then."""

    name: str
    sequence: FileSequence
    bytes: int
    modified_at: datetime


@dataclass(frozen=True)
class Look:
    """The files of a table in one listing. `waiting`: each with the reason why it is left alone."""

    ready: list[Found]
    waiting: list[tuple[Found, str]]


class Vanished(Exception):
    """A file that was listed is no longer there. It was moved away, which changes nothing."""


class FilesReader:
    """Reads the files of a folder. It is listed once, when the reader is made."""

    def __init__(self, source: Source, connection: FolderConnection) -> None:
        self.source, self.connection = source, connection
        self._system, root = connection.open()
        self._root = root.rstrip("/") or "/"
        self._looked_at = datetime.now(UTC)
        with self._explained():
            infos = self._system.get_file_info(fs.FileSelector(self._root, recursive=True))
        self.listed = {
            info.path[len(self._root) :].lstrip("/"): info
            for info in infos
            if info.type == fs.FileType.File
        }

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise SourceLost(
                f"{self.source.schema}: the folder cannot be read: {error}. Nothing was committed. "
                f"Check {self.connection.prefix}_URI, then load again."
            ) from None

    def look(self, table: Table) -> Look:
        """Return the files of a table, in the order of their names."""
        ready, waiting = [], []
        for name, info in sorted(self.listed.items()):
            if sequence := sequence_of(table, _without_end(name)):
                found = Found(name, sequence, info.size, _moment(info))
                reason = self._why_unfinished(table, found)
                if reason:
                    waiting.append((found, reason))
                elif name == _without_end(name):
                    ready.append(found)
        return Look(ready, waiting)

    def _why_unfinished(self, table: Table, found: Found) -> str | None:
        """Return why a file may not be complete yet."""
        if found.name != _without_end(found.name):
            return "its name is that of a file that is still written"
        done = format_of(table).done
        folder, _, name = found.name.rpartition("/")
        if done and (marker := done.format(name=name)):
            path = f"{folder}/{marker}" if folder else marker
            if path not in self.listed:
                return f"there is no {path}, which says that it is complete"
        elif self._looked_at - found.modified_at < timedelta(
            seconds=self.connection.settle_seconds
        ):
            # Also if its time lies ahead, because another machine's clock is fast.
            return f"it was changed at {found.modified_at:%Y-%m-%d %H:%M:%S} UTC"
        # An empty file has nothing to tell, and as a correction it would delete everything.
        return None if found.bytes else "it is empty"

    @contextmanager
    def content(self, found: Found) -> Iterator[Content]:
        """Open a file. Raises `Vanished`, `Unfinished` if it changes meanwhile, or `SourceLost`."""
        try:
            with self._system.open_input_stream(
                f"{self._root}/{found.name}", compression=None
            ) as stream:
                content = Content(stream)
                yield content
                content.drain()
            info = self._system.get_file_info(f"{self._root}/{found.name}")
        except FileNotFoundError:
            raise Vanished from None
        except PermissionError as error:
            raise Unfinished(f"we may not read it ({error.strerror or error})") from None
        except OSError as error:
            raise SourceLost(
                f"{self.source.schema}: file {found.name} cannot be read: {error}. Nothing was "
                "committed. Load again."
            ) from None
        # The second look: a file that is written now is another one, or has another size than what
        # was read of it. One that was moved away was read whole.
        is_there = info.type == fs.FileType.File
        form = (info.size, _moment(info)) if is_there else (content.size, found.modified_at)
        if form != (found.bytes, found.modified_at) or content.size != found.bytes:
            raise Unfinished("it changed while it was read")

    # What every reader has.

    def columns(self, table: Table, known: Sequence[Column]) -> list[Column]:
        """Return the declared columns, and those that files had besides."""
        types = format_of(table).types
        declared = [
            Column(each.name, types.get(each.name, "text"), types.get(each.name, "text"))
            for each in table.columns
        ]
        names = {FILE.name, LINE.name, *(column.name for column in declared)}
        return [FILE, LINE, *declared, *(each for each in known if each.name not in names)]

    def position(self, table: Table) -> str:
        """Return what the listing had: number of files, last change, and a hash over all of it.

        A file that is not complete does not count. When it is, it makes the position another one.
        """
        ready = self.look(table).ready
        hashed = hashlib.sha256()
        for found in ready:
            hashed.update(f"{found.name}\0{found.bytes}\0{found.modified_at}\n".encode())
        latest = max((found.modified_at for found in ready), default=None)
        return "|".join(
            (f"{len(ready)} files", latest.isoformat() if latest else "", hashed.hexdigest()[:16])
        )

    def warnings(self, table: Table) -> list[str]:
        """Nothing: the load knows more."""
        return []

    def expected_rows(self, table: Table) -> int | None:
        """Unknown before the files are read."""
        return None

    def all_rows(
        self, table: Table, columns: Sequence[Column]
    ) -> tuple[Sequence[Column], Iterator[Batch]]:
        """Raise `NotComparable`: files that were moved away cannot be read again."""
        raise NotComparable(
            f"{self.source.schema}/{table.name}: files are not read again for a comparison, as "
            "some may have been moved away. The check `equals_source` compares raw with what the "
            f"files had. `softcart load --full {self.source.name}.{table.name}` reads those again "
            "that are there."
        )

    def reset(self) -> None:
        """Do nothing: files do not block each other."""


def _without_end(name: str) -> str:
    """Return the name that a file will have when it is complete."""
    end = next((end for end in UNFINISHED if name.endswith(end)), "")
    return name.removesuffix(end)


def _moment(info: fs.FileInfo) -> datetime:
    """Return when a file was last changed, in microseconds as PostgreSQL keeps it."""
    nanoseconds = info.mtime_ns or 0
    return datetime.fromtimestamp(nanoseconds // 1_000_000_000, UTC) + timedelta(
        microseconds=nanoseconds // 1000 % 1_000_000
    )


@contextmanager
def opened(source: Source, connection: FolderConnection) -> Iterator[list[FilesReader]]:
    """Open the one reader of a folder."""
    yield [FilesReader(source, connection)]


def examine(source: Source, connection: FolderConnection) -> Iterator[Finding]:
    """List the folder, and tell which files belong to no table."""
    with opened(source, connection) as [reader]:
        names = set(reader.listed)
        taken = {name for name in names if any(_belongs(each, name) for each in source.tables)}
        yield Finding(
            "ok", f"{connection.prefix}: reaches the folder, with {len(names):,} files in it"
        )
        # Names with such a start are of use to a program only, such as Spark's `_SUCCESS`.
        plain = {name for name in names if not name.rpartition("/")[2].startswith(("_", "."))}
        if left := sorted(plain - taken):
            yield Finding(
                "note",
                f"{connection.prefix}: no table declares the names of {len(left):,} files, such as "
                f"{left[0]}. They are left alone.",
            )


def _belongs(table: Table, name: str) -> bool:
    """Whether a file is one of the table's, or the marker of one."""
    if sequence_of(table, _without_end(name)):
        return True
    before, _, behind = (format_of(table).done or "").partition("{name}")
    folder, slash, plain = name.rpartition("/")
    if not before + behind or not (plain.startswith(before) and plain.endswith(behind)):
        return False
    return bool(
        sequence_of(table, folder + slash + plain.removeprefix(before).removesuffix(behind))
    )
