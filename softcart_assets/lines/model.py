"""The parts of a line of business's declaration: plain data without I/O, Dagster or client library.

The declarations themselves are in one folder per line next to this module. Some facts are read and
not declared: column types from the databases, keys and references of models from dbt.
`softcart_assets.assembly` validates all declarations together.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import Final, Literal

from softcart_assets.lines.page import Page
from softcart_assets.paths import REPOSITORY


def _place() -> str:
    """The file and line of the declaration that is being made, for error texts.

    Only the call stack knows it. An argument would have to be written into every declaration.
    """
    frame = sys._getframe(1)
    # Python names the code that it generates for dataclasses `<string>`.
    while frame.f_back and frame.f_code.co_filename in (__file__, "<string>"):
        frame = frame.f_back
    path = Path(frame.f_code.co_filename)
    shown = path.relative_to(REPOSITORY) if path.is_relative_to(REPOSITORY) else path
    return f"{shown}:{frame.f_lineno}"


@dataclass(frozen=True)
class Limit:
    """How far data may deviate, and why. `value`: a share, from 0 to 1, unless said otherwise."""

    value: Decimal
    reason: str
    declared_at: str = field(default_factory=_place, compare=False, repr=False)


class Privacy(StrEnum):
    """How a column's content relates to a person."""

    NONE = "none"
    """Says nothing about a person."""
    PII = "pii"
    """Identifies or describes a person."""
    SENSITIVE = "sensitive"
    """Would harm a person if it leaked: pay, health, payment instruments."""


NONE, PII, SENSITIVE = Privacy


CUSTOMER: Final = "customer"
CONTACTS: Final = ("email", "phone", "digest")
"""What a column may lead to, besides a column of another table: see `Table.person`."""


@dataclass(frozen=True)
class Column:
    """A column of a source table (for documents: a top-level field) and what it means."""

    name: str
    privacy: Privacy
    description: str = ""


@dataclass(frozen=True)
class FileFormat:
    """How the files of a table are named and written. They may be compressed with gzip.

    `names`: a regular expression. A file belongs to the table if it matches the whole path below
    the source's folder. The group `sequence` names what a file is a version of, and the group
    `version` is its number. Of the files of one sequence, the one with the highest version counts,
    and of equal versions the one that was changed last. Without the group, each name is a sequence.
    `types`: the PostgreSQL type of each column. The others are `text`.
    `quote`: the character around fields with separators or line breaks in them. Empty: none.
    `header`: whether the first line has the names of the columns. Otherwise they are those of the
    table, in that order.
    `nulls`: the texts that stand for NULL.
    `done`: the name of a file that says that another one is complete, such as `{name}.done`.
    """

    names: str
    types: Mapping[str, str] = field(default_factory=dict)
    separator: str = ","
    quote: str = '"'
    encoding: str = "utf-8"
    header: bool = True
    nulls: tuple[str, ...] = ("",)
    done: str | None = None


