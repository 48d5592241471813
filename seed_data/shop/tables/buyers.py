"""When orders are placed, by whom, in which store."""

from __future__ import annotations

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from seed_data.common.dice import Dice, div, numbers, strings
from seed_data.common.parameters import DAY, HOUR
from seed_data.shop import dirty
from seed_data.shop.organisation import Organisation
from seed_data.shop.parameters import ShopParameters
from seed_data.shop.rhythm import hours
from seed_data.shop.tables.customers import Customers
from seed_data.shop.tables.lines import MINUTE

CANDIDATES = 6
"""The buyer is the most active of so many candidates. More candidates mean fewer, busier buyers."""

NOTES = (
    "Bitte beim Nachbarn abgeben",
    "Please ring twice 🔔",
    "Laissez le colis à la gardienne, s’il vous plaît",
    "Regalo: sin precio en el paquete 🎁",
    "Gift wrap 🎀\nand a card: “Happy birthday, Zoë!”",
    "不要放在门口",
    "Lasciare in portineria\t(scala B)",
    'Leave it "behind the gate"; code 4711\\#',
)
"""Notes on orders. White space, quotes and backslashes test that copies are exact."""


class Buyers:
    """The buyers of one seed."""

    def __init__(
        self,
        parameters: ShopParameters,
        dice: Dice,
        customers: Customers,
        organisation: Organisation,
    ) -> None:
        self._parameters = parameters
        self._dice = dice
        self._customers = customers
        self._organisation = organisation

    def moments(self, frame: DataFrame) -> DataFrame:
        """When orders are placed: `id`, `ordered`, and `in_store`, whether over the counter."""
        spread = hours(self._parameters)
        first_ids, shares = numbers(spread.first_ids), numbers(spread.physical_shares, "double")
        hour, end = F.col("hour"), F.lit(self._parameters.end)
        first, following = first_ids[hour.cast("int")], first_ids[hour.cast("int") + 1]
        begin = hour * HOUR + self._parameters.start
        position = (
            F.col("id") - F.col("first") + self._dice.uniform("order.moment", F.col("id"))
        ) / F.col("count")
        ordered = F.col("begin") + (position * F.least(F.lit(HOUR), end - F.col("begin"))).cast(
            "bigint"
        )
        # The last order is minutes old even if there are few orders.
        last = end - (self._dice.uniform("order.last", F.col("id")) * 4 * MINUTE).cast("bigint")
        return (
            frame.select(
                hour, begin.alias("begin"), first.alias("first"), (following - first).alias("count")
            )
            .where(F.col("count") > 0)
            .select(
                "*",
                F.explode(F.sequence(F.col("first"), F.col("first") + F.col("count") - 1)).alias(
                    "id"
                ),
            )
            .select(
                "id",
                F.when(F.col("id") == self._parameters.orders, last)
                .otherwise(ordered)
                .alias("ordered"),
                (
                    self._dice.uniform("order.channel", F.col("id"))
                    < shares[(hour % (7 * 24)).cast("int")]
                ).alias("in_store"),
            )
        )

    def buyers(self, frame: DataFrame) -> DataFrame:
        """Who buys where: store, employee, customer, address, device, note."""
        return self._orderers(self._chosen(self._stores(frame)))

    def _stores(self, frame: DataFrame) -> DataFrame:
        """`store` (by number), `online`, and `known`, how many customers there were."""
        dice, people, company, o = self._dice, self._customers, self._organisation, F.col("id")
        online, all_stores = company.online_stores, self._parameters.stores
        # A store has as many tickets as it is popular. Popularity falls with the number of a store.
        physical_tickets = [
            store
            for store in range(online, all_stores)
            for _ in range(max(1, round(60 / (store - online + 1) ** 0.7)))
        ]
        online_tickets = [
            store for store in range(online) for _ in range(round(60 / (store + 1) ** 1.5))
        ]
        wanted = F.when(
            F.col("in_store"),
            dice.pick(numbers(physical_tickets, "int"), len(physical_tickets), "order.store", o),
        ).otherwise(
            dice.pick(numbers(online_tickets, "int"), len(online_tickets), "order.store", o)
        )
        is_open = (numbers(company.open_from)[wanted] <= F.col("ordered")) & (
            numbers(company.open_until)[wanted] > F.col("ordered")
        )
        # An order for a store that is not open at that time goes to the first online store.
        return (
            frame.select("id", "ordered", wanted.alias("wanted"), F.col("in_store"))
            .select(
                "id", "ordered", F.when(is_open, F.col("wanted")).otherwise(F.lit(0)).alias("store")
            )
            .select(
                "*",
                (F.col("store") < online).alias("online"),
                people.count_at(F.col("ordered")).alias("known"),
            )
        )

    def _chosen(self, frame: DataFrame) -> DataFrame:
        """`buyer`: mostly the most active of a few candidates who still buy here.

        Some orders go to anybody, some to a newcomer.
        """
        dice, people, o = self._dice, self._customers, F.col("id")

        def scored(number: Column) -> Column:
            customer = dice.integer(1, F.col("known"), "order.candidate", o, number)
            patience = (
                -F.log(1 - dice.uniform("customer.patience", customer)) * (420 * DAY) + 20 * DAY
            )
            lapsed = F.col("ordered") - people.registered(customer) > patience
            # Activity is below 1. So a customer who has lapsed loses to any other.
            loyalty = people.activity(customer) - lapsed.cast("double")
            return F.struct(loyalty.alias("loyalty"), customer.alias("customer"))

        draw = dice.uniform("order.buyer", o)
        chosen = F.array_max(F.transform(F.sequence(F.lit(1), F.lit(CANDIDATES)), scored))[
            "customer"
        ]
        anybody = dice.integer(1, F.col("known"), "order.anybody", o)
        newcomer = F.col("known") - dice.integer(
            0, F.greatest(div(F.col("known"), 40), F.lit(1)), "order.newcomer", o
        )
        return frame.select(
            "*",
            F.when(draw < 0.12, anybody)
            .when(draw < 0.2, newcomer)
            .otherwise(chosen)
            .alias("buyer"),
        )

    def _orderers(self, frame: DataFrame) -> DataFrame:
        """The columns of an order about its buyer and the employee who served."""
        dice, people, company, o = self._dice, self._customers, self._organisation, F.col("id")
        kind = dice.uniform("order.customer", o)
        employees, counts = numbers(company.first_employee), numbers(company.employee_count)
        employee = employees[F.col("store")] + dice.integer(
            0, counts[F.col("store")], "order.employee", o
        )
        index = (F.col("employee") - 1).cast("int")
        at_work = (numbers(company.hired)[index] <= F.col("ordered")) & (
            numbers(company.left)[index] > F.col("ordered")
        )
        address = F.when(dice.chance(0.85, "order.address", o), F.lit(0)).otherwise(
            dice.integer(0, people.address_count(F.col("buyer")), "order.address_number", o)
        )
        return frame.select(
            "*",
            F.when(kind < dirty.ORDER_GUEST, None)
            .when(
                kind < dirty.ORDER_GUEST + dirty.ORDER_UNKNOWN_CUSTOMER,
                dice.integer(dirty.UNKNOWN_CUSTOMER_BASE, 100_000, "order.unknown_customer", o),
            )
            .otherwise(F.col("buyer"))
            .alias("customer_id"),
            F.when(~F.col("online"), employee).alias("employee"),
            people.address_id(F.col("buyer"), address).alias("address_id"),
            F.when(F.col("online"), self._device()).alias("device"),
            F.when(
                dice.chance(0.04, "order.noted", o),
                dice.pick(strings(NOTES), len(NOTES), "order.note", o),
            ).alias("note"),
        ).withColumns(
            {
                "employee_id": F.when(F.col("employee").isNull(), None)
                .when(at_work, F.col("employee"))
                # The first employee of a store is its manager, who never leaves.
                .otherwise(employees[F.col("store")]),
                "shipping_address_id": F.when(
                    F.col("online") & (F.col("customer_id") == F.col("buyer")), F.col("address_id")
                ),
            }
        )

    def _device(self) -> Column:
        """The device of an online order. The share of mobiles grows over time."""
        start, end = self._parameters.start, self._parameters.end
        share = (F.col("ordered") - start) / F.lit(float(end - start))
        device = self._dice.uniform("order.device", F.col("id"))
        mobile, tablet = 0.40 + 0.18 * share, 0.14 - 0.05 * share
        return (
            F.when(device < mobile, "mobile")
            .when(device < mobile + tablet, "tablet")
            .otherwise("laptop")
        )
