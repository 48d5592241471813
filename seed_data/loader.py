"""Brings the generator's Parquet into MySQL and MongoDB, and knows whether that was done.

Whose data a database holds is read from the database itself. In MySQL every table of ours carries a comment:
`MADE_BY` from its creation on, and behind it the seed's parameters once everything is loaded, in both databases. In
MongoDB, which has no comments, the category tree is the sign. So a seed that was killed is seen as unfinished and
made again, a finished one is left alone, and anything that we did not make is never touched.

A table is loaded by one LOAD DATA statement that reads from a named pipe: one transaction, and memory for one batch
of rows, however many there are. The server must allow `local_infile`.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import MySQLdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from bson import json_util
from pymongo.database import Database

from seed_data.catalog import categories
from seed_data.generator import COLLECTIONS, TABLES
from softcart_assets.connections import MongoConnection, MySQLConnection

MADE_BY = "SoftCart seed data"
"""The start of the comment on each of our tables."""

BATCH_ROWS = 50_000
BATCH_DOCUMENTS = 1_000

LOCK_SECONDS = 10
"""How long to wait for another seed: the connections of a killed one may last a moment longer than its process."""

Advance = Callable[[int], object]
"""Told how many more rows have been read from Parquet and handed to the server."""


class SeedError(RuntimeError):
    """The sources cannot be seeded; the message says why and what to do."""


def statements() -> dict[str, str]:
    """The CREATE TABLE statement of each table, from `schema.sql`, without its closing semicolon."""
    script = Path(__file__).with_name("schema.sql").read_text()
    return {
        match[1]: match[0]
        for match in re.finditer(
            r"^CREATE TABLE (\w+)\b.*?(?=;$)", script, re.MULTILINE | re.DOTALL
        )
    }


class Shop:
    """The MySQL database."""

    def __init__(self, server: MySQLConnection):
        self._server = server
        self._name = f"{server.database!r} at {server.host}:{server.port}"

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Keep other seeds away from this database; the server ends the lock with our connection, however that ends."""
        connection = self._server.connect()
        try:
            name = f"seed.{self._server.database}"[:64]
            if self._scalar(connection, "SELECT GET_LOCK(%s, %s)", name, LOCK_SECONDS) != 1:
                raise SeedError(
                    f"Another `softcart seed` is at work in MySQL database {self._name}; wait until it ends."
                )
            yield
        finally:
            connection.close()

    @staticmethod
    def _scalar(
        connection: MySQLdb.connections.Connection, query: str, *arguments: object
    ) -> object:
        with connection.cursor() as cursor:
            cursor.execute(query, arguments)
            return cursor.fetchone()[0]

    def comments(self) -> dict[str, str]:
        """The tables that are there, each with its comment. Raises `SeedError` if we did not make them all."""
        with self._server.connect() as connection, connection.cursor() as cursor:
            cursor.execute(
                "SELECT table_name, table_comment FROM information_schema.tables WHERE table_schema = %s",
                (self._server.database,),
            )
            comments = dict(cursor.fetchall())
        foreign = [name for name, comment in comments.items() if not comment.startswith(MADE_BY)]
        if foreign:
            raise SeedError(
                f"MySQL database {self._name} holds tables that `softcart seed` did not make ({_some(foreign)}); "
                "nothing was changed. Name an empty database in SOFTCART_SHOP_DATABASE, or go on without seeding."
            )
        return comments

    def recreate(self, tables: list[str]) -> None:
        """Drop all tables, which must be ours (`comments` says so), and create these, empty."""
        with self._server.connect() as connection, connection.cursor() as cursor:
            if not int(str(self._scalar(connection, "SELECT @@local_infile"))):
                raise SeedError(
                    f"The MySQL server at {self._server.host}:{self._server.port} refuses bulk loads. Start it with "
                    "--local-infile=1, or run SET GLOBAL local_infile = 1."
                )
            for name in self.comments():
                cursor.execute(f"DROP TABLE `{name}`")
            for name in tables:
                cursor.execute(f"{statements()[name]} COMMENT '{MADE_BY}'")

    def load(self, table: str, directory: Path, advance: Advance) -> int:
        """Load a table's Parquet files; the number of rows. All rows arrive, exactly as they are, or `SeedError`."""
        files = sorted(directory.glob("*.parquet"))
        columns = pq.read_schema(files[0]).names
        expected = sum(pq.read_metadata(file).num_rows for file in files)
        pipe = directory / "pipe"
        os.mkfifo(pipe)
        failures: list[Exception] = []

        def feed() -> None:
            try:
                with open(pipe, "wb", buffering=0) as writer:
                    for file in files:
                        for batch in pq.ParquetFile(file).iter_batches(BATCH_ROWS):
                            writer.write(lines(batch))
                            advance(batch.num_rows)
            except Exception as error:
                failures.append(error)

        feeder = threading.Thread(target=feed, name=f"feed-{table}")
        feeder.start()
        try:
            with self._server.connect(local_infile=1) as connection, connection.cursor() as cursor:
                # Zero dates are part of the data. Without checks MariaDB builds the indexes at the end; a repeated
                # primary key is found all the same.
                cursor.execute(
                    "SET sql_mode = 'STRICT_ALL_TABLES', unique_checks = 0, foreign_key_checks = 0"
                )
                try:
                    cursor.execute(
                        f"LOAD DATA LOCAL INFILE %s INTO TABLE `{table}` CHARACTER SET utf8mb4 ({', '.join(columns)})",
                        (str(pipe),),
                    )
                finally:
                    # If the server never opened the pipe, the feeder still waits for a reader: let it go.
                    os.close(os.open(pipe, os.O_RDONLY | os.O_NONBLOCK))
                    feeder.join()
                # With LOCAL the server turns errors into warnings and leaves out rows; ours has none of either.
                loaded, warnings = cursor.rowcount, connection.warning_count()
                if not failures and (warnings or loaded != expected):
                    cursor.execute("SHOW WARNINGS LIMIT 1")
                    raise SeedError(
                        f"MySQL took {loaded:,} of {expected:,} rows into {self._server.database}.{table}, with "
                        f"{warnings} warnings: {cursor.fetchone()}."
                    )
                if not failures:
                    connection.commit()
        except MySQLdb.Error as error:
            raise SeedError(
                f"MySQL did not load {self._server.database}.{table}: {error.args[-1]}"
            ) from error
        finally:
            pipe.unlink()
        if failures:
            raise failures[0]
        return expected

    def complete(self, tables: list[str], parameters: str) -> None:
        """Record that everything is loaded."""
        with self._server.connect() as connection, connection.cursor() as cursor:
            for table in tables:
                cursor.execute(f"ALTER TABLE `{table}` COMMENT = %s", (f"{MADE_BY} {parameters}",))


