"""Consents, the messages that they allow, and what came of these."""

from __future__ import annotations

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from seed_data.common.columns import timestamp
from seed_data.common.dice import Dice
from seed_data.common.parameters import DAY, HOUR, MICROSECONDS
from seed_data.inspire import shares
from seed_data.inspire.parameters import MESSAGE_DAYS, InspireParameters
from seed_data.inspire.texts import WORDING
from seed_data.inspire.workouts import utc

_KINDS = list(shares.CONSENTS)
_REMINDERS_PER_WEEK = (1, 4)
"""Reminders come on Tuesdays and Fridays."""
_REMINDER_HOUR = 18


class Messages:
    """The messages of one seed. An id is made of the person, the day and the kind."""

    def __init__(self, parameters: InspireParameters, dice: Dice) -> None:
        self._parameters = parameters
        self._dice = dice

    def consented(self, base: DataFrame) -> DataFrame:
        """One row per consent: `kind` from 0, `given` and `withdrawn`, which may be null."""
        dice, user, kind = self._dice, F.col("user_id"), F.col("kind")
        given = F.array(
            *(
                F.when(
                    dice.chance(share, f"inspire.consent.{number}", user)
                    & (F.lit(channel == "email") | F.col("phone").isNotNull()),
                    number,
                )
                for number, ((channel, _), share) in enumerate(shares.CONSENTS.items())
            )
        )
        end = F.lit(self._parameters.end)
        withdrawn = F.col("given") + (
            dice.uniform("inspire.withdrawn_at", user, kind) * (end - F.col("given"))
        ).cast("bigint")
        return (
            base.where("not is_deleted")
            .select("*", F.explode(F.array_compact(given)).alias("kind"))
            .select(
                "user_id",
                "kind",
                "zone",
                "email_key",
                F.least(F.col("created") + 5 * 60 * MICROSECONDS, end).alias("given"),
            )
            .select(
                "*",
                F.when(
                    dice.chance(shares.WITHDRAWN, "inspire.withdrawn", user, kind), withdrawn
                ).alias("withdrawn"),
            )
        )

    def consents(self, consented: DataFrame) -> DataFrame:
        """The table `consents`."""
        user, kind = F.col("user_id"), F.col("kind")
        by_mail = self._dice.weighted(
            {"link": 70, "page": 25, "complaint": 5}, "inspire.withdrawn_by", user, kind
        )
        return consented.select(
            (user * 4 + kind).alias("id"),
            "user_id",
            _channel(kind).alias("channel"),
            _purpose(kind).alias("purpose"),
            timestamp(F.col("given")).alias("given_at"),
            F.lit("seed").alias("given_by"),
            F.lit(WORDING).alias("wording"),
            timestamp(F.col("withdrawn")).alias("withdrawn_at"),
            F.when(
                F.col("withdrawn").isNotNull(),
                F.when(_channel(kind) == "sms", "stop").otherwise(by_mail),
            ).alias("withdrawn_by"),
            timestamp(F.coalesce("withdrawn", "given")).alias("updated_at"),
        )

    def sent(self, base: DataFrame, consented: DataFrame) -> DataFrame:
        """One row per message: of each account its first one, and what consents allow.

        `slot` is 0 for the account's, then the kind and the number of days before the end.
        """
        first = base.where("not is_deleted").select(
            "user_id",
            F.lit(None).cast("int").alias("kind"),
            F.lit(0).alias("slot"),
            "email_key",
            F.col("created").alias("due"),
            F.lit(0).cast("bigint").alias("local_day"),
        )
        today = self._parameters.last_day
        day = F.lit(today).cast("bigint") - F.col("ago")
        weekday = (day + 3) % 7
        kind = F.col("kind")
        is_due = (
            F.when(_purpose(kind) == "reminder", weekday.isin(*_REMINDERS_PER_WEEK))
            .when(_purpose(kind) == "quote", weekday == 0)
            # News come on the first Wednesday of a month.
            .otherwise((weekday == 2) & (F.dayofmonth(F.date_from_unix_date("day")) <= 7))
        )
        local = F.col("day") * F.lit(DAY) + F.lit(_REMINDER_HOUR * HOUR)
        others = (
            consented.select("*", F.explode(F.sequence(F.lit(0), F.lit(MESSAGE_DAYS))).alias("ago"))
            .select("*", day.cast("int").alias("day"))
            .where(is_due)
            .select("*", utc(local, F.col("zone")).alias("due"))
            .where(
                (F.col("due") > F.col("given") + DAY)
                & (F.col("due") < F.coalesce("withdrawn", F.lit(self._parameters.end)))
                & (F.col("due") < self._parameters.end - HOUR)
            )
            .select(
                "user_id",
                "kind",
                (1 + F.col("ago") * 4 + kind).alias("slot"),
                "email_key",
                "due",
                F.col("day").cast("bigint").alias("local_day"),
            )
        )
        draw = self._dice.uniform("inspire.bounces", F.col("user_id"))
        is_mail = F.col("kind").isNull() | (_channel(F.col("kind")) == "email")
        return first.unionByName(others).select(
            "*",
            (F.col("user_id") * 512 + F.col("slot")).alias("id"),
            # An address that bounces does so with every mail. The account's mail came.
            (is_mail & (F.col("slot") > 0) & (draw < shares.BOUNCED)).alias("bounces"),
            is_mail.alias("is_mail"),
            F.when(F.col("kind").isNull(), "account")
            .otherwise(_purpose(F.col("kind")))
            .alias("purpose"),
        )

    def messages(self, sent: DataFrame) -> DataFrame:
        """The table `messages`."""
        key, due = F.col("id"), F.col("due")
        took = due + ((1 + 40 * self._dice.uniform("inspire.sent", key)) * 1e6).cast("bigint")
        is_account = F.col("purpose") == "account"
        nothing = F.lit(None).cast("string")
        return sent.select(
            "id",
            self._dice.uuid("inspire.key", key).alias("message_key"),
            "user_id",
            nothing.alias("address"),
            F.when(F.col("is_mail"), "email").otherwise("sms").alias("channel"),
            "purpose",
            F.when(is_account, "link").otherwise(F.col("purpose")).alias("template"),
            F.lit("{}").alias("parameters"),
            F.lit("sent").alias("state"),
            nothing.alias("reason"),
            F.when(self._dice.chance(0.02, "inspire.again", key), 2).otherwise(1).alias("attempts"),
            timestamp(due).alias("due_at"),
            timestamp(due + F.when(is_account, DAY).otherwise(4 * HOUR)).alias("expires_at"),
            nothing.alias("claimed_by"),
            nothing.alias("claimed_until"),
            F.concat(F.lit("seed-"), key.cast("string")).alias("provider_id"),
            timestamp(took).alias("sent_at"),
            timestamp(F.when(is_account, due).otherwise(due - 6 * HOUR)).alias("created_at"),
            timestamp(took).alias("updated_at"),
        )

    def message_events(self, sent: DataFrame) -> DataFrame:
        """The table `message_events`."""
        key, draw = F.col("id"), self._dice.uniform("inspire.event", F.col("id"))
        is_read = F.col("is_mail") & ~F.col("bounces")
        is_opened = is_read & ((F.col("purpose") == "account") | (draw < shares.OPENED))
        is_clicked = is_read & ((F.col("purpose") == "account") | (draw < shares.CLICKED))
        events = F.array(
            F.struct(F.lit(0).alias("number"), F.lit("accepted").alias("event")),
            F.struct(
                F.lit(1).alias("number"),
                F.when(F.col("bounces"), "bounced").otherwise("delivered").alias("event"),
            ),
            F.when(is_opened, F.struct(F.lit(2).alias("number"), F.lit("opened").alias("event"))),
            F.when(is_clicked, F.struct(F.lit(3).alias("number"), F.lit("clicked").alias("event"))),
        )
        number = F.col("each.number")
        wait = F.when(number < 2, 60.0 * (1 + number)).otherwise(
            120 + (number - 1) * 5 * 3600 * self._dice.uniform("inspire.read", key)
        )
        happened = F.least(F.col("due") + (wait * 1e6).cast("bigint"), F.lit(self._parameters.end))
        return sent.select("*", F.explode(F.array_compact(events)).alias("each")).select(
            (key * 4 + number).alias("id"),
            key.alias("message_id"),
            F.col("each.event").alias("event"),
            timestamp(happened).alias("happened_at"),
            F.when(F.col("each.event") == "bounced", "550 5.1.1 no such mailbox").alias("detail"),
            timestamp(happened).alias("updated_at"),
        )

    def suppressions(self, sent: DataFrame) -> DataFrame:
        """The table `suppressions`: the addresses that bounced."""
        since = timestamp(F.min("due") + F.lit(120 * MICROSECONDS))
        return (
            sent.where("bounces")
            .groupBy(F.sha2("email_key", 256).alias("address_digest"))
            .agg(since.alias("since"))
            .select(
                F.lit("email").alias("channel"),
                "address_digest",
                F.lit("bounce").alias("reason"),
                "since",
                F.col("since").alias("updated_at"),
            )
        )


def _channel(kind: Column) -> Column:
    return F.when(kind == _KINDS.index(("sms", "reminder")), "sms").otherwise("email")


def _purpose(kind: Column) -> Column:
    purposes = [purpose for _, purpose in _KINDS]
    column = F.when(kind == 0, purposes[0])
    for number, purpose in enumerate(purposes[1:], start=1):
        column = column.when(kind == number, purpose)
    return column
