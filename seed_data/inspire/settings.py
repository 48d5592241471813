"""What people want of the application, and their sessions."""

from __future__ import annotations

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from seed_data.common.dice import Dice, strings
from seed_data.common.parameters import DAY, MICROSECONDS
from seed_data.inspire import shares, truth
from seed_data.inspire.parameters import InspireParameters
from seed_data.inspire.workouts import date_of

IDLE_DAYS = 14
"""A session ends after so many days without a request."""
_EQUIPMENT = {"bike": 0.45, "pool": 0.25, "weights": 0.35}


def preferences(parameters: InspireParameters, dice: Dice, base: DataFrame) -> DataFrame:
    """The collection `preferences`."""
    user = F.col("user_id")
    mood = F.when(
        dice.chance(truth.PREFERRED_MOOD, "inspire.mood_known", user),
        strings(truth.MOODS)[F.col("taste") % 3],
    ).otherwise(dice.pick(strings(truth.MOODS), 3, "inspire.mood", user))
    first_rest = dice.integer(0, 7, "inspire.rest", user).cast("int")
    rest = F.when(
        dice.chance(0.5, "inspire.rests", user),
        F.array_sort(F.array(first_rest, (first_rest + 3) % 7)),
    ).otherwise(F.array(first_rest))
    equipment = F.array_compact(
        F.array(
            *(
                F.when(dice.chance(share, f"inspire.has_{name}", user), name)
                for name, share in _EQUIPMENT.items()
            )
        )
    )
    by_mail = shares.CONSENTS["email", "reminder"]
    channels = F.array_compact(
        F.array(
            F.when(dice.chance(by_mail, "inspire.consent.0", user), "email"),
            F.when(
                dice.chance(shares.CONSENTS["sms", "reminder"], "inspire.consent.3", user)
                & F.col("phone").isNotNull(),
                "sms",
            ),
        )
    )
    notifications = F.struct(
        channels.alias("channels"),
        F.lit("18:00").alias("reminder_at"),
        dice.chance(0.6, "inspire.best_hour", user).alias("best_hour"),
        F.lit("21:00").alias("quiet_from"),
        F.lit("08:00").alias("quiet_until"),
        F.array(*(F.lit(day) for day in range(7))).alias("days"),
    )
    document = F.struct(
        user.alias("_id"),
        F.when(F.col("goal").isNull(), F.array().cast("array<string>"))
        .otherwise(F.array("goal"))
        .alias("fitness_goals"),
        dice.weighted({"new": 40, "some": 40, "much": 20}, "inspire.experience", user).alias(
            "experience"
        ),
        rest.alias("rest_days"),
        equipment.alias("equipment"),
        mood.alias("mood"),
        notifications.alias("notifications"),
        date_of(F.least(F.col("created") + 10 * 60 * MICROSECONDS, F.lit(parameters.end))).alias(
            "updated_at"
        ),
    )
    return base.where("not is_deleted").select(F.to_json(document).alias("document"))


def sessions(parameters: InspireParameters, dice: Dice, base: DataFrame) -> DataFrame:
    """The table `sessions`: those that are open. None ends by itself while a demo runs."""
    user, number, key = F.col("user_id"), F.col("number"), (F.col("user_id"), F.col("number"))
    end, second = parameters.end, MICROSECONDS
    # Who was there once in the last two weeks, on one device or two. It expires in this order.
    # The seed ends at most a day ago.
    ago = dice.uniform("inspire.seen", *key) * ((IDLE_DAYS - 2) * DAY)
    length = dice.uniform("inspire.session", *key) ** 2 * (60 * DAY)
    seen = F.col("seen")
    device = dice.weighted({"phone": 74, "computer": 20, "tablet": 6}, "inspire.device", *key)

    def count(value: Column) -> Column:
        return F.struct(value.cast("bigint").cast("string").alias("N"))

    def text(value: Column) -> Column:
        return F.struct(value.alias("S"))

    days = (seen - F.col("started")) / DAY
    views = 1 + days * 4 + dice.integer(1, 12, "inspire.views", *key)
    secret = F.concat_ws("/", F.lit(str(dice.salt("inspire.secret"))), user, number)
    item = F.struct(
        text(F.sha2(secret, 256)).alias("session_id"),
        count(user).alias("user_id"),
        count(F.col("started") / second).alias("started_at"),
        count(seen / second).alias("seen_at"),
        count((seen + IDLE_DAYS * DAY) / second).alias("expires_at"),
        text(device).alias("device"),
        text(F.col("zone")).alias("time_zone"),
        count(views).alias("page_views"),
        count(days * 0.3 + dice.uniform("inspire.logged", *key)).alias("workouts_logged"),
        text(F.when(dice.chance(0.04, "inspire.by_api", *key), "api").otherwise("password")).alias(
            "how"
        ),
    )
    return (
        base.where("not is_deleted")
        .select("*", F.explode(F.array(F.lit(0), F.lit(1))).alias("number"))
        .where(
            F.when(number == 0, dice.chance(0.35, "inspire.was_there", user)).otherwise(
                dice.chance(0.08, "inspire.was_there_twice", user)
            )
        )
        .select("*", (F.lit(end) - ago.cast("bigint")).alias("seen"))
        .select("*", F.greatest(F.col("created"), seen - length.cast("bigint")).alias("started"))
        .where(F.col("started") <= seen)
        .select(F.to_json(item).alias("item"))
    )
