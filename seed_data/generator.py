"""Makes the seed data: every table of `schema.sql` and the collections of the catalog, as Parquet.

Rows depend on `Parameters` alone (see `dice`), so the tables are made independently of one another and of the number
of cores; small tables by Python on the driver, those that grow with the scale by Spark. What is wrong on purpose is
listed in `dirty`. Writing to the sources is the loader's part.

Tables come as `<directory>/<table>/*.parquet` with the columns of `schema.sql` (`customers.birth_date` as text,
because of `0000-00-00`); collections as `<directory>/<collection>/*.parquet` with one column `document`, MongoDB
Extended JSON.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from bson import json_util
from pyspark.sql import DataFrame, SparkSession

from seed_data.catalog import make_catalog
from seed_data.dice import Dice
from seed_data.organisation import make_organisation
from seed_data.parameters import Parameters
from seed_data.pools import Pools, ask_faker
from seed_data.tables.customers import Customers
from seed_data.tables.sales import Sales
from seed_data.tables.stock import Stock

COLLECTIONS = ("categories", "products")
"""MongoDB's part; the loader fills them in this order."""

TABLES = (
    "stores",
    "vendors",
    "employees",
    "customers",
    "addresses",
    "orders",
    "order_lines",
    "payments",
    "returns",
    "inventory",
    "inventory_movements",
)
"""MySQL's part."""

SMALL = {"stores", "vendors", "employees", *COLLECTIONS}
"""Those that Python makes on the driver."""

ROWS_PER_PARTITION = 250_000
"""Customers or orders per Spark task, and so per Parquet file."""


def generate(
    session: Callable[[], SparkSession],
    parameters: Parameters,
    directory: Path,
    *,
    only: Collection[str] = TABLES + COLLECTIONS,
    written: Callable[[str, Path], None] = lambda name, path: None,
) -> None:
    """Write the tables and collections named in `only` under `directory`, which must not hold them yet.

    `session` gives the Spark session; it is called in a thread, so that small tables need not wait for it, and not at
    all if they are all there is. `written(name, path)` is called as soon as a table is complete, from various
    threads.
    """
    unknown = set(only) - {*TABLES, *COLLECTIONS}
    if unknown:
        raise ValueError(
            f"There is no table {sorted(unknown)}; there are {', '.join(TABLES + COLLECTIONS)}."
        )
    with ThreadPoolExecutor(max_workers=6, thread_name_prefix="generate") as threads:
        starting = threads.submit(session) if not SMALL.issuperset(only) else None
        catalog, organisation = make_catalog(parameters), make_organisation(parameters)
        small = {name: getattr(organisation, name) for name in ("stores", "vendors", "employees")}
        for name in COLLECTIONS:
            small[name] = pa.table(
                {"document": [json_util.dumps(document) for document in getattr(catalog, name)]}
            )
        for name in sorted(SMALL.intersection(only)):
            (directory / name).mkdir(parents=True)
            pq.write_table(small[name], directory / name / "part-0.parquet")
            written(name, directory / name)
        if starting is None:
            return

        words, dice = ask_faker(parameters.seed), Dice(parameters.seed)
        spark = starting.result()
        pools = Pools(words)
        people = Customers(parameters, dice)
        sales = Sales(parameters, dice, people, catalog, organisation)
        stock = Stock(parameters, dice, catalog, organisation)

        def partitions(rows: int) -> int:
            return max(spark.sparkContext.defaultParallelism, -(-rows // ROWS_PER_PARTITION))

        def stored(name: str, frame: DataFrame) -> DataFrame:
            """An intermediate table, made once for several others."""
            frame.write.parquet((directory / name).as_uri())
            return spark.read.parquet((directory / name).as_uri())

        def save(name: str, make: Callable[[], DataFrame]) -> None:
            make().write.parquet((directory / name).as_uri())
            written(name, directory / name)

        jobs: list[Future[None]] = []

        def start(name: str, make: Callable[[], DataFrame]) -> None:
            if name in only:
                jobs.append(threads.submit(save, name, make))

        start("customers", lambda: people.customers(spark, pools, partitions(parameters.customers)))
        start("addresses", lambda: people.addresses(spark, pools, partitions(parameters.customers)))
        if {
            "orders",
            "order_lines",
            "payments",
            "returns",
            "inventory",
            "inventory_movements",
        }.intersection(only):
            sold = stored(_SALES, sales.sales(spark, partitions(parameters.orders)))
            start("orders", lambda: sales.orders(sold))
            start("order_lines", lambda: sales.order_lines(sold))
            start("payments", lambda: sales.payments(sold))
            start("returns", lambda: sales.returns(sold))
            if {"inventory", "inventory_movements"}.intersection(only):
                parts = partitions(parameters.stores * parameters.products)
                supply = stored(_SUPPLY, stock.supply(spark, sold, parts))
                start("inventory", lambda: stock.inventory(supply))
                start("inventory_movements", lambda: stock.movements(spark, sold, supply, parts))
        for job in as_completed(jobs):
            job.result()
    for name in (_SALES, _SUPPLY):
        shutil.rmtree(directory / name, ignore_errors=True)


_SALES, _SUPPLY = "sales", "supply"
"""Intermediate tables, removed at the end."""
