"""Every column of raw tables, the lake and aggregates has a description."""

import pytest

from softcart_assets.assembly import LINES
from softcart_assets.ingestion.described import columns, describe
from softcart_assets.lines.model import PII, Column, Source, Table
from spark.jobs import JOBS


@pytest.mark.parametrize("job", JOBS.values(), ids=JOBS)
def test_aggregates(job) -> None:
    assert job.columns.keys() == job.lineage.keys()
    assert all(job.columns.values())


@pytest.mark.parametrize("source", LINES.sources, ids=lambda source: source.name)
def test_raw_tables(source: Source) -> None:
    for table in source.tables:
        assert all(columns(source, table, is_history=table.history).values()), table.name


def test_a_column_of_documents_has_the_description_of_its_field() -> None:
    table = Table(
        "docs",
        "One row per document.",
        key=("_id",),
        strategy="snapshot",
        columns=(Column("_id", PII, "Key of the document."), Column("price", PII, "List price.")),
    )
    source = Source("catalog", "mongodb", "Documents.", tables=(table,))
    texts = describe(source, table, ["_id", "_id_type", "price", "price__text", "new", "_version"])
    assert texts["price"] == texts["price__text"] == "List price."
    assert texts["_id_type"] == "BSON type of the key in the collection."
    assert texts["new"] == ""
    assert texts["_version"].startswith("Grows with each write")
    history = describe(source, table, ["_version"], is_history=True)
    assert history["_version"].startswith("Grows with each version")
