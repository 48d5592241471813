"""Makes every table of the fitness application.

Rows depend on the parameters alone. What people are comes first. The days on which they train
follow, day after day (`habits`), and everything else is drawn for a person, a day or a workout.
`truth` says what is true of them, `shares` what goes wrong.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from seed_data.common.columns import timestamp
from seed_data.common.dice import Dice
from seed_data.common.model import Output
from seed_data.common.parameters import DAY, Parameters
from seed_data.common.words import Pools, ask_faker
from seed_data.inspire import catalogue, truth
from seed_data.inspire.choices import choices
from seed_data.inspire.habits import DAYS, Habits, in_pieces
from seed_data.inspire.messages import Messages
from seed_data.inspire.parameters import InspireParameters
from seed_data.inspire.people import Users
from seed_data.inspire.settings import preferences, sessions
from seed_data.inspire.workouts import Workouts

USERS_PER_PARTITION = 5_000
"""People per Spark task, and so per Parquet file."""


def sizes_of(parameters: Parameters) -> InspireParameters:
    """The parameters with the sizes of this line."""
    return InspireParameters(parameters.scale, parameters.seed, parameters.until)


def generate(parameters: Parameters, output: Output) -> None:
    """Write the tables that the output wants."""
    sizes = sizes_of(parameters)
    with ThreadPoolExecutor(max_workers=4, thread_name_prefix="generate") as threads:
        starting = threads.submit(output.spark)
        output.write("inspire.goals", catalogue.goals(sizes))
        output.write("inspire.quotes", catalogue.quotes(sizes))
        output.write("inspire.clubs", catalogue.clubs(sizes))
        output.write("inspire.challenges", catalogue.challenges(sizes))
        output.write("inspire_docs.product_metadata", catalogue.product_metadata(sizes))
        world = World(sizes, starting.result())
        base = output.stored("people", world.base())
        tables = world.tables(base)

        def write(name: str) -> None:
            output.write_frame(name, tables[name]())

        jobs = [threads.submit(write, name) for name in tables if output.wants(name)]
        try:
            for job in as_completed(jobs):
                job.result()
        except BaseException:
            # Tables that have not begun would only delay the error.
            threads.shutdown(cancel_futures=True)
            raise


class World:
    """Everything that Spark computes for one seed."""

    def __init__(self, parameters: InspireParameters, spark: SparkSession) -> None:
        self._parameters = parameters
        self._spark = spark
        self._dice = Dice(parameters.seed)
        self.users = Users(parameters, self._dice, Pools(ask_faker(parameters.seed)))
        self._workouts = Workouts(parameters, self._dice)
        self._messages = Messages(parameters, self._dice)
        self._partitions = max(
            spark.sparkContext.defaultParallelism, -(-parameters.users // USERS_PER_PARTITION)
        )

    def base(self) -> DataFrame:
        """One row per person, see `Users.base`."""
        return self.users.base(self._spark, self._partitions)

    def days(self, base: DataFrame) -> DataFrame:
        """One row per person and day with a workout, see `habits`."""
        sizes = self._parameters
        habits = Habits(self._dice, sizes.first_day - 365, sizes.first_day, sizes.last_day)
        never = self._dice.chance(truth.NEVER, "inspire.never", F.col("user_id"))
        people = base.where(~F.col("is_deleted") & ~never).select(
            "user_id", "created_day", "born_day", "region"
        )
        return people.mapInArrow(lambda some: habits.days(in_pieces(some)), DAYS)

    def tables(self, base: DataFrame) -> dict[str, Callable[[], DataFrame]]:
        """What makes each table. `base` is stored."""
        sizes, dice, messages = self._parameters, self._dice, self._messages
        consented = messages.consented(base)
        sent = messages.sent(base, consented)
        return {
            # The longest first.
            "inspire_docs.activity_logs": lambda: self._workouts.activity_logs(
                base, self.days(base)
            ),
            "inspire.choices": lambda: choices(sizes, dice, base),
            "inspire.messages": lambda: messages.messages(sent),
            "inspire.message_events": lambda: messages.message_events(sent),
            "inspire.users": lambda: self.users.users(base),
            "inspire.consents": lambda: messages.consents(consented),
            "inspire.user_goals": lambda: self.users.user_goals(base),
            "inspire.club_members": lambda: self._club_members(base),
            "inspire.suppressions": lambda: messages.suppressions(sent),
            "inspire_docs.preferences": lambda: preferences(sizes, dice, base),
            "inspire_sessions.sessions": lambda: sessions(sizes, dice, base),
        }

    def _club_members(self, base: DataFrame) -> DataFrame:
        dice, user, end = self._dice, F.col("user_id"), F.lit(self._parameters.end)
        since = F.greatest(F.col("created"), F.lit(self._parameters.first_day * DAY))
        joined = timestamp(
            since + (dice.uniform("inspire.joined", user) * (end - since)).cast("bigint")
        )
        return base.where(
            ~F.col("is_deleted") & dice.chance(catalogue.MEMBERS_IN, "inspire.in_club", user)
        ).select(
            dice.integer(1, self._parameters.clubs, "inspire.club", user).alias("club_id"),
            "user_id",
            joined.alias("joined_at"),
            joined.alias("updated_at"),
        )