@dataclass(frozen=True)
class Table:
    """One source table or collection, or the files of one kind.

    `name`: letters, digits and `_`.
    `source_name`: the name at the source, if it is another one.
    `key`: the columns that identify a row. It may be empty, but not with the strategy
    `incremental`.
    `columns`: every column with its privacy class.
    `cursor`: a column that every insert and update sets to the current time.
    `history`: whether to keep every version of a row in `<table>_history`. Slowly changing
    dimensions need it.
    `lake_partition`: a timestamp column. The lake table is partitioned by its month.
    `daily`: a timestamp column. Each full day must have rows.
    `max_quarantined`: the share of its rows that may be in quarantine. With more, nothing is built
    from the table.
    `max_drop`, `max_growth`: the share of its rows that the table may lose, and the factor by which
    it may grow, both against the median of its last loads. Otherwise nothing is built from it.

    `format`: how its files are named and written, in a source of kind `files`.
    `person`: how the rows of a person are found: a column, and what its value is.
    `mentions`: the same for columns that name a person in rows of somebody else, such as the number
    at the other end of a call.

    - `customer` is the number of a customer of the line, as `int_<line>__customer_versions` has it.
    - `email` and `phone` are an address and a number. `digest` is the SHA-256 of one of them.
    - `<source>.<table>.<column>` is the value of this column in a row of the person.

    `strategy`: how the table is loaded.

    - `snapshot` copies the whole table each time.
    - `incremental` copies the rows past the stored value of `cursor`, and finds deletions by
      comparing keys. Of files, it reads those that are new. Of several records with one key, the
      one with the greatest `cursor` counts.
    - `cdc` copies the table once. It then follows MySQL's binary log, or the change stream of the
      collection.

    `contract`: what `cdc` does when the columns change at the source, and what a load does with
    files whose header has other columns.

    - `evolve`: raw gets the new columns. A dropped column stays, with NULL in rows that change
      later.
    - `freeze`: the table stops until somebody runs `softcart resnapshot`. Such a file is not
      loaded.
    - `quarantine`: raw keeps its columns. A row with values that do not fit goes to quarantine.
    """

    name: str
    description: str
    key: tuple[str, ...]
    strategy: Literal["snapshot", "incremental", "cdc"]
    columns: tuple[Column, ...]
    cursor: str | None = None
    history: bool = False
    lake_partition: str | None = None
    daily: str | None = None
    max_quarantined: Limit = field(
        default_factory=lambda: Limit(Decimal("0.01"), "Rows in quarantine are missing in figures.")
    )
    max_drop: Limit = field(
        default_factory=lambda: Limit(
            Decimal("0.2"), "A source that loses many rows at once was often emptied by mistake."
        )
    )
    max_growth: Limit = field(
        default_factory=lambda: Limit(
            Decimal(10), "A source that grows so fast often has all its rows several times."
        )
    )
    contract: Literal["evolve", "freeze", "quarantine"] = "evolve"
    source_name: str | None = None
    format: FileFormat | None = None
    person: Mapping[str, str] = field(default_factory=dict)
    mentions: Mapping[str, str] = field(default_factory=dict)
    declared_at: str = field(default_factory=_place, compare=False, repr=False)

    @property
    def at_source(self) -> str:
        """The name of the table at the source."""
        return self.source_name or self.name

    @property
    def privacy(self) -> Mapping[str, Privacy]:
        """The privacy class of every column, by name."""
        return {column.name: column.privacy for column in self.columns}


@dataclass(frozen=True)
class Where:
    """A condition on a column. A row counts only if it is true, so a NULL never counts.

    `value`: what the column is compared with. A tuple for `in` and `not in`, None for the others
    without a value.
    """

    column: str
    operator: Literal["=", "<>", "<", "<=", ">", ">=", "in", "not in", "is null", "is not null"]
    value: str | int | Decimal | bool | tuple[str | int, ...] | None = None


@dataclass(frozen=True)
class RunningTotal:
    """Totals per key over the rows of a source table: the table `ods.<name>`.

    Every load of the source brings them up to date in the transaction that moves its position. A
    load that reads the whole table counts all rows again. Others cost as much as they change.

    `table`: a table of the same source. It needs a key.
    `key`: the column whose values have totals. A row in which it is NULL counts for nobody.
    `measures`: name → the column that is added up, or `*` to count rows. Sums are exact, so a
    column of floating-point numbers is refused: declare a decimal.
    `where`: conditions that must all be true.
    `at`: the time of the event, in UTC. Only totals over a window need it.
    `identity`: columns that tell an event. Of several rows of one event, the row with the smallest
    key counts, whatever `where` says of it. If the first of these columns is NULL, the row is an
    event of its own.
    `by`: a column by whose values the totals stand apart, such as a currency. They are texts.
    `windows`: `life` is all time. `cycle` is a billing period, which begins on a day of the month
    in a time zone. `day` is a day in a time zone. Whoever reads the totals says day and zone.
    """

    name: str
    description: str
    table: str
    key: str
    measures: Mapping[str, str]
    where: tuple[Where, ...] = ()
    at: str | None = None
    identity: tuple[str, ...] = ()
    by: str | None = None
    windows: tuple[Literal["life", "cycle", "day"], ...] = ("life",)
    declared_at: str = field(default_factory=_place, compare=False, repr=False)

    @property
    def reads(self) -> tuple[str, ...]:
        """The columns of the source table that it adds up or that decide where, each once."""
        measured = (column for column in self.measures.values() if column != "*")
        others = (each.column for each in self.where)
        named = (self.key, self.at, self.by, *measured, *others)
        return tuple(dict.fromkeys(filter(None, named)))


@dataclass(frozen=True)
class Latest:
    """The last row of each key in a source table: the function `ods.<name>`.

    `at`: the time that decides, in UTC. Of rows with the same time, the one with the greatest key
    is the last. `columns`: what is told of that row.
    """

    name: str
    description: str
    table: str
    key: str
    at: str
    columns: tuple[str, ...]
    where: tuple[Where, ...] = ()
    declared_at: str = field(default_factory=_place, compare=False, repr=False)

    @property
    def reads(self) -> tuple[str, ...]:
        """The columns of the source table that it reads, each once."""
        others = (each.column for each in self.where)
        return tuple(dict.fromkeys((self.key, self.at, *self.columns, *others)))


