"""Makes every table of the mobile operator.

Rows depend on the parameters alone (see `seed_data.common.dice`). Subscribers are computed month by
month first. Events follow from the months, charges from the events, bills from the charges.
`shares` lists the mistakes on purpose.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, as_completed

from pyspark.sql import DataFrame, SparkSession

from seed_data.common.dice import Dice
from seed_data.common.model import Output
from seed_data.common.parameters import Parameters
from seed_data.common.words import Pools, ask_faker
from seed_data.telecom.billing import Billing
from seed_data.telecom.care import Care
from seed_data.telecom.catalogue import agents, plans, tariffs, working_agents
from seed_data.telecom.customers import Customers
from seed_data.telecom.parameters import TelecomParameters
from seed_data.telecom.rating import Rating
from seed_data.telecom.rhythm import Rhythm
from seed_data.telecom.roaming import Roaming
from seed_data.telecom.subscribers import Subscribers
from seed_data.telecom.usage import Usage

BILLED = tuple(
    f"billing.{name}"
    for name in ("invoice_lines", "invoices", "payments", "disputes", "adjustments")
)
RATED = ("charging.charges", "charging.top_ups", "charging.balances", *BILLED)
"""The tables that follow from charges."""

COMPUTED = (
    *("signaling.call_records", "signaling.sms_records", "signaling.data_sessions"),
    *("crm.customers", "crm.subscribers", "crm.subscriptions", "crm.sales"),
    *("crm.interactions", "crm.complaints"),
    *("billing.accounts", "billing.bill_cycles", "billing.credit_limits"),
    "roaming.records",
    *RATED,
)
"""The tables that Spark computes."""

SUBSCRIBERS_PER_PARTITION = 5_000
"""Subscribers per Spark task, and so per Parquet file."""


def sizes_of(parameters: Parameters) -> TelecomParameters:
    """The parameters with the sizes of this line."""
    return TelecomParameters(parameters.scale, parameters.seed, parameters.until)


def generate(parameters: Parameters, output: Output) -> None:
    """Write the tables that the output wants."""
    sizes = sizes_of(parameters)
    with ThreadPoolExecutor(max_workers=6, thread_name_prefix="generate") as threads:
        output.write("crm.plans", plans())
        output.write("crm.agents", agents(sizes))
        output.write("charging.tariffs", tariffs(sizes))
        if output.wants(*COMPUTED):
            world = World(sizes, output.spark())
            months = output.stored("months", world.months())
            tables = world.tables(months, output, threads)
            for job in as_completed(list(tables)):
                job.result()


class World:
    """Everything that Spark computes for one seed."""

    def __init__(self, parameters: TelecomParameters, spark: SparkSession) -> None:
        dice, pools = Dice(parameters.seed), Pools(ask_faker(parameters.seed))
        self._spark = spark
        self._rhythm = Rhythm(parameters, dice)
        self._agents = working_agents(parameters)
        self.subscribers = Subscribers(parameters, dice, pools, self._rhythm)
        self._customers = Customers(parameters, dice, pools, self.subscribers)
        self._usage = Usage(parameters, dice, self._rhythm)
        self._roaming = Roaming(parameters, dice, self._rhythm)
        self._rating = Rating(parameters, dice, self._usage)
        self._billing = Billing(parameters, dice)
        self._care = Care(parameters, dice, self._rhythm, self._usage, self._agents)
        self._partitions = max(
            spark.sparkContext.defaultParallelism,
            -(-parameters.subscribers // SUBSCRIBERS_PER_PARTITION),
        )

    def months(self) -> DataFrame:
        """One row per subscriber and month, see `Subscribers.months`."""
        return self.subscribers.months(self._spark, self._partitions)

    def tables(
        self, months: DataFrame, output: Output, threads: ThreadPoolExecutor
    ) -> Iterator[Future[None]]:
        """Start a job for each wanted table. `months` are stored."""
        last, agents = months.where("is_last"), self._agents
        subscribers, usage, billing, care = (
            self.subscribers,
            self._usage,
            self._billing,
            self._care,
        )
        plain: dict[str, Callable[[], DataFrame]] = {
            "signaling.call_records": lambda: usage.call_records(months),
            "signaling.sms_records": lambda: usage.sms_records(months),
            "signaling.data_sessions": lambda: usage.data_sessions(months),
            "roaming.records": lambda: self._roaming.files(months),
            "crm.customers": lambda: self._customers.customers(self._spark, self._partitions),
            "crm.subscribers": lambda: subscribers.subscribers(last),
            "crm.subscriptions": lambda: subscribers.subscriptions(last, agents),
            "crm.sales": lambda: subscribers.sales(last, agents),
            "crm.interactions": lambda: care.interactions(months),
            "crm.complaints": lambda: care.complaints(months),
            "billing.accounts": lambda: billing.accounts(last),
            "billing.bill_cycles": lambda: billing.bill_cycles(last),
            "billing.credit_limits": lambda: billing.credit_limits(last),
        }

        def start(tables: dict[str, Callable[[], DataFrame]]) -> list[Future[None]]:
            def write(table: str) -> Future[None]:
                return threads.submit(lambda: output.write_frame(table, tables[table]()))

            return [write(table) for table in tables if output.wants(table)]

        yield from start(plain)
        if not output.wants(*RATED):
            return
        rating = self._rating
        rated = output.stored("rated", rating.rated(months, last))
        yield from start(
            {
                "charging.charges": lambda: rating.charges(rated),
                "charging.top_ups": lambda: rating.top_ups(rated),
                "charging.balances": lambda: rating.balances(rated, last),
            }
        )
        if not output.wants(*BILLED):
            return
        lines = output.stored("lines", billing.lines(rated))
        bills = output.stored("bills", billing.bills(lines))
        yield from start(
            {
                "billing.invoice_lines": lambda: billing.invoice_lines(lines),
                "billing.invoices": lambda: billing.invoices(bills),
                "billing.payments": lambda: billing.payments(bills),
                "billing.disputes": lambda: billing.disputes(bills),
                "billing.adjustments": lambda: billing.adjustments(bills, agents),
            }
        )
