"""The workouts as documents: what was done, when by the person's clock, how far, how hard."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from seed_data.common.dice import Dice, numbers, strings, thresholds
from seed_data.common.parameters import DAY, MICROSECONDS
from seed_data.inspire import shares, truth
from seed_data.inspire.parameters import InspireParameters
from seed_data.inspire.texts import EXERCISES, NOTES

_TRIPS = ("Europe/London", "America/New_York", "Atlantic/Canary", "Asia/Tokyo", "Europe/Athens")
_LATE_BANDS = [band for band in truth.PEAK_HOURS if truth.PEAK_HOURS[band] > 12]

# Per activity: usual minutes, metres per second, and ascent per kilometre.
_MINUTES = {"run": 38, "walk": 45, "ride": 70, "swim": 34, "strength": 44, "yoga": 36}
_SPEEDS = {"run": 2.7, "walk": 1.4, "ride": 6.3, "swim": 0.8}
_CLIMBS = {"run": 7, "walk": 12, "ride": 9}


def date_of(moment: Column) -> Column:
    """Epoch microseconds as a date of MongoDB in Extended JSON."""
    text = F.date_format(F.timestamp_micros(moment), "yyyy-MM-dd'T'HH:mm:ss.SSS'Z'")
    return F.struct(text.alias("$date"))


def decimal_of(value: Column, digits: int = 1) -> Column:
    """A number as a Decimal128 in Extended JSON; null if it is."""
    text = value.cast(f"decimal(12,{digits})").cast("string")
    return F.when(value.isNotNull(), F.struct(text.alias("$numberDecimal")))


def utc(local: Column, zone: Column) -> Column:
    """The instant of a local time, both in epoch microseconds."""
    return F.unix_micros(F.to_utc_timestamp(F.timestamp_micros(local), zone))


def age_band(years: Column) -> Column:
    """See `truth.age_band`."""
    return _first(((years < below, F.lit(band)) for below, band in truth.AGE_BANDS)).otherwise(
        truth.LAST_BAND
    )


def day_key(user: Column, day: Column) -> Column:
    """One number for a person and a day."""
    # Until 2059, a day is below 2¹⁵.
    return user * 32768 + day


def by_name(name: Column, values: Mapping[str, float]) -> Column:
    """The value of a name; null if it has none."""
    return _first((name == each, F.lit(value)) for each, value in values.items())


def _first(cases: Iterable[tuple[Column, Column]]) -> Column:
    """The value of the first condition that is true."""
    pairs = iter(cases)
    column = F.when(*next(pairs))
    for condition, value in pairs:
        column = column.when(condition, value)
    return column


class Workouts:
    """The workouts of one seed."""

    def __init__(self, parameters: InspireParameters, dice: Dice) -> None:
        self._parameters = parameters
        self._dice = dice

    def activity_logs(self, base: DataFrame, days: DataFrame) -> DataFrame:
        """The collection `activity_logs`. `days`: see `habits`."""
        return self._documents(self._measured(self._started(base, days)))

    def _started(self, base: DataFrame, days: DataFrame) -> DataFrame:
        """One row per workout: who, what, and when."""
        dice = self._dice
        per_day = F.when(
            dice.chance(shares.TWICE_A_DAY, "inspire.twice", F.col("user_id"), F.col("day")),
            F.array(F.lit(0), F.lit(1)),
        ).otherwise(F.array(F.lit(0)))
        # Spark takes the days for a small table, because Python makes them from one. It would hold
        # them all in memory. People take 0.1 kB each.
        who = F.broadcast(base.select("user_id", "born_day", "zone", "goal"))
        key = F.col("key")
        trip = dice.pick(strings(_TRIPS), len(_TRIPS), "inspire.trip", key)
        away = dice.chance(shares.TRAVELLING, "inspire.away", key)
        started = F.col("day") * F.lit(DAY) + F.col("minute") * F.lit(60 * MICROSECONDS)
        return (
            days.join(who, "user_id")
            .select("*", F.explode(per_day).alias("again"))
            # A history has fewer than 2¹⁵ days.
            .select(
                "*", ((F.col("user_id") * 32768 + F.col("day")) * 2 + F.col("again")).alias("key")
            )
            .select(
                "*",
                age_band((F.col("day") - F.col("born_day")) / 365.25).alias("band"),
                F.when(away, trip).otherwise(F.col("zone")).alias("zone_there"),
                self._activity().alias("activity"),
            )
            .select("*", self._minute().alias("minute"))
            .select("*", utc(started, F.col("zone_there")).alias("started"))
        )

    def _activity(self) -> Column:
        """By the main goal."""
        draw = self._dice.uniform("inspire.activity", F.col("key"))

        def pulled(liked: Collection[str]) -> Column:
            weights = {
                name: share * (truth.GOAL_PULL if name in liked else 1)
                for name, share in truth.ACTIVITIES.items()
            }
            return thresholds(draw, weights)

        return _first(
            (F.col("goal") == goal, pulled(liked)) for goal, liked in truth.GOAL_ACTIVITIES.items()
        ).otherwise(pulled(()))

    def _minute(self) -> Column:
        """The local minute of the day. A second workout begins in an odd minute, the first one in
        an even one, so no two are the same.
        """
        dice, key, band = self._dice, F.col("key"), F.col("band")
        peak = by_name(band, truth.PEAK_HOURS)
        early = band.isin(*truth.EARLY_BANDS) & dice.chance(truth.EARLY_SHARE, "inspire.early", key)
        # 1 January 1970 was a Thursday.
        is_weekend = (F.col("day") + 3) % 7 >= 5
        later = F.when(is_weekend & band.isin(*_LATE_BANDS), truth.WEEKEND_LATER).otherwise(0)
        around = {str(step): float(share) for step, share in truth.AROUND_PEAK.items()}
        hour = (
            F.when(early, truth.EARLY_HOUR).otherwise(peak)
            + later
            + F.col("zone").isin(*truth.LATE_ZONES).cast("int")
            + thresholds(dice.uniform("inspire.hour", key), around).cast("int")
        )
        half = dice.integer(0, 30, "inspire.minute", key)
        return (F.least(hour, F.lit(23)) * 60 + half * 2 + F.col("again")).cast("bigint")

    def _measured(self, frame: DataFrame) -> DataFrame:
        """How long, how far, how hard, and when it was logged."""
        dice, key, user = self._dice, F.col("key"), F.col("user_id")
        spread = 0.6 + 0.8 * dice.uniform("inspire.minutes", key)
        fitness = 0.85 + 0.3 * dice.uniform("inspire.fitness", user)
        minutes = F.floor(by_name(F.col("activity"), _MINUTES) * spread)
        pace = by_name(F.col("activity"), _SPEEDS) * fitness
        form = 0.92 + 0.16 * dice.uniform("inspire.form", key)
        is_late = dice.chance(0.04, "inspire.late", key)
        delay = 1 + F.when(is_late, 4000).otherwise(20) * dice.uniform("inspire.delay", key)
        is_outdoor = F.col("activity").isin("run", "walk", "ride")
        device = dice.weighted(
            {"app": 58, "fit": 18, "api": 10, "gpx": 9, "tcx": 5}, "inspire.origin", key
        )
        plain = dice.weighted({"app": 88, "api": 12}, "inspire.origin", key)
        end = F.lit(self._parameters.end)
        return (
            frame.select(
                "*",
                # The seconds do not change the minute to which the length is rounded.
                (minutes * 60 + dice.integer(0, 30, "inspire.seconds", key)).alias("seconds"),
                minutes.cast("bigint").alias("minutes"),
                F.when(is_outdoor, device).otherwise(plain).alias("origin"),
            )
            .select(
                "*",
                (F.col("seconds") * pace * form).alias("metres"),
                (F.col("started") + F.col("seconds") * F.lit(MICROSECONDS)).alias("ended"),
            )
            .where((F.col("ended") < end) & (F.col("started") >= self._parameters.first_day * DAY))
            .select(
                "*",
                F.least(F.col("ended") + (delay * (60 * MICROSECONDS)).cast("bigint"), end).alias(
                    "logged"
                ),
            )
        )

    def _documents(self, frame: DataFrame) -> DataFrame:
        dice, key, activity = self._dice, F.col("key"), F.col("activity")
        corrected = F.when(
            dice.chance(shares.CORRECTED, "inspire.corrected", key),
            F.least(
                F.col("logged") + (dice.uniform("inspire.corrected_at", key) * DAY).cast("bigint"),
                F.lit(self._parameters.end),
            ),
        ).otherwise(F.col("logged"))
        start_minute = F.date_format(F.timestamp_micros("started"), "yyyy-MM-dd'T'HH:mm")
        effort = dice.weighted(
            {"2": 4, "3": 10, "4": 16, "5": 22, "6": 20, "7": 15, "8": 8, "9": 4, "10": 1},
            "inspire.effort",
            key,
        ).cast("int")
        climb = by_name(activity, _CLIMBS) * F.col("metres") / 1000
        watts = F.when(
            (activity == "ride") & (F.col("origin") == "fit"),
            110 + 130 * dice.uniform("inspire.watts", key),
        )
        document = F.struct(
            dice.uuid("inspire.id", key).alias("_id"),
            "user_id",
            "activity",
            date_of(F.col("started")).alias("started_at"),
            F.col("zone_there").alias("time_zone"),
            F.date_format(F.date_from_unix_date("day"), "yyyy-MM-dd").alias("local_date"),
            F.col("seconds").cast("int").alias("duration_seconds"),
            F.when(dice.chance(0.7, "inspire.told", key), effort).alias("effort"),
            F.when(
                dice.chance(0.08, "inspire.noted", key),
                dice.pick(strings(NOTES), len(NOTES), "inspire.note", key),
            ).alias("note"),
            "origin",
            F.concat_ws(":", activity, start_minute, F.col("minutes").cast("string")).alias(
                "fingerprint"
            ),
            decimal_of(F.col("metres")).alias("distance_m"),
            decimal_of(F.when(dice.chance(0.7, "inspire.climbed", key), climb)).alias("ascent_m"),
            decimal_of(watts).alias("average_watts"),
            decimal_of(F.when(activity == "swim", F.lit(25))).alias("pool_m"),
            F.when(
                activity == "swim",
                dice.weighted(
                    {"freestyle": 60, "breaststroke": 28, "backstroke": 8, "mixed": 4},
                    "inspire.stroke",
                    key,
                ),
            ).alias("stroke"),
            F.when(activity == "strength", self._sets()).alias("sets"),
            F.when(
                activity == "yoga",
                dice.weighted(
                    {"vinyasa": 40, "hatha": 30, "yin": 20, "power": 10}, "inspire.style", key
                ),
            ).alias("style"),
            date_of(F.col("logged")).alias("created_at"),
            date_of(corrected).alias("updated_at"),
        )
        return frame.select(F.to_json(document).alias("document"))

    def _sets(self) -> Column:
        """Three sets of each of one to three exercises."""
        dice, key = self._dice, F.col("key")
        names = strings([name for name, _ in EXERCISES])
        loads = numbers([load for _, load in EXERCISES])
        first = dice.integer(0, len(EXERCISES), "inspire.exercise", key)
        might = 0.6 + 0.8 * dice.uniform("inspire.might", F.col("user_id"))

        def one(number: Column) -> Column:
            place = ((first + F.floor(number / 3)) % len(EXERCISES)).cast("int")
            load = F.floor(loads[place] * might / 2.5) * 2.5
            return F.struct(
                names[place].alias("exercise"),
                dice.integer(6, 7, "inspire.repetitions", key, number)
                .cast("int")
                .alias("repetitions"),
                decimal_of(load).alias("load_kg"),
            )

        count = dice.integer(1, 3, "inspire.exercises", key) * 3
        return F.transform(F.sequence(F.lit(0), (count - 1).cast("int")), one)
