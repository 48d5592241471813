"""How many people who are customers of two lines are found, and how many of those found are two."""

from __future__ import annotations

import uuid
from collections import Counter
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import SparkSession

from seed_data.common.model import Output
from seed_data.common.parameters import Parameters
from seed_data.shop import generator as shop
from seed_data.telecom import generator as telecom
from seed_data.telecom import truth
from softcart_assets.identities.compare import SCHEMA, compare
from softcart_assets.identities.people import Customer, People, people, prior

PARAMETERS = Parameters(1, 5, datetime(2026, 3, 20, 15, 30, 12, 345678, tzinfo=UTC))


def _date(text: str | None) -> date | None:
    try:
        return date.fromisoformat(text or "")
    except ValueError:
        return None


def _records(directory: Path) -> pa.Table:
    """The customers of both lines, as `int_<line>__customer_versions` has their last versions."""
    homes = {
        row["customer_id"]: row
        for row in pq.read_table(directory / "shop.addresses").to_pylist()
        if row["is_primary"]
    }
    rows: list[dict[str, Any]] = []
    for line, table in (("shop", "shop.customers"), ("telecom", "crm.customers")):
        for row in pq.read_table(directory / table).to_pylist():
            place = homes.get(row["id"], {}) if line == "shop" else row
            rows.append(
                {name: row[name] for name in ("full_name", "email", "phone")}
                | {name: place.get(name) for name in ("city", "country_code", "postal_code")}
                | {"line": line, "customer_id": row["id"], "is_changed": True}
                | {"birth_date": _date(row["birth_date"])}
            )
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def test_precision_and_recall_against_the_truth_of_the_generator(
    spark: SparkSession, tmp_path: Path
) -> None:
    tables = ["shop.customers", "shop.addresses", "crm.customers"]
    output = Output(tmp_path, tables, lambda: spark, lambda table, path: None)
    shop.generate(PARAMETERS, output)
    telecom.generate(PARAMETERS, output)
    records = _records(tmp_path)
    births = {
        Customer(row["line"], row["customer_id"]): row["birth_date"] for row in records.to_pylist()
    }
    largest = max(Counter(customer.line for customer in births).values())
    true = {
        (row.customer_id, row.person_id) for row in truth.identities(spark, PARAMETERS).collect()
    }
    pairs = compare(records)
    rules = [pair for pair in pairs if pair.rank < 3]
    for told, believed in (("e-mail and phone", rules), ("with the model", pairs)):
        found = _found(people(births, believed, prior=prior(largest)))
        right = len(found & true)
        precision, recall = right / len(found), right / len(true)
        print(f"{told}: precision {precision:.4f}, recall {recall:.4f} of {len(true)} pairs")
    assert precision >= 0.999
    assert recall >= 0.98


def _found(who: People) -> set[tuple[int, int]]:
    """The customers of both lines who are one person."""
    groups: dict[uuid.UUID, dict[str, int]] = {}
    for customer, person in who.person_of.items():
        groups.setdefault(person, {})[customer.line] = customer.id
    return {(each["telecom"], each["shop"]) for each in groups.values() if len(each) == 2}
