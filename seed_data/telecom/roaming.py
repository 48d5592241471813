"""Files about subscribers abroad: what each operator charges us, one file per week.

A row is a file, see `seed_data.common.folder`. Its name has the first day of the week. A second
version of a file has `_v2` in its name. `shares` lists the mistakes on purpose.
"""

from __future__ import annotations

import hashlib
from typing import NamedTuple

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from seed_data.common.dice import Dice, div, strings
from seed_data.common.parameters import DAY, MICROSECONDS
from seed_data.telecom import shares
from seed_data.telecom.parameters import TelecomParameters
from seed_data.telecom.rhythm import Rhythm
from seed_data.telecom.usage import event_key


class Operator(NamedTuple):
    """An operator abroad. `ending`: that of its files."""

    code: str
    currency: str
    ending: str


OPERATORS = (
    Operator("AUTTA", "EUR", ".csv.gz"),
    Operator("CHETB", "CHF", ".csv"),
    Operator("GBRTC", "GBP", ".csv.gz"),
)
HEADER = (
    "operator,record_id,subscriber_id,msisdn,kind,started_at,duration_seconds,quantity,amount,"
    "currency,recorded_at"
)
KINDS = {"data": 6, "voice": 3, "sms": 1}
PRICES = {"voice": 350, "sms": 60, "data": 25}
"""What a minute, a message and a megabyte cost, in ten-thousandths of the currency."""

TRIP = 0.05
"""Months in which a subscriber is abroad."""
EVENTS = 16
"""The most events of a trip."""

_WEEK = 7 * DAY
_MONDAY = 4 * DAY
"""The first Monday of 1970."""
_CORRECTED_AFTER = 10 * DAY


