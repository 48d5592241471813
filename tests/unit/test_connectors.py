"""The registry of connectors: what each kind of source system says of itself without any server."""

from __future__ import annotations

import subprocess
import sys

import pytest

from softcart_assets.assembly import DeclarationError, assemble
from softcart_assets.connections import SettingError
from softcart_assets.ingestion import readers
from softcart_assets.ingestion.connectors import KINDS, connector
from softcart_assets.ingestion.connectors.dynamodb.reader import DynamoReader
from softcart_assets.ingestion.connectors.files.folder import FilesReader
from softcart_assets.ingestion.connectors.mongodb.reader import MongoReader
from softcart_assets.ingestion.connectors.mysql.reader import MySQLReader
from softcart_assets.ingestion.connectors.protocol import Connector
from softcart_assets.lines.model import NONE, PII, Column, Line, Privacy, Source, Table

CLIENTS = {
    "boto3",
    "botocore",
    "pymysql",
    "pymongo",
    "bson",
    "pandas",
    "pyarrow",
    "psycopg",
    "confluent_kafka",
}
DOCS = Table("docs", "", ("_id",), "incremental", (Column("_id", NONE), Column("who", PII)), "at")


def test_an_unknown_kind_is_told_with_the_known_ones() -> None:
    with pytest.raises(
        KeyError, match="no connector 'oracle'; there are mysql, mongodb, dynamodb, files, kafka"
    ):
        connector("oracle")


@pytest.mark.parametrize("kind", KINDS)
def test_a_connection_reads_just_the_settings_that_its_connector_lists(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = connector(kind)
    for setting in found.settings:
        value = "value" if setting.default is None else setting.default
        monkeypatch.setenv(f"SOFTCART_X_{setting.suffix}", value)
    secrets = [s.suffix for s in found.settings if s.is_secret]
    assert secrets
    for suffix in secrets:
        monkeypatch.setenv(f"SOFTCART_X_{suffix}", "hush")
    assert "hush" not in repr(found.connection("SOFTCART_X"))
    for setting in found.settings:
        with monkeypatch.context() as patch:
            patch.delenv(f"SOFTCART_X_{setting.suffix}")
            if setting.default is None:
                with pytest.raises(SettingError, match=f"SOFTCART_X_{setting.suffix} is not set"):
                    found.connection("SOFTCART_X")
            else:
                assert setting.default in repr(found.connection("SOFTCART_X"))


@pytest.mark.parametrize(
    "statement",
    [
        "import softcart_assets.ingestion",
        "import softcart_assets.assembly",
        "from softcart_assets.ingestion.connectors import KINDS, connector; [*map(connector, "
        "KINDS)]",
    ],
)
def test_declarations_are_read_without_client_libraries(statement: str) -> None:
    loaded = _modules_after(statement)
    assert "softcart_assets.ingestion" in loaded
    assert not loaded & CLIENTS


def test_a_constant_of_the_engine_needs_no_client_of_a_source() -> None:
    loaded = _modules_after("from softcart_assets.ingestion.bookkeeping import RAW_TABLES_LOCK")
    assert not loaded & {"pymysql", "pymongo", "bson", "pandas"}


def _modules_after(statement: str) -> set[str]:
    command = f"{statement}\nimport sys\nprint(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", command], capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


def test_each_reader_has_just_the_capabilities_of_its_system() -> None:
    optional = (
        readers.RangedReader,
        readers.KeyedReader,
        readers.CursorReader,
        readers.PairReader,
        readers.DigestReader,
        readers.ChecksumReader,
        readers.TallyReader,
        readers.SqlReader,
    )

    def capabilities(reader: type) -> set[str]:
        made = reader.__new__(reader)
        return {each.__name__ for each in optional if isinstance(made, each)}

    assert capabilities(FilesReader) == set()
    assert capabilities(MongoReader) == {"KeyedReader", "PairReader", "TallyReader"}
    assert capabilities(DynamoReader) == {"KeyedReader", "TallyReader"}
    assert capabilities(MySQLReader) == {each.__name__ for each in optional} - {"TallyReader"}


def test_what_documents_add_to_a_table() -> None:
    mongodb = connector("mongodb")
    assert mongodb.raw_key(DOCS) == ("_id", "_id_type")
    assert mongodb.privacy(DOCS, "document") is Privacy.PII
    assert mongodb.privacy(DOCS, "_id_type") is Privacy.NONE
    assert mongodb.privacy(DOCS, "found") is None
    assert mongodb.own_columns.keys() == {"_id_type", "document"}
    # Values of another type are as private as those of the field.
    assert mongodb.privacy(DOCS, "_id__text") is DOCS.privacy["_id"]
    assert mongodb.column_origins(["_id", "_id_type", "document", "who", "who__text"]) == {
        "_id": ["_id"],
        "_id_type": ["_id"],
        "document": ["_id", "who"],
        "who": ["who"],
        "who__text": ["who"],
    }
    dynamodb = connector("dynamodb")
    assert dynamodb.raw_key(DOCS) == ("_id",)
    assert dynamodb.privacy(DOCS, "document") is Privacy.PII
    assert dynamodb.privacy(DOCS, "removed_by") is Privacy.NONE
    assert dynamodb.privacy(DOCS, "who__text") is Privacy.PII
    assert dynamodb.column_origins(["_id", "who", "who__text", "document", "removed_by"]) == {
        "_id": ["_id"],
        "who": ["who"],
        "who__text": ["who"],
        "document": ["_id", "who"],
        "removed_by": [],
    }
    mysql = connector("mysql")
    assert mysql.raw_key(DOCS) == ("_id",)
    assert mysql.column_origins(["who"]) == {"who": ["who"]}


def test_a_strategy_that_the_kind_does_not_have_is_a_mistake_of_the_declaration(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(type(connector("mysql")), "strategies", Connector.strategies)
    line = Line("x", "", "team:test", sources=(Source("s", "mysql", "", (DOCS,)),))
    with pytest.raises(DeclarationError, match="declares the strategy 'incremental', which MySQL"):
        assemble([line])
