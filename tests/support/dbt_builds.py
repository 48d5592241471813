"""The dbt project on a real PostgreSQL: raw tables written as ingestion writes them, and builds."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import psycopg
from dbt.cli.main import dbtRunner
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from seed_data.common.mysql import statements
from softcart_assets.connections import PostgresConnection
from softcart_assets.dbt import name_flags_at_once
from softcart_assets.ingestion import bookkeeping
from softcart_assets.lines.model import Line, Source, Table
from softcart_assets.paths import REPOSITORY

_TYPES = {
    "BIGINT UNSIGNED": "numeric(20,0)",
    "INT UNSIGNED": "bigint",
    "SMALLINT UNSIGNED": "integer",
    "BIGINT": "bigint",
    "INT": "integer",
    "TINYINT": "smallint",
    "TINYINT(1)": "smallint",
    "DATETIME(6)": "timestamp",
    "DATE": "date",
}
_OURS = (
    "_deleted boolean NOT NULL, _loaded_at timestamptz NOT NULL, _position text NOT NULL DEFAULT ''"
)
_NUMBERED = "_version bigint NOT NULL DEFAULT nextval('ingestion.versions')"
_VERSION = "_committed_at timestamptz, _version bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY"


def _type(kind: str) -> str:
    return _TYPES.get(kind) or (kind.replace("DECIMAL", "numeric") if "DECIMAL" in kind else "text")


class Raw:
    """The raw tables of a line in a staging database, written as ingestion writes them."""

    def __init__(self, session: psycopg.Connection, line: Line, loaded_at: datetime) -> None:
        self.session = session
        self.line = line
        self.loaded_at = loaded_at
        self.committed_at: datetime | None = None  # The log was not read.

    def create(self) -> None:
        """Create every declared raw table, empty; MySQL's types as the ingestion engine maps
        them.
        """
        for source in self.line.sources:
            bookkeeping.prepare(self.session, source.schema)
            for table in source.tables:
                columns, key = (
                    "_id text, _id_type text DEFAULT 'string', document jsonb",
                    "_id, _id_type",
                )
                if table.format:
                    types = {"_file": "bigint", "_line": "bigint", **table.format.types}
                    names = ("_file", "_line", *(column.name for column in table.columns))
                    columns = ", ".join(f"{name} {types.get(name, 'text')}" for name in names)
                    key = ", ".join(table.key)
                elif source.kind == "mysql":
                    columns, key = self._columns(source, table), ", ".join(table.key)
                elif source.kind == "dynamodb":
                    key = ", ".join(table.key)
                    columns = f"{key} text, document jsonb, removed_by text"
                self.session.execute(
                    f"CREATE TABLE {source.schema}.{table.name} ({columns}, {_OURS}, {_NUMBERED}, "
                    f"PRIMARY KEY ({key}))"
                )
                if table.history:
                    self.session.execute(
                        f"CREATE TABLE {source.schema}.{table.name}_history ({columns}, {_OURS}, "
                        f"{_VERSION})"
                    )

    def _columns(self, source: Source, table: Table) -> str:
        script = REPOSITORY / "seed_data" / self.line.name / f"{source.name}.sql"
        body = statements(script)[table.name]
        found = re.findall(
            r"^  ([a-z]\w*) +([A-Z]+(?:\([^)]*\))?(?: UNSIGNED)?)", body, re.MULTILINE
        )
        return ", ".join(f"{name} {_type(kind)}" for name, kind in found)

    def put(self, name: str, *rows: dict[str, Any], deleted: bool = False) -> None:
        """Load new forms of rows of the table `name`; every row needs its whole content."""
        [source] = [s for s, table in self.line.tables() if table.name == name]
        self._write(source, name, source.table(name).key, rows, deleted)

    def put_documents(self, name: str, *documents: dict[str, Any], deleted: bool = False) -> None:
        """Load new forms of documents of the collection `name`."""
        [source] = [s for s, table in self.line.tables() if table.name == name]
        rows = [
            {
                "_id": str(document["_id"]),
                "_id_type": "string" if isinstance(document["_id"], str) else "int",
                "document": Jsonb(document),
            }
            for document in documents
        ]
        self._write(source, name, ("_id", "_id_type"), rows, deleted)

    def _write(self, source, name: str, key: tuple[str, ...], rows, deleted: bool) -> None:
        for row in rows:
            values = {**row, "_deleted": deleted, "_loaded_at": self.loaded_at}
            columns, places = ", ".join(values), ", ".join(f"%({column})s" for column in values)
            row_sql = f"({columns}) VALUES ({places})"
            self.session.execute(
                f"INSERT INTO {source.schema}.{name} {row_sql} "
                f"ON CONFLICT ({', '.join(key)}) DO UPDATE SET ({columns}, _version) = "
                f"ROW ({places}, EXCLUDED._version)",
                values,
            )
            if source.table(name).history:
                self.session.execute(
                    f"INSERT INTO {source.schema}.{name}_history ({columns}, _committed_at) "
                    f"VALUES ({places}, %(committed_at)s)",
                    values | {"committed_at": self.committed_at},
                )


class Warehouse:
    """The database under test, the parsed project, and what the builds left behind."""

    def __init__(
        self,
        server: PostgresConnection,
        folder: Path,
        project: Path,
        facts: Mapping[str, str] | None = None,
    ) -> None:
        self.server = server
        self._facts = facts or {}
        self.folder = folder
        self.project = project
        self.manifest = self._invoke(dbtRunner(), "parse")
        self.incremental: list[dict[str, list]] = []
        self.refreshed: list[dict[str, list]] = []
        self.written_again: list[int] = []

    def _invoke(self, runner: dbtRunner, *arguments: str):
        folders = {"project": self.project, "profiles": self.project}
        options = [text for name, path in folders.items() for text in (f"--{name}-dir", str(path))]
        options += [
            "--target-path",
            str(self.folder / "target"),
            "--log-path",
            str(self.folder / "logs"),
            "--quiet",
        ]
        name_flags_at_once()
        result = runner.invoke([*arguments, *options])
        if result.exception:
            raise result.exception
        return result.result

    def dbt(self, *arguments: str):
        """Results of a dbt command by the name of the node."""
        results = self._invoke(dbtRunner(manifest=self.manifest), *arguments).results
        return {result.node.name: result for result in results}

    def build(self, *arguments: str) -> None:
        """`dbt build` with unit tests; fails the test on anything but success."""
        bad = {
            name: f"{r.status}: {r.message}"
            for name, r in self.dbt("build", *arguments).items()
            if r.status not in ("success", "pass")
        }
        assert not bad

    def query(self, text: str) -> list[tuple]:
        with self.server.connect() as session:
            return session.execute(text).fetchall()

    def facts(self) -> dict[str, list[dict]]:
        with self.server.connect(row_factory=dict_row) as session:
            return {
                fact: session.execute(f"SELECT * FROM warehouse.{fact} ORDER BY {key}").fetchall()
                for fact, key in self._facts.items()
            }

    def note_facts(self) -> None:
        """Keep the facts as they are, and as a full refresh makes them."""
        self.incremental.append(self.facts())
        self.dbt("run", "--full-refresh", "--select", *self._facts)
        self.refreshed.append(self.facts())

    def create(self, name: str, template: str) -> None:
        """Create database `name`, in place of what had that name, as a copy of `template`."""
        with replace(self.server, database="postgres").connect(autocommit=True) as admin:
            admin.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
            admin.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
