"""How many people who are customers of several lines are found, and whether those found are one."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from datetime import UTC, date, datetime
from itertools import combinations
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from seed_data.common.model import Output
from seed_data.common.parameters import Parameters
from seed_data.inspire import generator as inspire
from seed_data.shop import generator as shop
from seed_data.telecom import generator as telecom
from seed_data.telecom import truth
from softcart_assets.identities.compare import SCHEMA, compare
from softcart_assets.identities.people import Customer, people, prior

PARAMETERS = Parameters(1, 5, datetime(2026, 3, 20, 15, 30, 12, 345678, tzinfo=UTC))
TABLES = {"shop": "shop.customers", "telecom": "crm.customers", "inspire": "inspire.users"}
Pairs = set[tuple[Customer, Customer]]


def _date(text: str | None) -> date | None:
    try:
        return date.fromisoformat(text or "")
    except ValueError:
        return None


def _records(directory: Path) -> pa.Table:
    """The customers of all lines, as `int_<line>__customer_versions` has their last versions."""
    homes = {
        row["customer_id"]: row
        for row in pq.read_table(directory / "shop.addresses").to_pylist()
        if row["is_primary"]
    }
    rows: list[dict[str, Any]] = []
    for line, table in TABLES.items():
        for row in pq.read_table(directory / table).to_pylist():
            # Of a deleted account, nothing is left to compare.
            if row.get("state") == "deleted":
                continue
            place = homes.get(row["id"], {}) if line == "shop" else row
            rows.append(
                {name: row[name] for name in ("full_name", "email", "phone")}
                | {name: place.get(name) for name in ("city", "country_code", "postal_code")}
                | {"line": line, "customer_id": row["id"], "is_changed": True}
                | {"birth_date": _date(row["birth_date"])}
            )
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def _pairs(members: Iterable[tuple[Any, Customer]]) -> Pairs:
    """All pairs of customers who are one person. `members`: persons with their customers."""
    groups = defaultdict(list)
    for person, customer in members:
        groups[person].append(customer)
    return {pair for group in groups.values() for pair in combinations(sorted(group), 2)}


def _truth(spark: SparkSession, known: Iterable[Customer]) -> Pairs:
    """Who is whom, by the generators. The shop numbers its customers like the people."""
    sizes = inspire.sizes_of(PARAMETERS)
    person = inspire.World(sizes, spark).users.person(F.col("id"))
    users = spark.range(1, sizes.users + 1).select("id", person.alias("person"))
    told = [
        (row.person_id, Customer("telecom", row.customer_id))
        for row in truth.identities(spark, PARAMETERS).collect()
    ]
    told += [(row.person, Customer("inspire", row.id)) for row in users.collect()]
    customers = set(known)
    told += [(customer.id, customer) for customer in customers if customer.line == "shop"]
    return _pairs(each for each in told if each[1] in customers)


def test_precision_and_recall_against_the_truth_of_the_generators(
    spark: SparkSession, tmp_path: Path
) -> None:
    tables = ["shop.addresses", *TABLES.values()]
    output = Output(tmp_path, tables, lambda: spark, lambda table, path: None)
    for line in (shop, telecom, inspire):
        line.generate(PARAMETERS, output)
    records = _records(tmp_path)
    births = {
        Customer(row["line"], row["customer_id"]): row["birth_date"] for row in records.to_pylist()
    }
    largest = max(Counter(customer.line for customer in births).values())
    true = _truth(spark, births)
    pairs = compare(records)
    rules = [pair for pair in pairs if pair.rank < 3]
    for told, believed in (("e-mail and phone", rules), ("with the model", pairs)):
        who = people(births, believed, prior=prior(largest))
        found = _pairs((person, customer) for customer, person in who.person_of.items())
        for lines in (*combinations(sorted(TABLES), 2), tuple(sorted(TABLES))):
            right, wanted, all_found = (
                len([1 for left, right in each if {left.line, right.line} <= set(lines)])
                for each in (found & true, true, found)
            )
            precision, recall = right / all_found, right / wanted
            print(f"{told}, {lines}: precision {precision:.4f}, recall {recall:.4f} of {wanted}")
    # The last are all lines with the model.
    assert precision >= 0.999
    assert recall >= 0.97