@dataclass(frozen=True)
class Source:
    """One operational database.

    `kind`: the name of its connector in `softcart_assets.ingestion.connectors`. `prefix`: the start
    of the names of the environment variables with its connection. The default is `SOFTCART_<NAME>`.
    `totals`, `latest`: what the operational data store keeps of its tables. They belong to the
    source, so that no load of it can forget them.
    `reports`, `dashboards`: files for people that are computed on its own database, and read
    nothing else. Their SQL is PostgreSQL's, over `<source>.<table>` with the declared names.
    """

    name: str
    kind: str
    description: str
    tables: tuple[Table, ...]
    owner: str = ""
    """Who answers for the data, `team:…`. The default is the owner of the line."""
    purpose: str = ""
    """What the company needs the personal data for. It is told to whoever asks what we know."""
    prefix: str = ""
    totals: tuple[RunningTotal, ...] = ()
    latest: tuple[Latest, ...] = ()
    reports: tuple[Extract, ...] = ()
    dashboards: tuple[Dashboard, ...] = ()
    declared_at: str = field(default_factory=_place, compare=False, repr=False)

    @property
    def env_prefix(self) -> str:
        """The prefix of the environment variables with its connection."""
        return self.prefix or f"SOFTCART_{self.name.upper()}"

    @property
    def schema(self) -> str:
        """The schema of its raw tables. Their asset keys begin with it, and it is their group."""
        return f"raw_{self.name}"

    @property
    def lake(self) -> str:
        """The Hive database of its lake tables. Their keys begin with it, and it is their group."""
        return f"lake_{self.name}"

    @property
    def reporting(self) -> str:
        """The layer of its own reports. Their asset keys begin with it, and it is their group."""
        return f"{self.name}_reports"

    @property
    def reported(self) -> tuple[Extract | Dashboard, ...]:
        """What it reports about itself."""
        return (*self.reports, *self.dashboards)

    @property
    def kept(self) -> tuple[RunningTotal | Latest, ...]:
        """What the operational data store keeps of its tables."""
        return (*self.totals, *self.latest)

    def table(self, name: str) -> Table:
        """The declared table of that name. Raises `KeyError` with the known names."""
        for table in self.tables:
            if table.name == name:
                return table
        known = [table.name for table in self.tables]
        raise KeyError(f"{self.name} declares no table {name!r}; it has {known}")


@dataclass(frozen=True)
class AddsUp:
    """A column whose sum must equal the sum of a column of another published table.

    `where`: a condition in SQL that chooses rows of the other table.
    """

    column: str
    other_table: str
    other_column: str
    where: str = "true"


@dataclass(frozen=True)
class Published:
    """One table that people may read as `production.<name>`: a dbt model, an aggregate or scores.

    Its key, its references and its versions (SCD2) come from the tests of its dbt model. The key of
    an aggregate comes from the declaration of its Spark job, that of scores is their subject. All
    of them are audited before publication.

    `indexes`: lists of columns to index in addition to the key, such as the filters of a dashboard.
    `totals`: columns whose sums must equal those in staging to the last digit.
    `latest`: a time column whose latest day must be the same as in staging.
    `adds_up`: sums that must agree with other published tables.
    `pii`, `sensitive`: columns with personal data, if their names do not tell. A column is personal
    anyhow if it has the name of a personal column of a source table that the table is made from.
    `not_pii`: columns of such names that are not personal here, each with the reason.
    `may_be_empty`: whether the table may have no rows at all.
    `max_drop`: the share of its rows that a table may lose from one publication to the next. A
    table that goes back to its usual number of rows, the median of several versions, loses none.
    `max_growth`: the factor by which it may grow, against the last version or the usual number.
    """

    name: str
    indexes: tuple[tuple[str, ...], ...] = ()
    totals: tuple[str, ...] = ()
    latest: str | None = None
    adds_up: tuple[AddsUp, ...] = ()
    pii: tuple[str, ...] = ()
    sensitive: tuple[str, ...] = ()
    not_pii: Mapping[str, str] = field(default_factory=dict)
    may_be_empty: bool = False
    max_drop: Limit = field(
        default_factory=lambda: Limit(
            Decimal("0.1"), "A table that loses many rows at once was often built from too few."
        )
    )
    # Not less: a young business has 3 orders on one day and 20 on the next.
    max_growth: Limit = field(
        default_factory=lambda: Limit(
            Decimal(10),
            "A table that grows so fast often has its rows several times, or a time far ahead.",
        )
    )
    declared_at: str = field(default_factory=_place, compare=False, repr=False)


