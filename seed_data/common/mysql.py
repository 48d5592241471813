"""Loads tables into a MySQL database.

The mark of a table is its comment. One LOAD DATA statement loads a table. It reads from a named
pipe, so the load is one transaction and needs memory for one batch of rows only. The server must
allow `local_infile`.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pymysql
from pymysql.constants import CR

from seed_data.common.databases import Advance, mark_of, refusal
from seed_data.common.model import SeedError
from softcart_assets.connections import MySQLConnection
from softcart_assets.lines.model import Source, Table

BATCH_ROWS = 50_000

LOCK_SECONDS = 10
"""How long to wait for another seed. The connection of a killed one may outlive it a little."""


def statements(script: Path) -> dict[str, str]:
    """The CREATE TABLE statement of each table in a script, without its closing semicolon."""
    return {
        match[1]: match[0]
        for match in re.finditer(
            r"^CREATE TABLE `?(\w+)\b.*?(?=;$)", script.read_text(), re.MULTILINE | re.DOTALL
        )
    }


class MySQLDatabase:
    """The MySQL database of one source. Its tables are created by `script`."""

    def __init__(self, source: Source, script: Path) -> None:
        self.mark = mark_of(source)
        self._server = MySQLConnection.from_env(source.env_prefix)
        self._script = script
        self._declared = {table.at_source for table in source.tables}
        self._setting = f"{source.env_prefix}_DATABASE"
        self._name = f"{self._server.database!r} at {self._server.host}:{self._server.port}"

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Keep other seeds away. The server ends the lock with our connection."""
        connection = self._server.connect()
        try:
            # MySQL refuses names of locks with more than 64 characters.
            name = f"seed.{self._server.database}"[:64]
            if _scalar(connection, "SELECT GET_LOCK(%s, %s)", name, LOCK_SECONDS) != 1:
                raise SeedError(
                    f"Another `softcart seed` is at work in MySQL database {self._name}. "
                    "Wait until it ends."
                )
            yield
        finally:
            connection.close()

    def marks(self) -> Mapping[str, str]:
        """The comment of each existing table. Raises `SeedError` if any table is not ours."""
        with self._server.connect() as connection, connection.cursor() as cursor:
            cursor.execute(
                "SELECT table_name, table_comment FROM information_schema.tables "
                "WHERE table_schema = %s",
                (self._server.database,),
            )
            comments: dict[str, str] = dict(cursor.fetchall())
        if theirs := [name for name, text in comments.items() if not text.startswith(self.mark)]:
            raise SeedError(
                refusal(f"MySQL database {self._name} holds tables", theirs, self._setting)
            )
        return comments

    def recreate(self, tables: Collection[Table]) -> None:
        """Create these tables anew. Drop those that are no longer declared.

        With all of them, the further tables of the script are made anew. They are no source tables,
        but the program at the source needs them.
        """
        creating = self._statements(tables)
        with self._server.connect() as connection, connection.cursor() as cursor:
            if not int(_scalar(connection, "SELECT @@local_infile")):
                raise SeedError(
                    f"The MySQL server at {self._server.host}:{self._server.port} refuses bulk "
                    "loads. Start it with --local-infile=1, or run SET GLOBAL local_infile = 1."
                )
            # Tables may refer to each other, so no order would be right for all drops.
            cursor.execute("SET foreign_key_checks = 0")
            kept = self._declared - {table.at_source for table in tables}
            if kept:
                kept |= statements(self._script).keys() - self._declared
            for name in self.marks().keys() - kept:
                cursor.execute(f"DROP TABLE `{name}`")
            for statement in creating:
                cursor.execute(f"{statement} COMMENT '{self.mark}'")

    def add_further(self) -> None:
        """Make those further tables of the script that are missing, see `Database`."""
        there = self.marks().keys() | self._declared
        with self._server.connect() as connection, connection.cursor() as cursor:
            for name, statement in statements(self._script).items():
                if name not in there:
                    cursor.execute(f"{statement} COMMENT '{self.mark}'")

    def _statements(self, tables: Collection[Table]) -> list[str]:
        if not self._script.exists():
            raise SeedError(
                f"{self._script} is missing. Write the CREATE TABLE statements of its source there."
            )
        known, names = statements(self._script), [table.at_source for table in tables]
        if missing := [name for name in names if name not in known]:
            raise SeedError(
                f"{self._script} has no CREATE TABLE statement for {', '.join(missing)}. Add it."
            )
        # Some tables leave the others as they are, the further ones of the script included.
        kept = known.keys() - names if self._declared - set(names) else set()
        return [statement for name, statement in known.items() if name not in kept]

    def load(self, table: Table, directory: Path, advance: Advance) -> int:
        """Load the Parquet files of a table. Returns the number of rows.

        Raises `SeedError` if not all rows arrive.
        """
        files = sorted(directory.glob("*.parquet"))
        expected: int = sum(pq.read_metadata(file).num_rows for file in files)
        with _fed(files, directory / "pipe", advance) as feeder:
            try:
                with self._server.connect(local_infile=1) as connection:
                    self._load(connection, table.at_source, feeder, expected)
            except pymysql.MySQLError as error:
                raise SeedError(
                    f"MySQL did not load {self._server.database}.{table.at_source}: "
                    f"{error.args[-1]}"
                ) from error
        return expected

    def _load(self, connection: Any, table: str, feeder: _Feeder, expected: int) -> None:
        columns = ", ".join(f"`{name}`" for name in feeder.columns)
        with connection.cursor() as cursor:
            # This mode allows zero dates, which are part of the data. Without the checks, MariaDB
            # builds the indexes at the end, which is faster. It still finds a repeated primary key.
            cursor.execute(
                "SET sql_mode = 'STRICT_ALL_TABLES', unique_checks = 0, foreign_key_checks = 0"
            )
            try:
                cursor.execute(
                    f"LOAD DATA LOCAL INFILE %s INTO TABLE `{table}` "
                    f"CHARACTER SET utf8mb4 ({columns})",
                    (str(feeder.pipe),),
                )
            except AttributeError as error:
                # pymysql goes on writing to a connection that it has given up.
                if connection.open:
                    raise
                raise pymysql.OperationalError(
                    CR.CR_SERVER_LOST, "the server closed the connection"
                ) from error
            finally:
                feeder.end()
            if feeder.failure:
                raise feeder.failure
            # With LOCAL, the server turns errors into warnings and leaves out rows. A good load has
            # neither.
            loaded, warnings = cursor.rowcount, cursor.warning_count
            if warnings or loaded != expected:
                cursor.execute("SHOW WARNINGS LIMIT 1")
                raise SeedError(
                    f"MySQL took {loaded:,} of {expected:,} rows into "
                    f"{self._server.database}.{table}, with {warnings} warnings: "
                    f"{cursor.fetchone()}."
                )
            connection.commit()

    def complete(self, tables: Collection[Table], parameters: str) -> None:
        """Record that these tables are loaded."""
        mark = f"{self.mark} {parameters}"
        with self._server.connect() as connection, connection.cursor() as cursor:
            for table in tables:
                cursor.execute(f"ALTER TABLE `{table.at_source}` COMMENT = %s", (mark,))