class Roaming:
    """The files of one seed."""

    def __init__(self, parameters: TelecomParameters, dice: Dice, rhythm: Rhythm) -> None:
        self._end = parameters.end
        self._dice = dice
        self._rhythm = rhythm
        # In the names, so that a file of another seed is no earlier version of a file of this one.
        of = f"{parameters.scale}/{parameters.seed}/{parameters.until}"
        self._run = hashlib.blake2b(of.encode(), digest_size=3).hexdigest()

    def files(self, months: DataFrame) -> DataFrame:
        """The table `records`: `name` and `content` of each file that was delivered."""
        lines = self._lines(self._in_files(self._events(months)))
        ordered = F.sort_array(F.collect_list(F.struct("recorded", "record_id", "line")))
        text = F.concat_ws("\n", F.lit(HEADER), ordered["line"], F.lit(""))
        return (
            lines.groupBy("name", "is_repeated")
            .agg(text.alias("content"))
            .select(F.explode(self._names()).alias("name"), "content")
        )

    def _events(self, months: DataFrame) -> DataFrame:
        """One row per event abroad. Those after the end are out."""
        dice, trip = self._dice, (F.col("subscriber"), F.col("m"))
        key = F.col("record_id")
        count = dice.integer(4, EVENTS - 3, "telecom.trip_events", *trip)
        kind = dice.weighted(KINDS, "telecom.abroad.kind", key)
        spread = -F.log(1 - dice.uniform("telecom.abroad.duration", key))
        seconds = F.when(F.col("kind") == "voice", 1 + spread * 180).when(
            F.col("kind") == "data", 1 + spread * 1_500
        )
        volume = 1 - F.log(1 - dice.uniform("telecom.abroad.volume", key)) * 40_000
        at = self._rhythm.moment("abroad", *trip, F.col("k"))
        return (
            months.where(dice.chance(TRIP, "telecom.trip", *trip))
            .select(
                "*",
                dice.integer(0, len(OPERATORS), "telecom.abroad", *trip).cast("int").alias("o"),
                F.explode(F.sequence(F.lit(0), count - 1)).alias("k"),
            )
            .select(
                *("subscriber", "m", "msisdn", "cancelled", "o"),
                event_key(F.col("k")).alias("record_id"),
                # Whole seconds, as the files have them.
                (div(at, MICROSECONDS) * MICROSECONDS).alias("at"),
            )
            .where(F.col("at") < F.coalesce("cancelled", F.lit(self._end)))
            .select("*", kind.alias("kind"))
            .select(
                "*",
                F.coalesce(seconds, F.lit(0.0)).cast("bigint").alias("seconds"),
                volume.cast("bigint").alias("milli_mb"),
            )
            .select("*", (F.col("at") + (F.col("seconds") + 60) * MICROSECONDS).alias("recorded"))
        )

    def _in_files(self, events: DataFrame) -> DataFrame:
        """One row per event, file and version of the file, as far as it was delivered."""
        dice, key = self._dice, F.col("record_id")
        later = F.when(
            dice.chance(shares.ROAMING_LATE, "telecom.abroad.late", key),
            dice.integer(1, 4, "telecom.abroad.weeks", key),
        ).otherwise(0)
        week = div(F.col("recorded") - _MONDAY, _WEEK) + later
        is_double = dice.chance(shares.ROAMING_DUPLICATE, "telecom.abroad.doubled", key)
        weeks = F.when(is_double, F.array(week, week + 1)).otherwise(F.array(week))
        file = (F.col("o"), F.col("week"))
        is_late = dice.chance(shares.ROAMING_FILE_LATE, "telecom.file.late", *file)
        delay = dice.integer(DAY, 27 * DAY, "telecom.file.delay", *file)
        delivered = _MONDAY + (F.col("week") + 1) * _WEEK + F.when(is_late, delay).otherwise(DAY)
        is_corrected = dice.chance(shares.ROAMING_FILE_CORRECTED, "telecom.file.corrected", *file)
        versions = F.when(F.col("is_corrected"), F.array(F.lit(0), F.lit(2))).otherwise(
            F.array(F.lit(0))
        )
        is_repeated = dice.chance(shares.ROAMING_FILE_REPEATED, "telecom.file.repeated", *file)
        arrived = F.col("delivered") + F.when(F.col("version") > 0, _CORRECTED_AFTER).otherwise(0)
        return (
            events.select("*", is_double.alias("is_double"), F.explode(weeks).alias("week"))
            .select("*", delivered.alias("delivered"), is_corrected.alias("is_corrected"))
            .select(
                "*",
                # An old version under another name would count beside the new one.
                (is_repeated & ~F.col("is_corrected")).alias("is_repeated"),
                F.explode(versions).alias("version"),
            )
            .where(arrived <= self._end)
        )

    def _lines(self, records: DataFrame) -> DataFrame:
        """The rows with their line, and the name of the file up to its ending."""
        dice, key = self._dice, F.col("record_id")
        is_second = F.col("version") > 0
        is_wrong = F.col("is_corrected") & ~is_second
        minutes = div(F.col("seconds") + 59, 60)
        amount = (
            F.when(F.col("kind") == "voice", minutes * PRICES["voice"])
            .when(F.col("kind") == "sms", PRICES["sms"])
            # What was begun counts.
            .otherwise(div(F.col("milli_mb") * PRICES["data"] + 999, 1000))
        )
        quantity = (
            F.when(F.col("kind") == "voice", minutes * 1000)
            .when(F.col("kind") == "sms", 1000)
            .otherwise(F.col("milli_mb"))
        )
        # Not of records in two files: nothing would say which of them is right.
        factor = F.when(
            is_wrong & ~F.col("is_double") & dice.chance(0.3, "telecom.abroad.wrong", key),
            F.lit(10),
        ).otherwise(F.lit(1))
        is_withdrawn = is_second & dice.chance(0.1, "telecom.abroad.withdrawn", key)
        fields = [
            F.col("operator"),
            key.cast("string"),
            F.col("subscriber").cast("string"),
            F.col("msisdn"),
            F.col("kind"),
            _moment(F.col("at")),
            F.col("seconds").cast("string"),
            _decimal(quantity, 3),
            _decimal(amount * factor, 4),
            strings([each.currency for each in OPERATORS])[F.col("o")],
            _moment(F.col("recorded")),
        ]
        # The second version of a file has no broken lines.
        broken = dice.uniform("telecom.abroad.broken", key, F.col("week"))
        line = (
            F.when(is_second | (broken >= shares.ROAMING_BROKEN), F.concat_ws(",", *fields))
            .when(broken < shares.ROAMING_BROKEN / 2, F.concat_ws(",", *fields[:6]))
            .otherwise(F.concat_ws(",", *fields[:8], F.lit("n/a"), *fields[9:]))
        )
        monday = F.timestamp_micros(_MONDAY + F.col("week") * _WEEK)
        name = F.concat(
            F.col("operator"),
            F.lit(f"/TAP_{self._run}_"),
            F.date_format(monday, "yyyyMMdd"),
            F.when(is_second, "_v2").otherwise(""),
        )
        return (
            records.where(~is_withdrawn)
            .select("*", strings([each.code for each in OPERATORS])[F.col("o")].alias("operator"))
            .select("recorded", "record_id", "is_repeated", name.alias("name"), line.alias("line"))
        )

    @staticmethod
    def _names() -> Column:
        """The names of a file: one, or two if it was delivered twice."""
        code = F.substring("name", 1, len(OPERATORS[0].code))
        endings = {each.code: each.ending for each in OPERATORS}
        ending = F.lit("")
        for known, text in endings.items():
            ending = F.when(code == known, text).otherwise(ending)
        once = F.concat("name", ending)
        again = F.concat("name", F.lit("_again"), ending)
        return F.when(F.col("is_repeated"), F.array(once, again)).otherwise(F.array(once))


def _moment(microseconds: Column) -> Column:
    return F.date_format(F.timestamp_micros(microseconds), "yyyy-MM-dd'T'HH:mm:ss'Z'")


def _decimal(whole: Column, digits: int) -> Column:
    """A whole number of parts as a decimal with so many digits, as text."""
    part = F.lit(f"{10**-digits:.{digits}f}").cast(f"decimal({digits + 1},{digits})")
    return (whole.cast("decimal(18,0)") * part).cast(f"decimal(18,{digits})").cast("string")
