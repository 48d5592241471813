"""Apache Derby in place of Db2, whose SQL and locks it took over. Spark's wheel has it.

It runs in a Java process of its own, by JDBC. There is no Db2 server here.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyspark
from py4j.java_gateway import GatewayParameters, JavaGateway, launch_gateway
from py4j.protocol import Py4JError, Py4JJavaError

from softcart_assets.connections import Db2Connection
from softcart_assets.publishing.targets.db2 import Refused
from softcart_assets.publishing.targets.db2_driver import Driver

_JARS = Path(pyspark.__file__).parent / "jars"
_BLOB = 2004
PREFIX = "DB2_TEST"
"""That of the settings of a real Db2. Others are removed from the environment of tests."""
logging.getLogger("py4j").setLevel(logging.CRITICAL)  # it logs each error that it raises
READ_COMMITTED, REPEATABLE_READ = 2, 4
"""What Db2 calls CURSOR STABILITY and READ STABILITY."""


class Derby:
    """A Java process with a database."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.start()

    def start(self) -> None:
        """Start it, after a kill, too."""
        port, token, self._process = launch_gateway(
            java_path=f"{home}/bin/java" if (home := os.environ.get("JAVA_HOME")) else "java",
            jarpath=str(next(_JARS.glob("py4j-*.jar"))),
            classpath=":".join(map(str, _JARS.glob("derby*.jar"))),
            javaopts=[
                "-Xmx256m",
                f"-Dderby.system.home={self.home}",
                "-Dderby.database.sqlAuthorization=true",
                "-Dderby.locks.waitTimeout=2",
                "-Dderby.locks.deadlockTimeout=1",
            ],
            die_on_exit=True,
            enable_auth=True,
            return_proc=True,
        )
        # Without the last one, each object that Python forgets is told to Java, dead or not.
        parameters = GatewayParameters(port=port, auth_token=token, enable_memory_management=False)
        self.gateway = JavaGateway(gateway_parameters=parameters)

    def kill(self) -> None:
        """End it at once, like a machine that loses its power."""
        self._process.kill()
        self._process.wait()
        self.gateway.close()

    def session(self, user: str = "PUBLISHER", isolation: int = READ_COMMITTED) -> DerbySession:
        """Open a session."""
        connection = self.gateway.jvm.java.sql.DriverManager.getConnection(
            f"jdbc:derby:db;create=true;user={user}"
        )
        connection.setAutoCommit(False)
        connection.setTransactionIsolation(isolation)
        return DerbySession(connection)

    def connection(self, schema: str) -> DerbyConnection:
        """The way to a schema."""
        return DerbyConnection(self, schema)


@contextmanager
def derby(home: Path) -> Iterator[Derby]:
    """A running one."""
    found = Derby(home)
    try:
        yield found
    finally:
        found.kill()


class RealDb2:
    """A Db2 server of somebody's own, in place of Derby."""

    def session(self, user: str = "", isolation: int = READ_COMMITTED) -> Any:
        """Open a session."""
        found = self.connection("").open()
        found.run(f"SET CURRENT ISOLATION {'RS' if isolation == REPEATABLE_READ else 'CS'}")
        found.commit()
        return found

    def connection(self, schema: str) -> Driver:
        """The way to a schema."""
        named = Db2Connection.from_env(PREFIX)
        return Driver(replace(named, schema=schema or named.schema))


@contextmanager
def db2_or_derby(home: Path) -> Iterator[Derby | RealDb2]:
    """The server that the settings name, or Derby."""
    if os.environ.get(f"{PREFIX}_HOST"):
        yield RealDb2()
    else:
        with derby(home) as found:
            yield found


@dataclass(frozen=True)
class DerbyConnection:
    """See `db2.Connection`."""

    server: Derby
    schema: str

    @property
    def address(self) -> str:
        """See `db2.Connection`."""
        return f"derby:{self.schema}"

    def open(self) -> DerbySession:
        """See `db2.Connection`."""
        session = self.server.session()
        session.run(f"SET SCHEMA {self.schema}")
        session.commit()
        return session


class DerbySession:
    """See `db2.Session`."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def run(self, statement: str, *values: Any) -> None:
        """See `db2.Session`."""
        self.many(statement, [values])

    def many(self, statement: str, rows: Sequence[Sequence[Any]]) -> None:
        """See `db2.Session`."""
        with refusals():
            prepared = self._connection.prepareStatement(statement)
            for row in rows:
                _fill(prepared, row)
                prepared.addBatch()
            prepared.executeBatch()
            prepared.close()

    def ask(self, question: str, *values: Any) -> Iterator[Sequence[Any]]:
        """See `db2.Session`."""
        with refusals():
            prepared = self._connection.prepareStatement(question)
            _fill(prepared, values)
            found = prepared.executeQuery()
            described = found.getMetaData()
            read = [
                found.getBytes if described.getColumnType(place) == _BLOB else found.getString
                for place in range(1, described.getColumnCount() + 1)
            ]
            while found.next():
                yield [each(place) for place, each in enumerate(read, 1)]
            prepared.close()

    def commit(self) -> None:
        """See `db2.Session`."""
        with refusals():
            self._connection.commit()

    def rollback(self) -> None:
        """See `db2.Session`."""
        with refusals():
            self._connection.rollback()

    def close(self) -> None:
        """See `db2.Session`."""
        with refusals():
            self._connection.rollback()
            self._connection.close()


def _fill(prepared: Any, values: Sequence[Any]) -> None:
    for place, value in enumerate(values, 1):
        if value is None:
            prepared.setNull(place, prepared.getParameterMetaData().getParameterType(place))
        elif isinstance(value, bytes):
            prepared.setBytes(place, value)
        else:
            prepared.setString(place, str(value))


@contextmanager
def refusals() -> Iterator[None]:
    """Make `Refused` of the errors of JDBC, and of a server that is gone."""
    try:
        yield
    except Py4JJavaError as error:
        found = error.java_exception
        state = found.getSQLState() if hasattr(found, "getSQLState") else "58000"
        while found.getClass().getSimpleName() == "BatchUpdateException" and (
            after := found.getNextException()
        ):
            found = after
            state = found.getSQLState()
        raise Refused(state, found.getMessage()) from None
    except Py4JError as error:  # the process is gone
        raise Refused("08001", str(error)) from None
