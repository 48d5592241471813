"""Customers and their addresses, and the facts about a customer that orders need.

Everything is computed from the customer's number. Numbers start at 1, in the order of registration.
A customer's number is that of the person, see `seed_data.common.people`. So is an address's.
"""

from __future__ import annotations

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from seed_data.common.columns import timestamp
from seed_data.common.dice import Dice, div, strings
from seed_data.common.parameters import DAY
from seed_data.common.people import People, address_of
from seed_data.common.words import DECORATIONS, Pools
from seed_data.shop import dirty
from seed_data.shop.parameters import ShopParameters

GROWTH_EXPONENT = 1.6
"""The share x of the time since the foundation has seen x ** 1.6 of the registrations."""

_SECOND_ADDRESS = 0.32
_THIRD_ADDRESS = 0.08


class Customers:
    """The customers of one seed."""

    def __init__(self, parameters: ShopParameters, dice: Dice):
        self._parameters = parameters
        self._dice = dice

    def registered(self, customer: Column) -> Column:
        """When a customer registered, in epoch microseconds. Its day grows with the number."""
        founded, end = self._parameters.founded, self._parameters.end
        share = (customer - 1 + self._dice.uniform("customer.registered", customer)) / F.lit(
            float(self._parameters.customers)
        )
        exact = (F.pow(share, F.lit(1 / GROWTH_EXPONENT)) * (end - founded)).cast(
            "bigint"
        ) + founded
        # Except on the last day, move the moment to the hours in which people are awake.
        awake = self._dice.uniform("customer.hour", customer) + self._dice.uniform(
            "customer.minute", customer
        )
        moment = div(exact, DAY) * DAY + ((awake * 8 + 6) / 24 * DAY).cast("bigint")
        return F.when(exact < end - DAY, F.least(moment, F.lit(end))).otherwise(exact)

    def count_at(self, moment: Column) -> Column:
        """How many customers had registered a day before a moment."""
        # A day, because `registered` moves a moment within its day. So each of them surely has.
        founded, end = self._parameters.founded, self._parameters.end
        share = F.pow(
            (moment - founded - DAY) / F.lit(float(end - founded)), F.lit(GROWTH_EXPONENT)
        )
        return F.greatest(F.floor(share * self._parameters.customers), F.lit(1))

    def activity(self, customer: Column) -> Column:
        """How eager a buyer a customer is, in [0, 1)."""
        return self._dice.uniform("customer.activity", customer)

    def address_count(self, customer: Column) -> Column:
        """1 to 3, on average 1.4."""
        draw = self._dice.uniform("customer.addresses", customer)
        return F.when(draw < _THIRD_ADDRESS, 3).when(draw < _SECOND_ADDRESS, 2).otherwise(1)

    def address_id(self, customer: Column, number: Column) -> Column:
        """The id of the customer's address with that number."""
        return address_of(customer, number)

    def customers(self, spark: SparkSession, pools: Pools, partitions: int) -> DataFrame:
        """The table `customers`."""
        dice, c, people = self._dice, F.col("id"), People(self._dice, pools)
        base = (
            spark.range(1, self._parameters.customers + 1, 1, partitions)
            .select("id", people.place(c).alias("place"), self.registered(c).alias("registered"))
            .select("*", pools.countries[F.col("place")].alias("country"))
            .select(
                "*",
                people.first_name(c, F.col("country")).alias("first"),
                people.last_name(c, F.col("country")).alias("last"),
                people.email(c, F.col("country")).alias("address"),
                dice.uniform("customer.phone", c).alias("phone_draw"),
                dice.uniform("customer.email", c).alias("email_draw"),
                dice.uniform("customer.name", c).alias("name_draw"),
            )
        )
        registered = F.col("registered")
        return base.select(
            "id",
            self._email(F.col("email_draw")).alias("email"),
            self._full_name(people, F.col("name_draw")).alias("full_name"),
            self._phone(people, F.col("phone_draw")).alias("phone"),
            self._birth_date(people).alias("birth_date"),
            F.when(dice.chance(0.85, "customer.gender_known", c), people.gender(c)).alias("gender"),
            F.when(self.activity(c) > 0.95, "gold")
            .when(self.activity(c) > 0.83, "silver")
            .when(self.activity(c) > 0.55, "bronze")
            .otherwise("none")
            .alias("loyalty_tier"),
            dice.chance(0.46, "customer.consent", c).cast("int").alias("marketing_consent"),
            timestamp(registered).alias("created_at"),
            timestamp(self._changed(registered, 0.35, "customer.changed", c)).alias("updated_at"),
        )

    def _changed(self, since: Column, share: float, purpose: str, *key: Column) -> Column:
        """A later moment for this share of the keys, `since` for the others."""
        draw = self._dice.uniform(purpose, *key)
        # Below the share, the draw is uniform again. So it also gives the moment.
        return since + F.when(
            draw < share, (draw / share * (self._parameters.end - since)).cast("bigint")
        ).otherwise(0)

    def _email(self, draw: Column) -> Column:
        dice, c, address = self._dice, F.col("id"), F.col("address")
        malformed = F.array(
            F.replace(address, F.lit("@"), F.lit(" at ")),
            F.concat(address, F.lit("@")),
            F.replace(address, F.lit(".example"), F.lit("")),
            F.lit("n/a"),
        )
        duplicate = F.concat(
            F.lit("shared.mailbox"), div(c, 400).cast("string"), F.lit("@mail.example")
        )
        first, second = dirty.EMAIL_NULL, dirty.EMAIL_NULL + dirty.EMAIL_MALFORMED
        return (
            F.when(draw < first, None)
            .when(draw < second, dice.pick(malformed, 4, "customer.malformed", c))
            .when(draw < second + dirty.EMAIL_DUPLICATE, duplicate)
            .otherwise(address)
        )

    def _full_name(self, people: People, draw: Column) -> Column:
        first, last = F.col("first"), F.col("last")
        name = people.full_name(F.col("country"), first, last)
        decoration = self._dice.pick(
            strings(DECORATIONS), len(DECORATIONS), "customer.decoration", F.col("id")
        )
        space, capitals = dirty.NAME_STRAY_SPACE, dirty.NAME_STRAY_SPACE + dirty.NAME_CAPITALS
        return (
            F.when(draw < space / 2, F.concat(F.lit("  "), name, F.lit(" ")))
            .when(draw < space, F.concat_ws("   ", first, last))
            .when(draw < capitals, F.upper(name))
            .when(draw < capitals + dirty.NAME_FOUR_BYTE, F.concat_ws(" ", name, decoration))
            .otherwise(name)
        )

    def _phone(self, people: People, draw: Column) -> Column:
        c = F.col("id")
        dial, area, number = people.phone(c, F.col("country"))
        odd = F.array(
            F.concat(F.lit("0"), area, number),
            F.concat(F.lit("("), dial, F.lit(") 0"), area, F.lit("/"), number),
            F.concat(F.regexp_replace(dial, r"^\+", "00"), area, F.lit("-"), number),
            F.concat(dial, F.lit(" (0) "), area, F.lit("."), number, F.lit(" ext. 3")),
            F.lit("unknown"),
        )
        return (
            F.when(draw < dirty.PHONE_NULL, None)
            .when(
                draw < dirty.PHONE_NULL + dirty.PHONE_ODD,
                self._dice.pick(odd, 5, "customer.phone_odd", c),
            )
            .otherwise(F.concat_ws(" ", dial, area, number))
        )

    def _birth_date(self, people: People) -> Column:
        """The birth date as text, because a date in Parquet cannot be `0000-00-00`."""
        c = F.col("id")
        draw = self._dice.uniform("customer.birth_date", c)
        return (
            F.when(draw < dirty.BIRTH_DATE_ZERO, "0000-00-00")
            .when(draw < 0.2, None)
            .otherwise(people.born(c, self._parameters.end))
        )

    def addresses(self, spark: SparkSession, pools: Pools, partitions: int) -> DataFrame:
        """The table `addresses`."""
        dice, a, c = self._dice, F.col("id"), F.col("customer_id")
        people = People(dice, pools)
        home = people.place(c)
        # A second address is in the same place as the first more often than not.
        elsewhere = (F.col("number") > 0) & dice.chance(0.4, "address.elsewhere", a)
        base = (
            spark.range(1, self._parameters.customers + 1, 1, partitions)
            .select(
                F.col("id").alias("customer_id"),
                self.registered(F.col("id")).alias("registered"),
                F.explode(F.sequence(F.lit(0), self.address_count(F.col("id")) - 1)).alias(
                    "number"
                ),
            )
            .select("*", self.address_id(c, F.col("number")).alias("id"))
            .select(
                "*",
                F.when(elsewhere, pools.place(dice, "address.place", a))
                .otherwise(home)
                .alias("place"),
            )
            .select(
                "*",
                pools.countries[F.col("place")].alias("country"),
                self._changed(F.col("registered"), 0.999, "address.created", a).alias("later"),
            )
            .select(
                "*",
                F.when(F.col("number") == 0, F.col("registered"))
                .otherwise(F.col("later"))
                .alias("created"),
            )
        )
        place, created = F.col("place"), F.col("created")
        return base.select(
            "id",
            "customer_id",
            F.when(F.col("number") == 1, "billing").otherwise("shipping").alias("kind"),
            people.street(a, F.col("country")).alias("line1"),
            F.when(
                dice.chance(0.14, "address.line2", a),
                F.concat(F.lit("Apt. "), dice.integer(1, 60, "address.flat", a).cast("string")),
            ).alias("line2"),
            pools.cities[place].alias("city"),
            pools.regions[place].alias("region"),
            people.postal_code(a, place).alias("postal_code"),
            pools.country_codes[place].alias("country_code"),
            *(
                F.when(
                    dice.chance(0.92, "address.located", a),
                    _degrees(coordinates[place] + dice.integer(-60_000, 120_000, purpose, a)),
                ).alias(name)
                for name, coordinates, purpose in (
                    ("latitude", pools.latitudes, "address.latitude"),
                    ("longitude", pools.longitudes, "address.longitude"),
                )
            ),
            (F.col("number") == 0).cast("int").alias("is_primary"),
            timestamp(created).alias("created_at"),
            timestamp(self._changed(created, 0.15, "address.changed", a)).alias("updated_at"),
        )


def _degrees(micro_degrees: Column) -> Column:
    return (micro_degrees.cast("decimal(9,0)") * F.lit("0.000001").cast("decimal(7,6)")).cast(
        "decimal(9,6)"
    )
