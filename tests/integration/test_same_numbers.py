"""The comparison of two productions, by which a lake elsewhere proves itself."""

from __future__ import annotations

import pytest
from support.databases import database

from benchmarks.same_numbers import OF_THE_RUN, differences, digests

SALES = """
CREATE SCHEMA production;
CREATE VIEW production.fct_sales AS
SELECT * FROM (VALUES {rows}) AS v (sale_id, amount, refunded, {position});
CREATE VIEW production.dim_store AS SELECT 1 AS store_id{more}
"""
SAME = "(1, 1.10, NULL, 9), (2, 2.20, 0.5, 9)"
(POSITION,) = OF_THE_RUN


def found(rows: str = SAME, position: str = POSITION, more: str = "") -> dict[str, str]:
    with database() as postgres, postgres.connect(autocommit=True) as session:
        session.execute(SALES.format(rows=rows, position=position, more=more).encode())
        return digests(session)


@pytest.mark.usefixtures("stack")
def test_tables_and_columns_that_differ_are_named() -> None:
    first = found()
    assert len(first) == 7
    # The order of the rows is nothing, and positions may differ.
    assert not differences(first, found("(2, 2.20, 0.5, 9), (1, 1.10, NULL, 8)"))
    for rows, columns in {
        "(1, 1.10, NULL, 9), (2, 2.21, 0.5, 9)": ["amount"],
        "(1, 1.10, 0.5, 9), (2, 2.20, NULL, 9)": [],  # exchanged between two rows
        "(1, 1.10, NULL, 9)": ["amount", "refunded", "sale_id"],
    }.items():
        changed = ["fct_sales", *(f"fct_sales.{name}" for name in columns)]
        assert differences(first, found(rows)) == changed
    assert differences(first, found(more=", 'web' AS channel")) == [
        "dim_store",
        "dim_store.channel",
    ]
    assert differences(first, found(position="sold_at"))[-2:] == ["fct_sales", "fct_sales.sold_at"]
