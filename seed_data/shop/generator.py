"""Makes every table of the shop and of its product catalog.

Rows depend on the parameters alone (see `seed_data.common.dice`). So each table is made
independently of the others and of the number of cores. Python makes the small tables on the driver.
Spark makes the tables that grow with the scale. `dirty` lists the mistakes on purpose.

`customers.birth_date` is text, because Parquet's dates cannot hold `0000-00-00`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor, as_completed

from pyspark.sql import DataFrame, SparkSession

from seed_data.common.dice import Dice
from seed_data.common.model import Output, documents
from seed_data.common.parameters import Parameters
from seed_data.common.words import Pools, Words, ask_faker
from seed_data.shop.organisation import Organisation, make_organisation
from seed_data.shop.parameters import ShopParameters
from seed_data.shop.products import Products, make_products
from seed_data.shop.tables.customers import Customers
from seed_data.shop.tables.sales import Sales
from seed_data.shop.tables.stock import Stock

STOCK = ("shop.inventory", "shop.inventory_movements")
SOLD = ("shop.orders", "shop.order_lines", "shop.payments", "shop.returns", *STOCK)
"""The tables that follow from sales."""

COMPUTED = ("shop.customers", "shop.addresses", *SOLD)
"""The tables that Spark computes."""

ROWS_PER_PARTITION = 250_000
"""Customers or orders per Spark task, and so per Parquet file."""


def generate(parameters: Parameters, output: Output) -> None:
    """Write the tables that the output wants."""
    sizes = ShopParameters(parameters.scale, parameters.seed, parameters.until)
    with ThreadPoolExecutor(max_workers=6, thread_name_prefix="generate") as threads:
        # Spark takes seconds to start. Meanwhile the driver makes the small tables.
        starting = threads.submit(output.spark) if output.wants(*COMPUTED) else None
        products, organisation = make_products(sizes), make_organisation(sizes)
        output.write("catalog.categories", documents(products.categories))
        output.write("catalog.products", documents(products.documents))
        output.write("shop.stores", organisation.stores)
        output.write("shop.vendors", organisation.vendors)
        output.write("shop.employees", organisation.employees)
        if starting:
            words = ask_faker(sizes.seed)
            computed = _Computed(
                sizes, output, threads, starting.result(), words, products, organisation
            )
            for job in as_completed(computed.start()):
                job.result()


class _Computed:
    """The tables that Spark computes, several at once."""

    def __init__(
        self,
        parameters: ShopParameters,
        output: Output,
        threads: ThreadPoolExecutor,
        spark: SparkSession,
        words: Words,
        products: Products,
        organisation: Organisation,
    ) -> None:
        dice = Dice(parameters.seed)
        self._parameters = parameters
        self._output = output
        self._threads = threads
        self._spark = spark
        self._pools = Pools(words)
        self._people = Customers(parameters, dice)
        self._sales = Sales(parameters, dice, self._people, products, organisation)
        self._stock = Stock(parameters, dice, products, organisation)

    def start(self) -> Iterable[Future[None]]:
        """Start a job for each wanted table."""
        spark, people, pools = self._spark, self._people, self._pools
        parts = self._partitions(self._parameters.customers)
        jobs = [
            *self._job("shop.customers", lambda: people.customers(spark, pools, parts)),
            *self._job("shop.addresses", lambda: people.addresses(spark, pools, parts)),
        ]
        if self._output.wants(*SOLD):
            jobs += self._start_sales()
        return jobs

    def _start_sales(self) -> list[Future[None]]:
        spark, sales, stock = self._spark, self._sales, self._stock
        orders = sales.sales(spark, self._partitions(self._parameters.orders))
        # Stored once, because four tables and the stock are made from it.
        sold = self._output.stored("sales", orders)
        jobs = [
            *self._job("shop.orders", lambda: sales.orders(sold)),
            *self._job("shop.order_lines", lambda: sales.order_lines(sold)),
            *self._job("shop.payments", lambda: sales.payments(sold)),
            *self._job("shop.returns", lambda: sales.returns(sold)),
        ]
        if self._output.wants(*STOCK):
            parts = self._partitions(self._parameters.stores * self._parameters.products)
            supply = self._output.stored("supply", stock.supply(spark, sold, parts))
            jobs += self._job("shop.inventory", lambda: stock.inventory(supply))
            jobs += self._job(
                "shop.inventory_movements", lambda: stock.movements(spark, sold, supply, parts)
            )
        return jobs

    def _job(self, table: str, make: Callable[[], DataFrame]) -> list[Future[None]]:
        if not self._output.wants(table):
            return []
        return [self._threads.submit(lambda: self._output.write_frame(table, make()))]

    def _partitions(self, rows: int) -> int:
        return max(self._spark.sparkContext.defaultParallelism, -(-rows // ROWS_PER_PARTITION))
