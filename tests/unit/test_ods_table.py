"""What running totals demand of the columns that they read."""

from __future__ import annotations

import pytest
from support.totals import CHARGES, totals_source

from softcart_assets.ingestion.errors import SchemaChanged
from softcart_assets.ingestion.sinks.ods.table import RawRows, TotalTable
from softcart_assets.ingestion.types import Column


def charged(amount: str) -> TotalTable:
    types = {
        "id": "bigint",
        "subscriber_id": "bigint",
        "amount": amount,
        "currency": "text",
        "event_at": "timestamp",
    }
    columns = {name: Column(name, "", type_) for name, type_ in types.items()}
    raw = RawRows(totals_source(), "charges", "raw_t.charges", ("id",), columns, (), CHARGES.reads)
    return TotalTable(CHARGES, raw)


def test_sums_of_floating_point_numbers_are_refused() -> None:
    """One NaN would stay in its total, whatever becomes of the row."""
    with pytest.raises(SchemaChanged, match=r"'charged' needs an integer or a decimal.*'amount'"):
        charged("double precision")
    for exact in ("bigint", "numeric(12,2)", "boolean"):
        assert charged(exact).sums == ["_rows", "amount"]