@dataclass(frozen=True)
class Job:
    """A Spark job that makes the aggregate `aggregates.<name>`. Its module is
    `spark/jobs/<line>/<name>.py`.

    `inputs`: the lake tables that its `transform` takes, in order, as `<source>.<table>`.
    `key`: the columns that identify a row of the aggregate.
    `history`: those inputs of which it takes every version of the rows instead of the current ones,
    see `spark.history`.
    """

    name: str
    inputs: tuple[str, ...]
    key: tuple[str, ...]
    history: tuple[str, ...] = ()
    declared_at: str = field(default_factory=_place, compare=False, repr=False)


@dataclass(frozen=True)
class Feature:
    """A column of a model's features. `text`: what it says to people, as a reason, with the value
    in the place of `{}`.

    `scale`: `log` is for counts and amounts, where one more weighs less the more there are. It
    wants numbers from 0 on.
    """

    name: str
    text: str
    scale: Literal["linear", "log"] = "linear"


class _Named:
    """What the names of a model's assets are made of."""

    name: str

    @property
    def scores(self) -> str:
        """The name of the table of scores."""
        return f"{self.name}_scores"

    @property
    def report(self) -> str:
        """The name of the page about its newest version."""
        return f"model_{self.name}"


@dataclass(frozen=True)
class Classifier(_Named):
    """A model of what will happen to a subject in a month: the probability that `target` is true.

    It makes two assets. `ml/<name>` is the model: trained, evaluated and registered. The table
    `ml.<name>_scores` has one row per subject, scored by the version with the alias `champion`.

    `features`: a Spark job of the line with one row per `subject` and `month`. Its columns must be
    what was known at `cut_off`, a month before `month` begins. This gap month is the time to act.
    `target`: a boolean column. It is null while nobody knows it, and for subjects to leave out.
    `position`: the column with the source positions up to which the features hold all changes.
    `ceiling`: the best AUC that can be true. What is better than that knows the future.
    `max_calibration_error`: how far probabilities may be from what happened, on average.
    `max_bias`: by which factor their sum may be above or below what happened.
    `min_lift`: how much more often the target must be true in the top decile than overall.
    `min_events`: with fewer true targets there is no candidate, as chance would decide.
    `test_months`: how many of the last months are predicted from earlier ones, for the evaluation.
    """

    name: str
    description: str
    features: str
    subject: str
    target: str
    inputs: tuple[Feature, ...]
    ceiling: Limit
    month: str = "month"
    cut_off: str = "cut_off_date"
    position: str = "data_position"
    max_calibration_error: Limit = field(
        default_factory=lambda: Limit(
            Decimal("0.02"), "Who adds up probabilities, such as expected losses, needs right ones."
        )
    )
    max_bias: Limit = field(
        default_factory=lambda: Limit(
            Decimal("1.5"),
            "Where few targets are true, probabilities that are twice too high are near to the "
            "right ones. A rate of the months before may differ by as much.",
        )
    )
    min_lift: Limit = field(
        default_factory=lambda: Limit(
            Decimal("1.5"), "A list of the top decile that is hardly better than chance is no help."
        )
    )
    min_events: int = 100
    test_months: int = 5
    declared_at: str = field(default_factory=_place, compare=False, repr=False)

    @property
    def key(self) -> tuple[str, ...]:
        """The columns that identify a row of the scores."""
        return (self.subject,)

    @property
    def grain(self) -> tuple[str, ...]:
        """The columns that identify a row of the features."""
        return (self.subject, self.month)

    @property
    def origins(self) -> Mapping[str, tuple[str, ...]]:
        """Each column of the scores, and the columns of the features that it comes from.

        What is said of a subject comes from its inputs. The rest is as in the features.
        """
        inputs = tuple(each.name for each in self.inputs)
        told = ("probability_pct", "decile", "reason_1", "reason_2", "reason_3", "contributions")
        return {
            self.subject: (self.subject,),
            "month": (self.month,),
            "cut_off_date": (self.cut_off,),
            **dict.fromkeys(told, inputs),
            "model_version": (),
            "data_position": (self.position,),
        }