def _scalar(connection: Any, query: str, *arguments: object) -> Any:
    with connection.cursor() as cursor:
        cursor.execute(query, arguments)
        return cursor.fetchone()[0]


class _Feeder(threading.Thread):
    """Writes Parquet files as text into a named pipe, from which the server reads them."""

    def __init__(self, files: list[Path], pipe: Path, advance: Advance) -> None:
        super().__init__(name=f"feed-{pipe.parent.name}")
        self.columns: list[str] = pq.read_schema(files[0]).names
        self.pipe = pipe
        self.failure: Exception | None = None
        self._files = files
        self._advance = advance

    def run(self) -> None:
        """Feed everything. A failure is kept for the loader to raise."""
        try:
            # Buffered, as a bare file may take a part of what it is given: a signal ends its write.
            with open(self.pipe, "wb") as writer:
                for file in self._files:
                    for batch in pq.ParquetFile(file).iter_batches(BATCH_ROWS):
                        writer.write(lines(batch))
                        self._advance(batch.num_rows)
        except Exception as error:
            self.failure = error

    def end(self) -> None:
        """Wait until the feeder ends.

        If the server never opened the pipe, the feeder still waits for a reader. Then we open it.
        """
        while self.is_alive():
            os.close(os.open(self.pipe, os.O_RDONLY | os.O_NONBLOCK))
            self.join(0.1)


@contextmanager
def _fed(files: list[Path], pipe: Path, advance: Advance) -> Iterator[_Feeder]:
    """The feeder, at work."""
    # A thread of its own, because LOAD DATA keeps the caller waiting until the pipe ends.
    feeder = _Feeder(files, pipe, advance)
    os.mkfifo(pipe)
    feeder.start()
    try:
        yield feeder
    finally:
        feeder.end()
        pipe.unlink()


def lines(batch: pa.RecordBatch) -> pa.Buffer:
    r"""Rows as LOAD DATA reads them by default.

    There is a tab between values and a newline after a row. `\N` is NULL. Timestamps are written
    without their zone, which is UTC.
    """
    columns = []
    for column in batch.columns:
        if pa.types.is_timestamp(column.type):
            column = column.cast(pa.timestamp("us"))
        text = column.cast(pa.large_string())
        if pa.types.is_string(column.type):
            for character, escaped in (("\\", r"\\"), ("\t", r"\t"), ("\n", r"\n")):
                text = pc.replace_substring(text, character, escaped)
        columns.append(text)
    tab, newline = pa.scalar("\t", pa.large_string()), pa.scalar("\n", pa.large_string())
    rows = pc.binary_join_element_wise(
        *columns, tab, null_handling="replace", null_replacement=r"\N"
    )
    rows = pc.binary_join_element_wise(rows, pa.scalar("", pa.large_string()), newline)
    # Arrow stores the strings of an array one behind the other, so their buffer is the text.
    return rows.buffers()[2]
