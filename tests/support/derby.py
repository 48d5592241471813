"""Apache Derby and H2 in place of Db2, each in a Java process of its own, by JDBC.

Derby took over Db2's SQL, locks and transactions. Spark's wheel has it. H2 in its Db2 mode has
what Derby lacks, above all comments. Its DDL is in no transaction, and it locks no tables.
There is no Db2 server here.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import pyspark
from py4j.java_gateway import GatewayParameters, JavaGateway, launch_gateway
from py4j.protocol import Py4JError, Py4JJavaError

from softcart_assets import jars
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
_CATALOG = (
    "CREATE SCHEMA SYSCAT",
    "CREATE VIEW SYSCAT.TABLES AS SELECT TABLE_SCHEMA TABSCHEMA, TABLE_NAME TABNAME, REMARKS"
    " FROM INFORMATION_SCHEMA.TABLES",
    "CREATE VIEW SYSCAT.ROLES AS SELECT ROLE_NAME ROLENAME FROM INFORMATION_SCHEMA.ROLES",
    "CREATE TABLE SYSCAT.SAID (TABSCHEMA VARCHAR(128), TABNAME VARCHAR(128), COLNAME VARCHAR(128),"
    " REMARKS VARCHAR(254))",
    "CREATE VIEW SYSCAT.COLUMNS AS SELECT TABLE_SCHEMA TABSCHEMA, TABLE_NAME TABNAME, COLUMN_NAME"
    " COLNAME, S.REMARKS FROM INFORMATION_SCHEMA.COLUMNS LEFT JOIN SYSCAT.SAID S ON TABSCHEMA ="
    " TABLE_SCHEMA AND TABNAME = TABLE_NAME AND COLNAME = COLUMN_NAME",
)
"""Views of Db2's catalog that H2 lacks."""
_NO_REMARKS = "CAST(NULL AS VARCHAR(254)) AS REMARKS"
_STATES = {"42S02": "42704"}
"""States of an error in H2, and in Db2."""
_SAID = re.compile(r'COMMENT ON COLUMN "(\w+)"\."(\w+)"\."(\w+)" IS (.*)')
_DROPPED = re.compile(r'DROP VIEW "(\w+)"\."(\w+)"')
"""H2 has no comments on the columns of a view. So they are in a table, and go with the view."""
Java = TypeVar("Java", bound="Derby")


class Derby:
    """A Java process with a database."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.start()

    def _libraries(self) -> Iterable[Path]:
        return _JARS.glob("derby*.jar")

    def start(self) -> None:
        """Start it, after a kill, too."""
        port, token, self._process = launch_gateway(
            java_path=f"{home}/bin/java" if (home := os.environ.get("JAVA_HOME")) else "java",
            jarpath=str(next(_JARS.glob("py4j-*.jar"))),
            classpath=":".join(map(str, self._libraries())),
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


class H2(Derby):
    """H2, with Db2's catalog as far as it is asked for. `statements`: all that it was told."""

    def __init__(self, home: Path) -> None:
        self.statements: list[str] = []
        super().__init__(home)
        session = self.session()
        for statement in _CATALOG:
            session.run(statement)
        self.statements.clear()
        session.close()

    def _libraries(self) -> Iterable[Path]:
        return jars.fetch("h2").glob("*.jar")

    def session(self, user: str = "PUBLISHER", isolation: int = READ_COMMITTED) -> H2Session:
        """Open a session."""
        connection = self.gateway.jvm.java.sql.DriverManager.getConnection(
            "jdbc:h2:mem:db;MODE=DB2;DB_CLOSE_DELAY=-1", user, ""
        )
        connection.setAutoCommit(False)
        connection.setTransactionIsolation(isolation)
        return H2Session(connection, self.statements)


@contextmanager
def running(kind: type[Java], home: Path) -> Iterator[Java]:
    """A process with a database of its own."""
    found = kind(home)
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
        with running(Derby, home) as found:
            yield found


@dataclass(frozen=True)
class DerbyConnection:
    """See `db2.Connection`."""

    server: Derby
    schema: str
    user: str = "PUBLISHER"

    @property
    def address(self) -> str:
        """See `db2.Connection`."""
        return f"derby:{self.schema}"

    def open(self) -> DerbySession:
        """See `db2.Connection`."""
        session = self.server.session(self.user)
        session.run(f"SET SCHEMA {self.schema}")
        session.commit()
        return session


class DerbySession:
    """See `db2.Session`."""

    catalog: ClassVar = {
        "SYSCAT.ROLES V": "(SELECT ROLEID AS ROLENAME FROM SYS.SYSROLES) V",
        "SYSCAT.TABLES V": "(SELECT SCHEMANAME AS TABSCHEMA, TABLENAME AS TABNAME,"
        f" {_NO_REMARKS} FROM SYS.SYSTABLES T JOIN SYS.SYSSCHEMAS S ON S.SCHEMAID = T.SCHEMAID) V",
        "SYSCAT.COLUMNS V": "(SELECT SCHEMANAME AS TABSCHEMA, TABLENAME AS TABNAME, COLUMNNAME AS"
        f" COLNAME, {_NO_REMARKS} FROM SYS.SYSCOLUMNS JOIN SYS.SYSTABLES T ON TABLEID ="
        " REFERENCEID JOIN SYS.SYSSCHEMAS S ON S.SCHEMAID = T.SCHEMAID) V",
    }
    """Views of Db2's catalog, and what Derby has in their place."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def run(self, statement: str, *values: Any) -> None:
        """See `db2.Session`."""
        if not statement.startswith("COMMENT ON "):  # Derby has none
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
        for name, stand_in in self.catalog.items():
            question = question.replace(name, stand_in)
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


class H2Session(DerbySession):
    """See `db2.Session`. Writes down what it is told in `statements`."""

    catalog: ClassVar = {}

    def __init__(self, connection: Any, statements: list[str]) -> None:
        super().__init__(connection)
        self._statements = statements

    def run(self, statement: str, *values: Any) -> None:
        """See `db2.Session`."""
        self.many(statement, [values])
        if dropped := _DROPPED.fullmatch(statement):
            super().many(
                "DELETE FROM SYSCAT.SAID WHERE TABSCHEMA = ? AND TABNAME = ?", [dropped.groups()]
            )

    def many(self, statement: str, rows: Sequence[Sequence[Any]]) -> None:
        """See `db2.Session`."""
        self._statements.append(statement)
        if said := _SAID.fullmatch(statement):
            where = "TABSCHEMA = ? AND TABNAME = ? AND COLNAME = ?"
            super().many(f"DELETE FROM SYSCAT.SAID WHERE {where}", [said.groups()[:3]])
            super().many(
                f"INSERT INTO SYSCAT.SAID VALUES (?, ?, ?, {said[4]})", [said.groups()[:3]]
            )
        elif not statement.startswith("LOCK TABLE "):  # H2 has none
            super().many(statement, rows)

    def ask(self, question: str, *values: Any) -> Iterator[Sequence[Any]]:
        """See `db2.Session`."""
        self._statements.append(question)
        return super().ask(question, *values)


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
        raise Refused(_STATES.get(state, state), found.getMessage()) from None
    except Py4JError as error:  # the process is gone
        raise Refused("08001", str(error)) from None