@dataclass(frozen=True)
class Ranker(_Named):
    """A model of what a subject likes: in which order items should be shown to it.

    It makes two assets. `ml/<name>` is the model. The table `ml.<name>_scores` has the first
    `places` items of each subject, ranked by the version with the alias `champion`.

    `features`: a Spark job of the line with one row per `subject`, `item` and `month` in which it
    was shown: how often (`shown`), and how often the subject took it (`taken`). The rows of the
    last month count as what happened till now. Earlier months are over.
    `only`: a column and its value. Other rows of the features belong to another ranker.
    `alike`: columns by which subjects are like others, the most important one first: what is
    popular is counted by it. `traits`: columns by which items are.
    `reasons`: what is told to the subject, by what speaks most for the item: `popular`, one of
    `alike`, `own` (the item itself), one of `traits`, or `similar` (what similar subjects take).
    `position`: the column with the source positions up to which the features hold all changes.
    `ceiling`: the best NDCG@10 that can be true. What is better than that knows the future.
    `min_gain`: how much better it must be than the order by what is popular, as a share.
    `min_events`: with fewer items taken there is no candidate, as chance would decide.
    `test_months`: how many of the last months are predicted from earlier ones, for the evaluation.
    """

    name: str
    description: str
    features: str
    subject: str
    item: str
    only: tuple[str, str]
    alike: tuple[str, ...]
    traits: tuple[str, ...]
    reasons: Mapping[str, str]
    ceiling: Limit
    shown: str = "shown_count"
    taken: str = "taken_count"
    month: str = "month"
    position: str = "data_position"
    min_gain: Limit = field(
        default_factory=lambda: Limit(
            Decimal("0.1"), "An order that is hardly better than what is popular is not worth it."
        )
    )
    places: int = 30
    min_events: int = 500
    test_months: int = 2
    declared_at: str = field(default_factory=_place, compare=False, repr=False)

    @property
    def key(self) -> tuple[str, ...]:
        """The columns that identify a row of the scores."""
        return (self.subject, "place")

    @property
    def grain(self) -> tuple[str, ...]:
        """The columns that identify a row of the features."""
        return (self.subject, self.only[0], self.item, self.month)

    @property
    def inputs(self) -> tuple[str, ...]:
        """The columns of the features that an order is made of."""
        return (self.item, self.shown, self.taken, *self.alike, *self.traits)

    @property
    def origins(self) -> Mapping[str, tuple[str, ...]]:
        """Each column of the scores, and the columns of the features that it comes from."""
        return {
            self.subject: (self.subject,),
            "place": self.inputs,
            "item": (self.item,),
            "score": self.inputs,
            "reason": self.inputs,
            "model_version": (),
            "data_position": (self.position,),
        }


Model = Classifier | Ranker
"""What a line may declare to be trained, judged and registered."""


@dataclass(frozen=True)
class Extract:
    """A file for people.

    `columns`: name → description, in the order of the file.
    `sql`: one SELECT over `production.*` that returns exactly these columns. It casts each decimal
    to the precision and scale of the file. An extract that a source declares reads the tables of
    that source instead.
    `totals`: column → where the sum of its values comes from, if the joins of `sql` lose and double
    nothing, as `sum(x) FROM production.fact`. The file is compared with it.
    """

    name: str
    description: str
    columns: Mapping[str, str]
    sql: str
    totals: Mapping[str, str] = field(default_factory=dict)
    declared_at: str = field(default_factory=_place, compare=False, repr=False)


@dataclass(frozen=True)
class Dashboard:
    """A page for people, made from published tables: the asset `extracts/<name>`, `<name>.html`.

    `page`: its declaration. While the tables that its SQL names are the same, it is not written
    again. A page that a source declares is made from the tables of that source, each time.
    """

    name: str
    description: str
    page: Page
    declared_at: str = field(default_factory=_place, compare=False, repr=False)


@dataclass(frozen=True)
class Setting:
    """An environment variable that a line's application reads, for `.env.example`."""

    name: str
    description: str
    example: str = ""


@dataclass(frozen=True)
class Line:
    """A line of business: its source systems, and everything that is made from them.

    `name`: the name of its folder in `softcart_assets/lines/`. Its folders of dbt models, Spark
    jobs and seed data have the same name.
    `owner`: who answers for all of it, `team:…`. `settings`: those of its application.
    """

    name: str
    description: str
    owner: str
    sources: tuple[Source, ...] = ()
    published: tuple[Published, ...] = ()
    jobs: tuple[Job, ...] = ()
    models: tuple[Model, ...] = ()
    extracts: tuple[Extract, ...] = ()
    dashboards: tuple[Dashboard, ...] = ()
    settings: tuple[Setting, ...] = ()
    declared_at: str = field(default_factory=_place, compare=False, repr=False)

    def owner_of(self, source: Source) -> str:
        """Who answers for a source of the line."""
        return source.owner or self.owner

    def tables(self) -> Iterator[tuple[Source, Table]]:
        """Every source table of the line with its source."""
        return ((source, table) for source in self.sources for table in source.tables)