def lines(batch: pa.RecordBatch) -> pa.Buffer:
    r"""Rows as LOAD DATA reads them by default: a tab between values, a newline after a row, `\N` for NULL.

    Timestamps are written without their zone, which is UTC.
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
    # The strings of an array lie one behind the other: together they are the file.
    return rows.buffers()[2]


class CatalogDatabase:
    """The MongoDB database."""

    def __init__(self, server: MongoConnection):
        self._server = server

    @contextmanager
    def _open(self) -> Iterator[Database]:
        with self._server.connect() as client:
            yield client[self._server.database]

    def is_filled(self) -> bool:
        """Whether all our collections have documents. Raises `SeedError` if any collection or its tree is not ours."""
        tree = {(document["_id"], document["name"]) for document in categories()}
        with self._open() as database:
            filled = {
                name
                for name in database.list_collection_names()
                if database[name].find_one({}, {"_id": 1})
            }
            theirs = filled - set(COLLECTIONS)
            found = {
                (document["_id"], document.get("name"))
                for document in database.categories.find({}, {"name": 1}).limit(1000)
            }
        if not found <= tree or ("products" in filled and not found):
            theirs |= filled
        if theirs:
            raise SeedError(
                f"MongoDB database {self._server.database!r} holds collections that `softcart seed` did not make "
                f"({_some(theirs)}); nothing was changed. Name an empty database in SOFTCART_CATALOG_DATABASE, or go "
                "on without seeding."
            )
        return filled == set(COLLECTIONS)

    def clear(self) -> None:
        """Drop our collections, the tree last: while there are products, it says whose they are."""
        with self._open() as database:
            for name in reversed(COLLECTIONS):
                database.drop_collection(name)

    def load(self, collection: str, directory: Path, advance: Advance) -> int:
        """Insert a collection's documents and index their `updated_at`; the number of documents."""
        count = 0
        with self._open() as database:
            for file in sorted(directory.glob("*.parquet")):
                for batch in pq.ParquetFile(file).iter_batches(BATCH_DOCUMENTS):
                    database[collection].insert_many(
                        [json_util.loads(text) for text in batch.column(0).to_pylist()]
                    )
                    count += batch.num_rows
                    advance(batch.num_rows)
            database[collection].create_index("updated_at")
        return count


def _some(names: set[str] | list[str]) -> str:
    shown = sorted(names)[:5]
    return ", ".join(shown) + (", …" if len(names) > len(shown) else "")


__all__ = [
    "COLLECTIONS",
    "MADE_BY",
    "TABLES",
    "CatalogDatabase",
    "SeedError",
    "Shop",
    "lines",
    "statements",
]
