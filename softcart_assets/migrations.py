"""Schema changes of our own tables, as numbered SQL files.

A folder holds the changes of one schema: `0001_….sql`, `0002_….sql` and so on, without gaps. The
table `_migrations` in that schema has a row per applied file. It is in the schema itself, so
dropping, dumping or restoring the schema takes its version along.

`0001` creates the tables of the last release without migrations, if they are missing. So it also
takes over a database of that release, and leaves its rows alone.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import psycopg
from psycopg import sql

from softcart_assets import locks

_LOCK_SECONDS = 60

_CREATE = """
CREATE SCHEMA IF NOT EXISTS {schema};
CREATE TABLE IF NOT EXISTS {schema}._migrations (
  version    integer PRIMARY KEY,
  name       text NOT NULL,
  checksum   text NOT NULL,
  applied_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE {schema}._migrations IS
  'The schema changes that were applied here. checksum: SHA-256 of the file.';
"""


class MigrationError(RuntimeError):
    """A schema cannot be upgraded to this release. The message says why and what to do."""


@dataclass(frozen=True)
class _File:
    version: int
    name: str
    statements: str

    @property
    def checksum(self) -> str:
        return hashlib.sha256(self.statements.encode()).hexdigest()


def migrate(connection: psycopg.Connection, schema: str, folder: Path) -> None:
    """Apply the files of `folder` that `schema` does not have yet, each in its own transaction.

    Several processes may call it at any time. If there is nothing to do, it costs one query. Inside
    a transaction of the caller's, the changes commit with that transaction. Raises
    `MigrationError`, or `LockHeld` if another process migrates and does not finish.
    """
    files = _files(folder)
    # The first look needs no lock, because nearly every call finds nothing to do.
    while len(_applied(connection, schema, files)) < len(files):
        with connection.transaction():
            locks.take(
                connection,
                f"softcart migrations {schema}",
                until="transaction",
                wait_seconds=_LOCK_SECONDS,
            )
            # Again, because another process may have been faster.
            applied = _applied(connection, schema, files)
            if len(applied) < len(files):
                _apply(connection, schema, files[len(applied)])


@cache
def _files(folder: Path) -> Sequence[_File]:
    files: list[_File] = []
    for path in sorted(folder.glob("*.sql")):
        match = re.fullmatch(r"(\d{4})_\w+", path.stem)
        if not match or int(match[1]) != len(files) + 1:
            raise MigrationError(
                f"{path}: the next migration must be called {len(files) + 1:04}_<what it does>.sql."
            )
        files.append(_File(int(match[1]), path.name, path.read_text(encoding="utf-8")))
    if not files:
        raise MigrationError(f"{folder} holds no migrations. Install SoftCart again.")
    return files


def _applied(connection: psycopg.Connection, schema: str, files: Sequence[_File]) -> list[int]:
    """The applied versions. Raises `MigrationError` if they are not the first of `files`."""
    database = f"Schema {schema!r} of database {connection.info.dbname!r}"
    query = sql.SQL("SELECT version, name, checksum, applied_at FROM {} ORDER BY version")
    try:
        # A block of its own: a missing table would spoil a transaction of the caller's.
        with connection.transaction():
            rows = connection.execute(
                query.format(sql.Identifier(schema, "_migrations"))
            ).fetchall()
    except psycopg.errors.UndefinedTable:
        return []
    if len(rows) > len(files):
        raise MigrationError(
            f"{database} was upgraded by a newer release of SoftCart: {rows[-1][1]} was applied "
            f"there, and this release knows only {files[-1].name} and those before. Install the "
            "newer release, or restore a backup of the database from before the upgrade."
        )
    for (version, name, checksum, applied_at), file in zip(rows, files, strict=False):
        if (version, checksum) != (file.version, file.checksum):
            raise MigrationError(
                f"{database} has {name} applied at {applied_at:%Y-%m-%d %H:%M} UTC, and "
                f"{file.name} has other contents now. An applied migration must not change. "
                "Restore the file, and make the change in a new one."
            )
    return [version for version, *_ in rows]


def _apply(connection: psycopg.Connection, schema: str, file: _File) -> None:
    try:
        connection.execute(sql.SQL(_CREATE).format(schema=sql.Identifier(schema)))
        # Without parameters, because psycopg sends several statements in one call only then.
        connection.execute(file.statements.encode())
        connection.execute(
            sql.SQL("INSERT INTO {} (version, name, checksum) VALUES (%s, %s, %s)").format(
                sql.Identifier(schema, "_migrations")
            ),
            [file.version, file.name, file.checksum],
        )
    except psycopg.Error as error:
        raise MigrationError(
            f"{file.name} could not be applied to schema {schema!r} of database "
            f"{connection.info.dbname!r}, and "
            f"changed nothing: {str(error).strip()}"
        ) from error
