"""The columns of dbt models and where they come from."""

from __future__ import annotations

from pathlib import Path

import pytest

from softcart_assets.components import model_columns
from softcart_assets.components.model_columns import column_types, kept_lineage, query_lineage
from softcart_assets.connections import PostgresConnection

COLUMNS = {("raw", "a"): ["id", "price", "name"], ("raw", "b"): ["id", "price"]}


def test_every_column_leads_to_the_columns_of_its_values() -> None:
    query = """
    with lines as (select a.id, a.price * b.price as amount, upper(name) as label
                   from "db"."raw"."a" as a join "db"."raw"."b" as b on a.id = b.id)
    select lines.*, count(*) over () as n, (select max(price) from "db"."raw"."b") as highest
    from lines where amount > 0
    union all
    select id, price, null, 0, 0 from "db"."raw"."b"
    """
    assert query_lineage(query, COLUMNS) == {
        "id": [("raw", "a", "id"), ("raw", "b", "id")],
        "amount": [("raw", "a", "price"), ("raw", "b", "price")],
        "label": [("raw", "a", "name")],
        "n": [],
        "highest": [("raw", "b", "price")],
    }


def test_a_lineage_is_kept_until_the_query_or_a_table_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    traced = []

    def counted(query: str, *others: object) -> model_columns.Origins:
        traced.append(query)
        return query_lineage(query, *others)  # type: ignore[arg-type]

    monkeypatch.setattr(model_columns, "query_lineage", counted)
    file = tmp_path / "lineage" / "m.json"
    first = "select * from raw.a"
    for query, columns, times in (
        (first, ["id", "price"], 1),
        (first, ["id", "price"], 1),
        (first, ["id"], 2),
        ("select id from raw.a", ["id"], 3),
        # The marks of an incremental model are other numbers in each run.
        ("select id from raw.a where id > 7", ["id"], 4),
        ("select id from raw.a where id > 12", ["id"], 4),
    ):
        found = kept_lineage(query, {("raw", "a"): columns}, file)
        assert found == {name: [("raw", "a", name)] for name in columns}
        assert len(traced) == times
    assert [path.name for path in file.parent.iterdir()] == ["m.json"]


def test_columns_of_all_tables_are_read_with_one_query(postgres: PostgresConnection) -> None:
    with postgres.connect(autocommit=True) as session:
        session.execute('CREATE TABLE "Odd name" (b numeric(12,2), "A" varchar(3)[], gone int)')
        session.execute('ALTER TABLE "Odd name" DROP COLUMN gone')
        session.execute('CREATE VIEW v AS SELECT b AS "x,y" FROM "Odd name"')
        tables = [("public", "Odd name"), ("public", "v"), ("public", "missing")]
        found = column_types(session, tables)
        assert column_types(session, []) == {}
    assert found == {
        ("public", "Odd name"): {"b": "numeric(12,2)", "A": "character varying(3)[]"},
        ("public", "v"): {"x,y": "numeric(12,2)"},
    }
