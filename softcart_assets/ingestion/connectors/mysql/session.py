"""One MySQL connection: statements, positions of its binary log, and the meaning of its errors."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress

import pymysql
from pymysql.constants import CLIENT
from pymysql.converters import encoders

from softcart_assets.connections import MySQLConnection, ServerUnreachable
from softcart_assets.ingestion.codec.textrows import TextReader
from softcart_assets.ingestion.connectors.mysql import private
from softcart_assets.ingestion.connectors.mysql.codes import is_transient
from softcart_assets.ingestion.errors import (
    IngestionError,
    MissingGrant,
    SchemaChanged,
    SourceLost,
    SourceRefused,
)
from softcart_assets.ingestion.position import Position
from softcart_assets.ingestion.types import Column


@contextmanager
def explained(connection: MySQLConnection, what: str) -> Iterator[None]:
    """Translate MySQL errors in the block into what happened, to which table, and what to do."""
    try:
        yield
    except pymysql.MySQLError as error:
        code, text = (*error.args, "", "")[:2]
        database, user = connection.database, connection.user
        if code in (1142, 1143):
            raise MissingGrant(
                f"{what}: MySQL user {user!r} may not read it ({text}). Run GRANT SELECT ON "
                f"`{database}`.* TO {user!r}."
            ) from None
        if code in (1044, 1045, 1227):
            raise MissingGrant(
                f"{what}: MySQL user {user!r} lacks a privilege ({text}). "
                f"Run GRANT REPLICATION CLIENT, REPLICATION SLAVE ON *.* TO {user!r}."
            ) from None
        # Unknown column, unknown table, and a table that was altered after the snapshot.
        if code in (1054, 1146, 1412):
            raise SchemaChanged(
                f"{what}: the table was altered while it was read ({text}). Run the load again."
            ) from None
        failed = f"{what}: MySQL at {connection.host}:{connection.port} failed ({code}: {text})."
        if not is_transient(code):
            raise SourceRefused(
                f"{failed} Nothing of it was committed. The same error comes back until its cause "
                "at the server is removed."
            ) from None
        raise SourceLost(
            f"{failed} Nothing of it was committed. Run the load again. If it persists, check the "
            f"server and {connection.prefix}_HOST, _PORT."
        ) from None


class Session:
    """One connection with neutral settings. It returns values as the bytes that MySQL sends."""

    def __init__(self, connection: MySQLConnection) -> None:
        self.connection = connection
        # No converters of values: pymysql's own change some.
        self._db = connection.connect(
            conv=encoders, use_unicode=False, client_flag=CLIENT.MULTI_STATEMENTS
        )
        self._reader: TextReader | None = None
        version: str = self._db.get_server_info()  # type: ignore[no-untyped-call]
        self.is_mariadb = "MariaDB" in version
        is_renamed = not self.is_mariadb and [*map(int, re.findall(r"\d+", version)[:2])] >= [8, 2]
        self.log_status = "SHOW BINARY LOG STATUS" if is_renamed else "SHOW MASTER STATUS"
        """The statement that tells where the binary log ends."""
        # A slow target must not make the server hang up, and no setting of the server may bend
        # values or our syntax.
        self._set_up(
            "SET SESSION sql_mode = '', sql_quote_show_create = 1, net_write_timeout = 3600, "
            "wait_timeout = 86400, "
            + ("max_statement_time = 0" if self.is_mariadb else "max_execution_time = 0")
            # A generated key is in the log in any case. Hidden from the catalog, it would be a
            # column of the log alone (MaterializeInc/materialize#25570). The comment is SQL for
            # servers that have the setting: MySQL from 8.0.30 on.
            + " /*!80030 , show_gipk_in_create_table_and_information_schema = ON */"
        )

    def _set_up(self, statement: str) -> None:
        try:
            self.query(statement)
        except BaseException:
            # Nobody else knows of the connection yet.
            self.close()
            raise

    def close(self) -> None:
        """Close the connection. This ends the snapshot, too."""
        with suppress(pymysql.MySQLError):
            self._db.close()

    def query(self, sql: str | bytes) -> list[tuple[str | None, ...]]:
        """Run a statement and return its rows as text.

        Bytes that are no characters, as in statements of the binary log, become escapes.
        """
        (rows,) = self._results(sql)
        return rows

    def several(self, *statements: str) -> list[list[tuple[str | None, ...]]]:
        """Run statements that are sent together, and return the rows of each as text."""
        return list(self._results("; ".join(statements)))

    def _results(self, sql: str | bytes) -> Iterator[list[tuple[str | None, ...]]]:
        self._check_read()
        with self._db.cursor() as cursor:
            cursor.execute(sql)
            while True:
                yield [
                    tuple(None if v is None else v.decode(errors="backslashreplace") for v in row)
                    for row in cursor.fetchall()
                ]
                if not cursor.nextset():
                    return

    def _check_read(self) -> None:
        if self._reader and self._reader.is_open:
            # pymysql would take them for the answer to the next statement.
            raise RuntimeError("the rows of the query before were not all read")

    def read(self, sql: str, columns: Sequence[Column]) -> TextReader:
        """Run a query and return a reader of its rows. They are not held on our side."""
        self._check_read()
        self._db.query(sql.encode(), unbuffered=True)
        self._reader = TextReader(private.take_rows(self._db), columns)
        return self._reader

    def finished(self) -> None:
        """Note that all rows were read."""
        self._reader = None

    def reset(self) -> None:
        """Cut off a query whose rows were not all read, so that the next one can run.

        Where that fails, the connection is closed, and the next one raises a `MySQLError`.
        """
        if self._reader:
            with suppress(pymysql.MySQLError, ServerUnreachable):
                # Reading off the rest could take hours, and the connection is busy. So another one
                # ends the query.
                with closing(self.connection.connect()) as killer:
                    number = self._db.thread_id()  # type: ignore[no-untyped-call]
                    killer.query(f"KILL QUERY {number}")
                self._reader.close()
            if self._reader.is_open:
                # pymysql would take the rest for the answer to the next statement.
                private.hang_up(self._db)
            self._reader = None

    def literal(self, value: str) -> str:
        """A text as SQL."""
        return str(self._db.escape(value))


def log_position(session: Session) -> Position:
    """Return the end of the binary log, or inside a snapshot of MariaDB the snapshot's position.

    The position belongs to this server, whatever servers came before. Raises `IngestionError` if
    the server keeps no binary log.
    """
    if session.is_mariadb:
        # MariaDB alone tells the position inside the snapshot, so no writer has to be stopped.
        status = {row[0]: row[1] for row in session.query("SHOW STATUS LIKE 'binlog_snapshot_%'")}
        file, position = status.get("Binlog_snapshot_file"), status.get("Binlog_snapshot_position")
    else:
        rows = session.query(session.log_status)
        file, position = rows[0][:2] if rows else (None, None)
    if not file or not position:
        raise no_log(session.connection)
    return Position.parse(f"{file}:{position}")


def no_log(connection: MySQLConnection) -> IngestionError:
    """Return the exception for a server that keeps no binary log."""
    return IngestionError(
        f"MySQL at {connection.host}:{connection.port} keeps no binary log, so no position can be "
        "stated. Set log_bin (and binlog_format=ROW) on the server that "
        f"{connection.prefix}_HOST names."
    )


def current_position(connection: MySQLConnection) -> Position:
    """Return the present end of the binary log."""
    with (
        explained(connection, f"database `{connection.database}`"),
        closing(Session(connection)) as session,
    ):
        return log_position(session)
