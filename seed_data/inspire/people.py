"""The people: many of them are customers of other lines, too."""

from __future__ import annotations

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from seed_data.common.columns import timestamp
from seed_data.common.dice import Dice, numbers, strings, thresholds
from seed_data.common.parameters import DAY, HOUR
from seed_data.common.people import People, spelled
from seed_data.common.places import COUNTRIES, ZONES
from seed_data.common.words import Pools
from seed_data.inspire import shares, truth
from seed_data.inspire.parameters import FOUNDING_SHARE, InspireParameters
from seed_data.shop.truth import buyers

SHARED_STEP = 5
"""The person with the account n is the person 5 n, if other lines know the person."""


class Users:
    """The people of one seed. Needs a running session."""

    def __init__(self, parameters: InspireParameters, dice: Dice, pools: Pools) -> None:
        self._parameters = parameters
        self._dice = dice
        self._pools = pools
        self._people = People(dice, pools)
        self._zones = strings([ZONES[country][0] for country in COUNTRIES])

    def person(self, user: Column) -> Column:
        """The number of the person. It is above `people` if no other line may know it."""
        shared = user * SHARED_STEP
        is_known = self._dice.chance(shares.KNOWN_PERSON, "inspire.known", user) & (
            shared <= self._parameters.people
        )
        # Numbers that no other line gives to anybody.
        return F.when(is_known, shared).otherwise(user + 2 * self._parameters.people)

    def base(self, spark: SparkSession, partitions: int) -> DataFrame:
        """The intermediate table: one row per person, with what all other tables need.

        Times are in epoch microseconds, days are days since 1970.
        """
        dice, people, user = self._dice, self._people, F.col("user_id")
        # Spark filters before it fills the baskets.
        sporty = (
            buyers(spark, self._parameters, truth.SPORTS)
            .where(F.col("customer_id") % SHARED_STEP == 0)
            .select(F.col("customer_id").alias("person"), F.lit(True).alias("bought_sports"))
        )
        person = F.col("person")
        frame = (
            spark.range(1, self._parameters.users + 1, 1, partitions)
            .withColumnRenamed("id", "user_id")
            .select("*", self.person(user).alias("person"), self.created(user).alias("created"))
            .join(sporty, "person", "left")
            .select("*", people.place(person).alias("place"))
            .select("*", self._pools.countries[F.col("place")].alias("country"))
        )
        born = people.born(person, self._parameters.end)
        return (
            frame.select(
                "*",
                self._pools.regions[F.col("place")].alias("region"),
                self._zones[F.col("country")].alias("zone"),
                born.alias("born"),
                dice.chance(shares.DELETED, "inspire.deleted", user).alias("is_deleted"),
                people.first_name(person, F.col("country")).alias("first"),
                people.last_name(person, F.col("country")).alias("last"),
                people.handle(person, F.col("country")).alias("handle"),
                dice.integer(0, truth.TASTES, "inspire.taste", user).cast("int").alias("taste"),
            )
            .select(
                "*",
                F.unix_date(F.to_date("born")).alias("born_day"),
                # Whoever registers in the evening may be a day ahead of UTC. It begins tomorrow.
                (F.floor(F.col("created") / DAY) + 1).cast("int").alias("created_day"),
                self._goal().alias("goal"),
                self._email().alias("email"),
                self._phone().alias("phone"),
            )
            .select("*", *self._texts())
        )

    def created(self, user: Column) -> Column:
        """When the person registered. It grows with the number."""
        first, end = self._parameters.first_day * DAY, self._parameters.end
        share = (user - self._dice.uniform("inspire.created", user)) / float(self._parameters.users)
        before = (1 - share / FOUNDING_SHARE) * (365 * DAY)
        since = (share - FOUNDING_SHARE) / (1 - FOUNDING_SHARE) * float(end - first - 2 * HOUR)
        return F.when(share < FOUNDING_SHARE, first - before.cast("bigint")).otherwise(
            F.lit(first) + since.cast("bigint")
        )

    def _goal(self) -> Column:
        """The code of the main goal; null for people without one."""
        user = F.col("user_id")
        chance = truth.GOALS["build_strength"]
        odds = chance / (1 - chance) * truth.STRENGTH_ODDS
        likely = F.when(F.col("bought_sports"), odds / (1 + odds)).otherwise(chance)
        others = {code: share for code, share in truth.GOALS.items() if code != "build_strength"}
        return (
            F.when(self._dice.chance(truth.NO_GOAL, "inspire.no_goal", user), None)
            .when(self._dice.uniform("inspire.strength", user) < likely, "build_strength")
            .otherwise(thresholds(self._dice.uniform("inspire.goal", user), others))
        )

    def _email(self) -> Column:
        user = F.col("user_id")
        same = self._people.email(F.col("person"), F.col("country"))
        other = F.concat(F.col("handle"), F.lit("."), user.cast("string"), F.lit("@fit.example"))
        return spelled(
            self._dice.uniform("inspire.email", user),
            same,
            ((shares.EMAIL_OTHER, other), (shares.EMAIL_CAPITALS, F.upper(same))),
        )

    def _phone(self) -> Column:
        user = F.col("user_id")
        dial, area, number = self._people.phone(F.col("person"), F.col("country"))
        other = self._dice.integer(1_000_000_000, 8_000_000_000, "inspire.other_phone", user)
        return spelled(
            self._dice.uniform("inspire.phone", user),
            F.translate(F.concat(dial, area, number), "+", ""),
            (
                (shares.PHONE_MISSING, F.lit(None).cast("string")),
                (shares.PHONE_OTHER, F.concat(F.translate(dial, "+", ""), other.cast("string"))),
            ),
        )

    def _texts(self) -> list[Column]:
        user, first, last = F.col("user_id"), F.col("first"), F.col("last")
        name = spelled(
            self._dice.uniform("inspire.name", user),
            self._people.full_name(F.col("country"), first, last),
            (
                (shares.NAME_CAPITALS, F.upper(F.concat_ws(" ", first, last))),
                (shares.NAME_SWAPPED, F.concat_ws(", ", last, first)),
                (shares.NAME_INITIAL, F.concat_ws(". ", F.substring(first, 1, 1), last)),
                (shares.NAME_LATIN, F.initcap(F.translate(F.col("handle"), ".", " "))),
            ),
        )
        return [name.alias("name"), F.lower("email").alias("email_key")]

    def users(self, base: DataFrame) -> DataFrame:
        """The table `users`. Of somebody who has gone, nothing is left that tells who it was."""
        dice, user, gone = self._dice, F.col("user_id"), F.col("is_deleted")
        nobody = F.concat(F.lit("deleted-"), user.cast("string"), F.lit("@deleted.invalid"))
        created, end = F.col("created"), F.lit(self._parameters.end)
        confirmed = created + ((1 + 20 * dice.uniform("inspire.confirmed", user)) * 60e6).cast(
            "bigint"
        )
        left = created + (dice.uniform("inspire.left", user) * (end - created)).cast("bigint")
        has_birth = ~gone & ~dice.chance(shares.BIRTH_DATE_MISSING, "inspire.no_birth", user)
        has_number = F.col("phone").isNotNull() & dice.chance(0.6, "inspire.phone_ok", user)
        return base.select(
            user.alias("id"),
            F.when(gone, nobody).otherwise(F.col("email")).alias("email"),
            F.when(gone, nobody).otherwise(F.col("email_key")).alias("email_key"),
            F.when(gone, "").otherwise(F.col("name")).alias("full_name"),
            F.when(~gone, F.col("phone")).alias("phone"),
            F.when(has_birth, F.col("born")).alias("birth_date"),
            "region",
            self._pools.country_codes[F.col("place")].alias("country_code"),
            F.col("zone").alias("time_zone"),
            timestamp(F.least(confirmed, end)).alias("email_confirmed_at"),
            F.when(~gone & has_number, timestamp(F.least(confirmed + HOUR, end))).alias(
                "phone_confirmed_at"
            ),
            F.when(gone, "deleted").otherwise("active").alias("state"),
            timestamp(created).alias("created_at"),
            timestamp(F.when(gone, left).otherwise(F.least(confirmed, end))).alias("updated_at"),
        )

    def user_goals(self, base: DataFrame) -> DataFrame:
        """The table `user_goals`: an earlier goal of some, the main one, a second one of some.

        The earlier and the second ones are never `build_strength`.
        """
        dice, user = self._dice, F.col("user_id")
        codes, rows = list(truth.GOALS), F.col("row")
        registered = F.floor(F.col("created") / DAY).cast("int")
        span = F.greatest(F.lit(1), self._parameters.last_day - registered)
        changed = registered + F.greatest(
            F.lit(1), (dice.uniform("inspire.goal_changed", user) * span).cast("int")
        )
        had = dice.chance(0.25, "inspire.earlier", user) & (changed <= self._parameters.last_day)
        has_second = dice.chance(0.3, "inspire.second", user)

        def other(purpose: str) -> Column:
            """Another goal than the main one."""
            without = [code for code in codes if code != "build_strength"]
            start = dice.integer(0, len(without), purpose, user)
            first, following = (
                strings(without)[((start + step) % len(without)).cast("int")] for step in (0, 1)
            )
            return F.when(first == F.col("goal"), following).otherwise(first)

        def row(number: int, code: Column, started: Column, ended: Column | None) -> Column:
            return F.struct(
                F.lit(number).alias("number"),
                code.alias("code"),
                started.cast("int").alias("started"),
                (F.lit(None) if ended is None else ended).cast("int").alias("ended"),
            )

        begun = F.when(had, changed).otherwise(registered)
        goal = F.array(
            F.when(had, row(1, other("inspire.earlier_goal"), registered, changed)),
            row(2, F.col("goal"), begun, None),
            F.when(has_second, row(3, other("inspire.second_goal"), begun, None)),
        )
        # The day is the day in UTC, whose noon is the same day almost everywhere.
        weekly = numbers([90, 15_000, 180, 3, 150, 3])
        number = F.array_position(strings(codes), rows["code"]).cast("int")
        factor = 0.5 + 0.25 * dice.integer(0, 5, "inspire.amount", user, rows["number"])
        started = F.date_from_unix_date(rows["started"])
        ended = F.date_from_unix_date(rows["ended"])
        return (
            base.where(F.col("goal").isNotNull() & ~F.col("is_deleted"))
            .select("user_id", F.explode(F.array_compact(goal)).alias("row"))
            .select(
                (user * 4 + rows["number"]).alias("id"),
                "user_id",
                number.cast("bigint").alias("goal_id"),
                F.greatest(F.lit(1), F.floor(weekly[number - 1] * factor))
                .cast("decimal(12,2)")
                .alias("amount"),
                started.alias("started_on"),
                ended.alias("ended_on"),
                F.coalesce(ended, started).cast("timestamp").alias("updated_at"),
            )
        )
