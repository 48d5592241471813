"""A connector that can only read whole tables: loads take the other way, or say what cannot be
done.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import pyarrow as pa
import pytest

from softcart_assets.connections import PostgresConnection
from softcart_assets.findings import Finding
from softcart_assets.ingestion import connectors
from softcart_assets.ingestion.connectors.protocol import Changes, Connector
from softcart_assets.ingestion.errors import NotComparable
from softcart_assets.ingestion.load import LoadRequest
from softcart_assets.ingestion.proof.reconcile import reconcile
from softcart_assets.ingestion.proof.verify import compare
from softcart_assets.ingestion.types import Batch
from softcart_assets.ingestion.types import Column as TypedColumn
from softcart_assets.lines.model import Source, Table
from tests.support.ingestion import incremental, load_all, query, raw_rows, snapshot, source_of

Rows = dict[int, str]
COLUMNS = [TypedColumn("id", "int", "bigint", False), TypedColumn("v", "text", "text")]


class PlainReader:
    """All rows of a dict, and nothing else."""

    def __init__(self, rows: Rows) -> None:
        self.rows = dict(rows)

    def columns(self, table: Table, known: Sequence[TypedColumn]) -> list[TypedColumn]:
        return COLUMNS

    def position(self, table: Table) -> str:
        return str(hash(tuple(self.rows.items())))

    def warnings(self, table: Table) -> list[str]:
        return []

    def expected_rows(self, table: Table) -> int | None:
        return None

    def all_rows(
        self, table: Table, columns: Sequence[TypedColumn]
    ) -> tuple[Sequence[TypedColumn], Iterator[Batch]]:
        arrays = [pa.array([*self.rows], pa.int64()), pa.array([*self.rows.values()], pa.string())]
        return columns, iter([Batch(pa.RecordBatch.from_arrays(arrays, names=["id", "v"]))])

    def reset(self) -> None:
        pass


class PlainConnector(Connector):
    title = "a dict"
    settings = ()

    def connection(self, prefix: str) -> Any:
        raise NotImplementedError

    def examine(self, source: Source, connection: Any) -> Iterator[Finding]:
        raise NotImplementedError

    def changed_tables(self, source: Source, connection: Rows, since: Mapping[str, str]) -> Changes:
        at = {table.name: PlainReader(connection).position(table) for table in source.tables}
        return Changes("", {name: now for name, now in at.items() if since.get(name) != now})

    @contextmanager
    def readers(
        self, source: Source, connection: Rows, wanted: int, epoch: int = 0
    ) -> Iterator[list[PlainReader]]:
        yield [PlainReader(connection)]


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Registers the connector as the kind `plain`."""
    module = ModuleType("plain")
    module.CONNECTOR = PlainConnector()  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, f"{connectors.__name__}.plain.connector", module)
    monkeypatch.setattr(connectors, "KINDS", (*connectors.KINDS, "plain"))
    yield
    connectors.connector.cache_clear()


def test_whole_tables_are_loaded_and_compared(postgres: PostgresConnection, lake: str) -> None:
    source = source_of(snapshot("things", "id"), kind="plain")
    rows = {1: "one", 2: "two", 3: "three"}
    assert load_all(source, rows, postgres, lake)["things"].inserted == 3  # type: ignore[arg-type]
    del rows[3]
    rows |= {2: "second", 4: "four"}
    result = load_all(source, rows, postgres, lake)["things"]  # type: ignore[arg-type]
    assert (result.inserted, result.updated, result.deleted) == (1, 1, 1)
    assert raw_rows(postgres, "things") == [(1, "one"), (2, "second"), (4, "four")]
    assert not compare(source, postgres, "things").is_stated
    request = LoadRequest(source, rows, postgres, lake)
    assert reconcile(request, "things").differences == 0
    with postgres.connect() as session:
        session.execute("UPDATE raw_t.things SET v = 'other' WHERE id = 1")
        session.execute("DELETE FROM raw_t.things WHERE id = 4")
    found = reconcile(request, "things", repair=True)
    assert (found.missing, found.extra, found.differing) == (1, 0, 1)
    assert found.is_settled
    assert reconcile(request, "things").differences == 0


def test_an_incremental_table_is_read_whole_with_a_warning(
    postgres: PostgresConnection, lake: str
) -> None:
    source = source_of(incremental("things", "id", cursor="v"), kind="plain")
    load_all(source, {1: "a", 2: "b"}, postgres, lake)  # type: ignore[arg-type]
    result = load_all(source, {2: "c"}, postgres, lake)["things"]  # type: ignore[arg-type]
    assert (result.strategy, result.updated, result.deleted) == ("snapshot", 1, 1)
    assert "a dict cannot be asked for keys and cursors: all rows were read" in result.warnings


def test_a_table_without_a_key_is_loaded_and_its_comparison_refused(
    postgres: PostgresConnection, lake: str
) -> None:
    source = source_of(snapshot("things"), kind="plain")
    rows = {1: "one"}
    load_all(source, rows, postgres, lake)  # type: ignore[arg-type]
    with pytest.raises(NotComparable, match="it has no key, and a dict computes no digests"):
        reconcile(LoadRequest(source, rows, postgres, lake), "things")
    assert query(postgres, "SELECT id, v FROM raw_t.things") == [(1, "one")]
