"""The records of the network: calls, SMS and data sessions. All are made from months.

An event's key is unique over all kinds of one table. `event_id` is the key with a letter before it.
A record's id is twice the key, and one more for a duplicate.
"""

from __future__ import annotations

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from seed_data.common.columns import timestamp
from seed_data.common.dice import Dice
from seed_data.common.parameters import DAY, HOUR, MICROSECONDS
from seed_data.telecom import shares
from seed_data.telecom.parameters import TelecomParameters
from seed_data.telecom.rhythm import Rhythm

EVENTS_PER_MONTH = 1024
"""More than a subscriber has of one kind."""

CELLS = 40
"""Cells per place. A subscriber is in the home cell most of the time."""


def event_key(number: Column) -> Column:
    """The key of an event of a subscriber's month."""
    return (F.col("subscriber") * 16 + F.col("m")) * EVENTS_PER_MONTH + number


class Usage:
    """The events of one seed."""

    def __init__(self, parameters: TelecomParameters, dice: Dice, rhythm: Rhythm) -> None:
        self._parameters = parameters
        self._dice = dice
        self._rhythm = rhythm

    def call_started(self, number: Column) -> Column:
        """When the call with that number in its month began. The first ones are those dropped."""
        return self._rhythm.moment("call", F.col("subscriber"), F.col("m"), number)

    def _events(self, months: DataFrame, letter: str, count: Column, moment: str) -> DataFrame:
        """One row per event, `k` is its number in the month. Those that did not happen are out."""
        key = F.col("key")
        frame = months.where(count > 0).select(
            "*", F.explode(F.sequence(F.lit(0), count - 1)).alias("k")
        )
        at = self._rhythm.moment(moment, F.col("subscriber"), F.col("m"), F.col("k"))
        return (
            frame.select("*", event_key(F.col("k")).alias("key"), at.alias("at"))
            .where(F.col("at") < F.coalesce("cancelled", F.lit(self._parameters.end)))
            .select(
                "*",
                F.concat(F.lit(letter), key.cast("string")).alias("event_id"),
                self._cell().alias("cell_id"),
            )
        )

    def _cell(self) -> Column:
        dice, s = self._dice, F.col("subscriber")
        home = dice.integer(0, CELLS, "telecom.home_cell", s)
        away = dice.integer(0, CELLS, "telecom.cell", s, F.col("m"), F.col("k"))
        cell = F.when(dice.chance(0.7, "telecom.at_home", s, F.col("m"), F.col("k")), home)
        return F.col("place") * 1000 + cell.otherwise(away)

    def _recorded(self, ended: Column, purpose: str) -> Column:
        """When the network wrote the first record of an event."""
        draw = self._dice.uniform(f"telecom.{purpose}.late", F.col("key"))
        delay = self._dice.uniform(f"telecom.{purpose}.delay", F.col("key"))
        # Most late records come within days.
        late = 2 * HOUR + (F.pow(delay, F.lit(3)) * (20 * DAY)).cast("bigint")
        soon = MICROSECONDS + (delay * (20 * MICROSECONDS)).cast("bigint")
        return ended + F.when(draw < shares.RECORD_LATE, late).otherwise(soon)

    def calls(self, months: DataFrame) -> DataFrame:
        """One row per call and direction."""
        dice, key = self._dice, F.col("key")
        draw = dice.uniform("telecom.call.end", key)
        is_out = F.col("k") < F.col("calls_out")
        termination = (
            F.when(F.col("k") < F.col("dropped"), "dropped")
            .when(draw < 0.86, "normal")
            .when((draw < 0.91) & is_out, "busy")
            .otherwise("no_answer")
        )
        talked = 1 + F.least(
            F.lit(7200), -F.log(1 - dice.uniform("telecom.call.duration", key)) * 210
        )
        seconds = (
            F.when(F.col("termination") == "normal", talked)
            .when(F.col("termination") == "dropped", 1 + talked / 2)
            .otherwise(0)
        )
        count = F.col("calls_out") + F.col("calls_in")
        return (
            self._events(months, "C", count, "call")
            .select("*", is_out.alias("is_out"), termination.alias("termination"))
            .select("*", seconds.cast("int").alias("seconds"))
            .select("*", self._recorded(_after("at", "seconds"), "call").alias("recorded"))
        )

    def texts(self, months: DataFrame) -> DataFrame:
        """One row per SMS and direction."""
        count = F.col("sms_out") + F.col("sms_in")
        parts = F.when(self._dice.chance(0.12, "telecom.sms.long", F.col("key")), 2).otherwise(1)
        return self._events(months, "S", count, "sms").select(
            "*",
            (F.col("k") < F.col("sms_out")).alias("is_out"),
            parts.alias("parts"),
            self._recorded(F.col("at"), "sms").alias("recorded"),
        )

    def sessions(self, months: DataFrame) -> DataFrame:
        """One row per data session. `milli_mb`: thousandths of a megabyte."""
        key = F.col("key")
        volume = -F.log(1 - self._dice.uniform("telecom.data.volume", key)) * 60_000
        seconds = -F.log(1 - self._dice.uniform("telecom.data.duration", key)) * 1_500 + 5
        return (
            self._events(months, "D", F.col("sessions"), "data")
            .select(
                "*",
                (F.least(volume, F.lit(5e6)) + 1).cast("bigint").alias("milli_mb"),
                F.least(seconds, F.lit(40_000.0)).cast("int").alias("seconds"),
            )
            .select("*", self._recorded(_after("at", "seconds"), "data").alias("recorded"))
        )

    def _records(self, events: DataFrame, purpose: str) -> DataFrame:
        """The events with the duplicates of their records, as far as they were written."""
        is_doubled = self._dice.chance(
            shares.RECORD_DUPLICATE, f"telecom.{purpose}.doubled", F.col("key")
        )
        copies = F.when(is_doubled, F.array(F.lit(0), F.lit(1))).otherwise(F.array(F.lit(0)))
        later = (self._dice.uniform(f"telecom.{purpose}.again", F.col("key")) * (6 * HOUR)).cast(
            "bigint"
        )
        return (
            events.select("*", F.explode(copies).alias("copy"))
            .select("*", (F.col("recorded") + F.col("copy") * later).alias("written"))
            .where(F.col("written") <= self._parameters.end)
            .select("*", (F.col("key") * 2 + F.col("copy")).alias("id"))
        )

    def _parties(self, purpose: str) -> list[Column]:
        dice, key = self._dice, F.col("key")
        other = F.concat(
            F.lit("4915"), dice.integer(10_000_000, 90_000_000, f"telecom.{purpose}.other", key)
        )
        is_known = F.col("is_out") | dice.chance(0.93, f"telecom.{purpose}.shown", key)
        return [
            F.col("subscriber").alias("subscriber_id"),
            F.col("msisdn"),
            F.when(F.col("is_out"), "out").otherwise("in").alias("direction"),
            F.when(is_known, other).alias("other_msisdn"),
        ]

    def call_records(self, months: DataFrame) -> DataFrame:
        """The table `call_records`."""
        return self._records(self.calls(months), "call").select(
            "id",
            "event_id",
            *self._parties("call"),
            timestamp(F.col("at")).alias("started_at"),
            F.col("seconds").alias("duration_seconds"),
            "termination",
            "cell_id",
            "region",
            timestamp(F.col("written")).alias("recorded_at"),
        )

    def sms_records(self, months: DataFrame) -> DataFrame:
        """The table `sms_records`."""
        return self._records(self.texts(months), "sms").select(
            "id",
            "event_id",
            *self._parties("sms"),
            timestamp(F.col("at")).alias("sent_at"),
            "parts",
            timestamp(F.col("written")).alias("recorded_at"),
        )

    def data_sessions(self, months: DataFrame) -> DataFrame:
        """The table `data_sessions`."""
        return self._records(self.sessions(months), "data").select(
            "id",
            "event_id",
            F.col("subscriber").alias("subscriber_id"),
            "msisdn",
            timestamp(F.col("at")).alias("started_at"),
            timestamp(_after("at", "seconds")).alias("ended_at"),
            (F.col("milli_mb").cast("decimal(18,0)") * F.lit("0.001").cast("decimal(4,3)"))
            .cast("decimal(18,3)")
            .alias("megabytes"),
            "cell_id",
            "region",
            timestamp(F.col("written")).alias("recorded_at"),
        )


def _after(start: str, seconds: str) -> Column:
    return F.col(start) + F.col(seconds).cast("bigint") * MICROSECONDS
