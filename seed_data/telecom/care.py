"""Contacts with agents, and the complaints that are made in them.

A complaint follows a dropped call of its month, if there was one. It stays in the month, so that
the hazard of leaving counts it where the sources have it.
"""

from __future__ import annotations

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from seed_data.common.columns import timestamp
from seed_data.common.dice import Dice
from seed_data.common.parameters import DAY, HOUR, MICROSECONDS
from seed_data.telecom.parameters import TelecomParameters
from seed_data.telecom.rhythm import Rhythm
from seed_data.telecom.usage import Usage

CONTACTS = 0.06
"""Months with a contact about something else."""
CANCELLATION_CALLS = 0.7
"""Subscribers who call before they leave."""
RESOLVED = 0.85
"""Complaints that are resolved, of those that are closed."""

_SLOTS = 4
"""Contacts of a subscriber and month: a complaint, another one, a cancellation."""


class Care:
    """The contacts of one seed."""

    def __init__(
        self,
        parameters: TelecomParameters,
        dice: Dice,
        rhythm: Rhythm,
        usage: Usage,
        agents: int,
    ) -> None:
        self._parameters = parameters
        self._dice = dice
        self._rhythm = rhythm
        self._usage = usage
        self._agents = agents

    def _contacts(self, months: DataFrame) -> DataFrame:
        """One row per contact. `slot` 0 is a complaint."""
        dice, s, m = self._dice, F.col("subscriber"), F.col("m")
        delay = (HOUR + dice.uniform("telecom.complaint.delay", s, m) * (2 * DAY)).cast("bigint")
        random = self._rhythm.moment("contact", s, m)
        complained = F.when(
            F.col("dropped") > 0, self._usage.call_started(F.lit(0)) + delay
        ).otherwise(random)
        topic = dice.weighted(
            {"billing": 4, "plan": 2, "device": 2, "network": 1, "other": 1},
            "telecom.contact.topic",
            s,
            m,
        )
        category = F.when(F.col("dropped") > 0, "network").otherwise(
            dice.weighted(
                {"billing": 5, "service": 3, "device": 2}, "telecom.complaint.category", s, m
            )
        )
        left = F.col("cancelled")

        def contact(slot: int, topic: Column, at: Column) -> Column:
            return F.struct(F.lit(slot).alias("slot"), topic.alias("topic"), at.alias("at"))

        contacts = F.array_compact(
            F.array(
                F.when(
                    F.col("complaints") > 0,
                    contact(0, category, F.least(complained, F.col("month_end") - MICROSECONDS)),
                ),
                F.when(dice.chance(CONTACTS, "telecom.contacts", s, m), contact(1, topic, random)),
                F.when(
                    left.isNotNull()
                    & F.col("is_last")
                    & dice.chance(CANCELLATION_CALLS, "telecom.calls_to_leave", s),
                    contact(2, F.lit("cancellation"), left - 2 * HOUR),
                ),
            )
        )
        row = F.col("row")
        return (
            months.select("*", F.explode(contacts).alias("row"))
            .select(
                "subscriber",
                "customer",
                "m",
                row["slot"].alias("slot"),
                row["topic"].alias("topic"),
                row["at"].alias("at"),
                "cancelled",
                "activated",
            )
            .where(
                (F.col("at") < F.coalesce("cancelled", F.lit(self._parameters.end)))
                & (F.col("at") >= F.col("activated"))
            )
        )

    def _agent(self) -> Column:
        return self._dice.integer(
            1,
            self._agents,
            "telecom.contact.agent",
            F.col("subscriber"),
            F.col("m"),
            F.col("slot"),
        )

    def _interaction(self) -> Column:
        return (F.col("subscriber") * 16 + F.col("m")) * _SLOTS + F.col("slot")

    def interactions(self, months: DataFrame) -> DataFrame:
        """The table `interactions`."""
        dice, key = self._dice, F.col("id")
        channel = dice.weighted(
            {"phone": 6, "chat": 3, "email": 1, "store": 1}, "telecom.contact.channel", key
        )
        outcome = dice.weighted(
            {"solved": 7, "follow_up": 2, "escalated": 1, "abandoned": 0.5},
            "telecom.contact.outcome",
            key,
        )
        seconds = 40 - F.log(1 - dice.uniform("telecom.contact.duration", key)) * 280
        ended = F.col("at") + seconds.cast("bigint") * MICROSECONDS
        return (
            self._contacts(months)
            .select("*", self._interaction().alias("id"))
            .select(
                "id",
                F.col("customer").alias("customer_id"),
                F.col("subscriber").alias("subscriber_id"),
                self._agent().alias("agent_id"),
                channel.alias("channel"),
                # The category `service` of a complaint is no topic.
                F.when(F.col("topic") == "service", "other")
                .otherwise(F.col("topic"))
                .alias("topic"),
                outcome.alias("outcome"),
                timestamp(F.col("at")).alias("started_at"),
                seconds.cast("int").alias("duration_seconds"),
                timestamp(ended).alias("updated_at"),
            )
        )

    def complaints(self, months: DataFrame) -> DataFrame:
        """The table `complaints`."""
        dice, s, m = self._dice, F.col("subscriber"), F.col("m")
        open_for = HOUR + F.pow(dice.uniform("telecom.complaint.open", s, m), F.lit(2)) * (25 * DAY)
        closed = F.col("at") + open_for.cast("bigint")
        is_resolved = dice.chance(RESOLVED, "telecom.complaint.resolved", s, m)
        is_closed = F.col("closed").isNotNull()
        return (
            self._contacts(months)
            .where("slot = 0")
            .select("*", F.when(closed <= self._parameters.end, closed).alias("closed"))
            .select(
                (s * 16 + m).alias("id"),
                F.col("customer").alias("customer_id"),
                s.alias("subscriber_id"),
                self._interaction().alias("interaction_id"),
                self._agent().alias("agent_id"),
                F.col("topic").alias("category"),
                F.when(~is_closed, "open")
                .when(is_resolved, "resolved")
                .otherwise("rejected")
                .alias("state"),
                timestamp(F.col("at")).alias("opened_at"),
                timestamp(F.col("closed")).alias("closed_at"),
                F.when(
                    is_closed & is_resolved,
                    dice.weighted(
                        {"Credit for a month": 2, "Explained": 3, "Repaired": 3},
                        "telecom.complaint.resolution",
                        s,
                        m,
                    ),
                ).alias("resolution"),
                timestamp(F.coalesce("closed", "at")).alias("updated_at"),
            )
        )
