"""Customers: people, many of whom other lines know too, and companies."""

from __future__ import annotations

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from seed_data.common.dice import Dice
from seed_data.common.people import People, address_of, spelled
from seed_data.common.words import Pools
from seed_data.telecom import shares
from seed_data.telecom.parameters import BLOCK_CUSTOMERS, TelecomParameters
from seed_data.telecom.subscribers import Subscribers


class Customers:
    """The customers of one seed. Needs a running session."""

    def __init__(
        self, parameters: TelecomParameters, dice: Dice, pools: Pools, subscribers: Subscribers
    ) -> None:
        self._parameters = parameters
        self._dice = dice
        self._subscribers = subscribers
        self._pools = pools
        self._people = People(dice, pools)

    def customers(self, spark: SparkSession, partitions: int) -> DataFrame:
        """The table `customers`."""
        dice, c, people = self._dice, F.col("id"), self._people
        first = self._subscribers.first_subscriber(c)
        person, country = F.col("person"), F.col("country")
        frame = (
            spark.range(1, self._parameters.customers + 1, 1, partitions)
            .select("id", self._subscribers.person(c).alias("person"))
            .select("*", people.place(person).alias("place"))
            .select("*", self._pools.countries[F.col("place")].alias("country"))
            .select(
                "*",
                (c % BLOCK_CUSTOMERS == 0).alias("is_business"),
                people.first_name(person, country).alias("first"),
                people.last_name(person, country).alias("last"),
                people.handle(person, country).alias("handle"),
                self._subscribers.activated(first).alias("created"),
                address_of(person, 0).alias("home"),
            )
        )
        is_business = F.col("is_business")
        created = F.timestamp_micros("created")
        return frame.select(
            "id",
            F.when(is_business, F.concat(F.col("last"), F.lit(" & Partner")))
            .otherwise(self._name())
            .alias("full_name"),
            self._email().alias("email"),
            self._phone().alias("phone"),
            F.when(
                ~is_business & ~dice.chance(shares.BIRTH_DATE_MISSING, "telecom.no_birth", c),
                people.born(person, self._parameters.end),
            ).alias("birth_date"),
            F.when(~is_business, people.gender(person)).alias("gender"),
            F.when(is_business, "business").otherwise("private").alias("kind"),
            people.street(F.col("home"), country).alias("street"),
            self._pools.cities[F.col("place")].alias("city"),
            self._pools.regions[F.col("place")].alias("region"),
            people.postal_code(F.col("home"), F.col("place")).alias("postal_code"),
            self._pools.country_codes[F.col("place")].alias("country_code"),
            dice.chance(0.4, "telecom.consent", c).cast("int").alias("marketing_consent"),
            created.alias("created_at"),
            created.alias("updated_at"),
        )

    def _name(self) -> Column:
        first, last = F.col("first"), F.col("last")
        latin = F.initcap(F.translate(F.col("handle"), ".", " "))
        return spelled(
            self._dice.uniform("telecom.name", F.col("id")),
            self._people.full_name(F.col("country"), first, last),
            (
                (shares.NAME_CAPITALS, F.upper(F.concat_ws(" ", first, last))),
                (shares.NAME_SWAPPED, F.concat_ws(", ", last, first)),
                (shares.NAME_INITIAL, F.concat_ws(". ", F.substring(first, 1, 1), last)),
                (shares.NAME_LATIN, latin),
            ),
        )

    def _email(self) -> Column:
        c = F.col("id")
        same = self._people.email(F.col("person"), F.col("country"))
        other = F.concat(F.col("handle"), F.lit("."), c.cast("string"), F.lit("@phone.example"))
        return spelled(
            self._dice.uniform("telecom.email", c),
            same,
            (
                (shares.EMAIL_MISSING, F.lit(None)),
                (shares.EMAIL_OTHER, other),
                (shares.EMAIL_CAPITALS, F.upper(same)),
            ),
        )

    def _phone(self) -> Column:
        dice, c = self._dice, F.col("id")
        draw = dice.uniform("telecom.phone", c)
        dial, area, number = self._people.phone(F.col("person"), F.col("country"))
        forms = F.array(
            F.concat(dial, area, number),
            F.concat_ws(" ", dial, area, number),
            F.concat(F.regexp_replace(dial, r"^\+", "00"), area, number),
            F.concat(dial, F.lit("-"), area, F.lit("/"), number),
        )
        other = F.concat(
            dial,
            dice.integer(1_000_000_000, 8_000_000_000, "telecom.other_phone", c).cast("string"),
        )
        missing, others = shares.PHONE_MISSING, shares.PHONE_MISSING + shares.PHONE_OTHER
        return (
            F.when(draw < missing, None)
            .when(draw < others, other)
            .otherwise(dice.pick(forms, 4, "telecom.phone_form", c))
        )
