"""What becomes of errors at the source: which may pass by themselves, and that no connection stays
open behind them.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pymongo
import pymysql
import pytest

from softcart_assets.connections import MongoConnection, MySQLConnection, ServerUnreachable
from softcart_assets.ingestion.capture import servers
from softcart_assets.ingestion.connectors.mongodb import errors as of_mongodb
from softcart_assets.ingestion.connectors.mysql import private
from softcart_assets.ingestion.connectors.mysql.dump import Dump
from softcart_assets.ingestion.connectors.mysql.session import Session, explained
from softcart_assets.ingestion.errors import (
    IngestionError,
    MissingGrant,
    SchemaChanged,
    SourceLost,
    SourceRefused,
)

HERE = MySQLConnection("X", "host", 1, "user", "", "d")
MONGO = MongoConnection("X", "mongodb://host", "d")


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (pymysql.OperationalError(1053, "Server shutdown in progress"), SourceLost),
        (pymysql.OperationalError(1205, "Lock wait timeout exceeded"), SourceLost),
        (pymysql.OperationalError(1317, "Query execution was interrupted"), SourceLost),
        (pymysql.OperationalError(2013, "Lost connection to server during query"), SourceLost),
        (pymysql.OperationalError(9001, "Max connect timeout reached"), SourceLost),  # ProxySQL
        (pymysql.InterfaceError(0, ""), SourceLost),
        (pymysql.InterfaceError(), SourceLost),
        (pymysql.ProgrammingError(1064, "You have an error in your SQL syntax"), SourceRefused),
        (pymysql.OperationalError(1194, "Table is marked as crashed"), SourceRefused),
        (pymysql.OperationalError(4161, "Unknown data type"), SourceRefused),
        (pymysql.OperationalError(1142, "SELECT command denied"), MissingGrant),
        (pymysql.ProgrammingError(1146, "Table does not exist"), SchemaChanged),
    ],
)
def test_errors_of_mysql(error: pymysql.MySQLError, kind: type[IngestionError]) -> None:
    with pytest.raises(IngestionError) as raised, explained(HERE, "raw_t/t"):
        raise error
    assert type(raised.value) is kind
    assert "raw_t/t" in str(raised.value)
    assert ("un the load again" in str(raised.value)) == (kind in (SourceLost, SchemaChanged))


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (pymongo.errors.OperationFailure("interrupted at shutdown", 11600), SourceLost),
        (pymongo.errors.CursorNotFound("cursor id not found", 43), SourceLost),
        (
            pymongo.errors.OperationFailure(
                "new one", 99999, {"errorLabels": ["RetryableReadError"]}
            ),
            SourceLost,
        ),
        (pymongo.errors.ServerSelectionTimeoutError("no servers"), SourceLost),
        (pymongo.errors.OperationFailure("unknown operator", 2), SourceRefused),
        (pymongo.errors.OperationFailure("memory limit", 292), SourceRefused),
        (pymongo.errors.ConfigurationError("server too old"), SourceRefused),
        (pymongo.errors.OperationFailure("not authorized", 13), MissingGrant),
    ],
)
def test_errors_of_mongodb(error: pymongo.errors.PyMongoError, kind: type[IngestionError]) -> None:
    with pytest.raises(IngestionError) as raised, of_mongodb.explained(MONGO, "raw_t/t"):
        raise error
    assert type(raised.value) is kind
    assert ("Run the load again" in str(raised.value)) == (kind is SourceLost)


class Failing:
    """A client of any kind whose first statement fails."""

    def __init__(self, error: Exception) -> None:
        self.error = error
        self.is_closed = False

    def close(self) -> None:
        self.is_closed = True

    _force_close = close

    def _fail(self, *_: object) -> Any:
        raise self.error

    query = command = cursor = _execute_command = _read_ok_packet = _fail

    def get_server_info(self) -> str:
        return "8.4.0"

    @property
    def admin(self) -> Failing:
        return self


SHUTDOWN = (1053, "Server shutdown in progress")


def test_a_server_that_ends_after_it_has_accepted_is_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The stream retries that. It used to end with the driver's bare error."""
    client = Failing(pymysql.OperationalError(*SHUTDOWN))
    monkeypatch.setattr(MySQLConnection, "connect", lambda *_, **__: client)
    with pytest.raises(SourceLost, match="shutdown"):
        servers.state_of(SimpleNamespace(connection=HERE))  # type: ignore[arg-type]
    assert client.is_closed
    client.is_closed = False
    with pytest.raises(SourceLost, match="shutdown"):
        Dump(HERE, 1)
    assert client.is_closed


def test_a_server_that_refuses_a_replica_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    dump = Dump.__new__(Dump)
    dump.connection, dump.where, dump.is_mariadb, dump.server_id = HERE, "MySQL", False, 1
    dump._db = Failing(pymysql.OperationalError(*SHUTDOWN))  # type: ignore[assignment]
    monkeypatch.setattr(Dump, "query", lambda *_: [("CRC32",)])
    monkeypatch.setattr(private, "send_command", lambda *_: None)
    with pytest.raises(SourceLost, match="shutdown"):
        dump.start("binlog.000001", 4, None)


def test_a_session_without_its_settings_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    client = Failing(pymysql.OperationalError(*SHUTDOWN))
    monkeypatch.setattr(MySQLConnection, "connect", lambda *_, **__: client)
    with pytest.raises(pymysql.OperationalError):
        Session(HERE)
    assert client.is_closed


def test_a_mongodb_that_does_not_answer_leaves_no_client(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that stays open looks for its servers in threads of its own, for ever."""
    client = Failing(pymongo.errors.ServerSelectionTimeoutError("no servers"))
    monkeypatch.setattr(pymongo, "MongoClient", lambda *_, **__: client)
    with pytest.raises(ServerUnreachable, match="no servers"):
        MONGO.connect()
    assert client.is_closed
