"""How a line declares a page: data only. `softcart_assets.pages.kit` turns it into a file.

A page shows a cube: events (orders, calls) that consist of items (order lines), on days. It sums
measures over the cube, split and filtered by dimensions. SQL here is PostgreSQL's, over
`production.*` or, on a page of a source, over `<source>.*`. Nothing in this module reads or writes
anything.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Kind = Literal["money", "amount", "count", "volume", "duration", "decimal", "rate", "text"]
"""How a value is shown. Money has cents, an amount (in columns, where the size counts) has not.

A volume is summed in kilobytes and shown in gigabytes. A duration: seconds, hours.
"""


class PageDeclarationError(ValueError):
    """A page's declaration contradicts itself. The message says where."""


@dataclass(frozen=True)
class Measure:
    """A figure. Exactly one of `sql`, `plus`, `of` and `counts` says where it comes from.

    `sql`: an expression over the columns of the fact `f`, summed over items. The page is smallest
    if the first is the one that the others are shares of, such as revenue.
    `plus`: other summed measures that are added, such as revenue and discount. `minus`: those that
    are then taken off.
    `of`: the ratio of two other measures. It is unknown where the second is 0.
    `counts`: distinct events, distinct actors, or actors with two events or more.
    `rising`: what a rise means. `settles_days`: younger days are not final, so comparisons leave
    them out. `target`: for a rate, its value; otherwise a factor on what the period before had.
    `definition`: a sentence for the reader.
    """

    name: str
    label: str
    kind: Kind
    definition: str
    sql: str | None = None
    plus: tuple[str, ...] = ()
    minus: tuple[str, ...] = ()
    of: tuple[str, str] | None = None
    counts: Literal["events", "actors", "repeaters"] | None = None
    rising: Literal["good", "bad", "neutral"] = "good"
    settles_days: int = 0
    target: float | None = None

    def parts(self) -> tuple[str, ...]:
        """The measures that it is made of."""
        return (*self.plus, *self.minus, *(self.of or ()))


@dataclass(frozen=True)
class Level:
    """A level of a dimension: the key's SQL and, where the key is no name, the name's SQL.

    `codes`: keys are ISO country codes, which the browser names.
    """

    name: str
    sql: str
    names: str | None = None
    codes: Literal["country"] | None = None


@dataclass(frozen=True)
class Dimension:
    """What splits and filters the cube: one level or two, such as country and region.

    `of`: the items' dimension from which this one follows, such as the product for its category.
    `is_single`: exactly one part is chosen at a time, such as the currency.
    """

    name: str
    label: str
    plural: str
    levels: tuple[Level, ...]
    grain: Literal["event", "item"] = "event"
    of: str | None = None
    is_filter: bool = True
    is_single: bool = False


@dataclass(frozen=True)
class Rung:
    """How much of the cube a page contains: so many years, without these columns.

    Columns are names of dimensions (their finer level, or all if they have one), `event`, `hour`
    and `actor`. `says`: a sentence for the reader about what is left out.
    """

    years: int
    without: tuple[str, ...] = ()
    says: str = ""


@dataclass(frozen=True)
class Cube:
    """The rows of a page. `fact` has the alias f. `joins` add its dimensions, one row to each.

    The other fields are SQL over them. `unit`: what a row is the sum of. That of a month has the
    month's first day. `hour`: the hour of the week, from 0 on Monday to 167.
    `currency`: the name of the dimension with the currency.
    `remarks`: rows of the fact that the page counts, by what it says of them. These are rows that
    `where` takes away, or of which something is not known.
    """

    fact: str
    joins: str
    where: str
    day: str
    event: str
    dimensions: tuple[Dimension, ...]
    ladder: tuple[Rung, ...]
    moment: str
    unit: Literal["day", "month"] = "day"
    hour: str | None = None
    actor: str | None = None
    currency: str | None = None
    remarks: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Column:
    """A column of a listing."""

    name: str
    label: str
    kind: Kind = "text"
    is_wide: bool = False
    has_bar: bool = False


@dataclass(frozen=True)
class Cards:
    """Figures that say most. Each shows its change, its target and a small line of its course.

    `has_headline`: the first is larger.
    """

    measures: tuple[str, ...]
    has_headline: bool = False


@dataclass(frozen=True)
class Trend:
    """A measure over time against the period that it is compared with."""

    measure: str
    height: int = 150


@dataclass(frozen=True)
class Ranking:
    """The parts of a dimension, by measures. The first has a bar and is compared.

    `is_flat`: the finer level at once, as for few stores that are compared whatever their channel.
    """

    dimension: str
    measures: tuple[str, ...]
    limit: int = 8
    is_flat: bool = False


@dataclass(frozen=True)
class Hours:
    """Events by hour of the day and by a dimension or weekday, as a table of shades."""

    by: str = "weekday"


@dataclass(frozen=True)
class Steps:
    """Measures that lead from one to the next, such as from gross to net, as bars."""

    title: str
    measures: tuple[str, ...]


@dataclass(frozen=True)
class Listing:
    """The rows of a query, as they are. It follows no period.

    `sql` returns `key` and the columns, money in whole cents. Without `sort`, the rows stay in its
    order. `follows`: by the name of a dimension, the query's columns with the parts of its path.
    `choice`: a column whose values the reader may choose from. `currency`: the column with the
    currency of a row's amounts. Without it, they are in the chosen one.
    """

    name: str
    title: str
    sql: str
    columns: tuple[Column, ...]
    sort: str | None
    note: str = ""
    limit: int = 8
    follows: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    choice: str | None = None
    currency: str | None = None

    def names(self) -> set[str]:
        """The columns that `sql` must return."""
        parts = (part for path in self.follows.values() for part in path)
        shown = (column.name for column in self.columns)
        others = filter(None, (self.sort, self.choice, self.currency))
        return {"key", *shown, *parts, *others}


@dataclass(frozen=True)
class Insight:
    """What statistics find in the rows of queries: a sentence, a figure with its interval, a
    picture and what to do. It follows no filter.

    `sql`: queries by name. `finder`: the function that makes a `Finding` of their rows, as
    `module:function`. It is imported when a page is made, as statistics need large libraries.
    `form`: how the points are drawn. Bars have intervals, lines a series each, shades a row for
    each series. `kind`: how the figure and the points are shown. `note`: how it is computed.
    """

    name: str
    title: str
    sql: Mapping[str, str]
    finder: str
    form: Literal["bars", "lines", "shades"]
    kind: Kind
    note: str


Rows = Sequence[Mapping[str, Any]]
"""The rows of a query, each by the names of its columns."""


@dataclass(frozen=True)
class Point:
    """A value of a picture. `of`: its series. `low`, `high`: its 95% interval, where it has one."""

    name: str
    value: float | None
    of: str = ""
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Finding:
    """What an insight says. `figure`: what `value` is, whose 95% interval is `low` to `high`.

    `alternative`: what the picture shows, for those who do not see it.
    """

    sentence: str
    figure: str
    value: float
    low: float
    high: float
    advice: str
    points: tuple[Point, ...]
    alternative: str


Block = Cards | Trend | Ranking | Hours | Steps | Listing | Insight


@dataclass(frozen=True)
class Section:
    """Blocks under a heading. `is_folded`: closed until the reader opens it."""

    name: str
    title: str
    blocks: tuple[Block, ...]
    note: str = ""
    is_folded: bool = False


@dataclass(frozen=True)
class Page:
    """A page for people. Raises `PageDeclarationError` where names do not fit.

    `period`, `compare`: what the reader sees at first, as the days, weeks or months up to the last
    (`7d`, `13w`, `12m`), compared with those a year before or directly before.
    `source`: the source whose own database it shows. Empty: it shows production.
    """

    name: str
    title: str
    cube: Cube
    measures: tuple[Measure, ...]
    sections: tuple[Section, ...]
    period: str = "12m"
    compare: Literal["year", "before"] = "year"
    source: str = ""

    def __post_init__(self) -> None:
        self._check_twice("measures", [measure.name for measure in self.measures])
        self._check_twice("dimensions", [each.name for each in self.cube.dimensions])
        self._check_twice("listings", [listing.name for listing in self.listings()])
        # The pictures of insights and measures are files beside each other.
        self._check_twice(
            "insights or measures",
            [*(each.name for each in self.insights()), *(each.name for each in self.measures)],
        )
        measures = {measure.name: measure for measure in self.measures}
        dimensions = {dimension.name: dimension for dimension in self.cube.dimensions}
        for measure in self.measures:
            origins = (measure.sql, measure.plus, measure.of, measure.counts)
            if sum(map(bool, origins)) != 1 or (measure.minus and not measure.plus):
                raise PageDeclarationError(
                    f"{self.name}: {measure.name} needs exactly one of sql, plus, of and counts, "
                    "and minus goes with plus only"
                )
            self._check(measure.parts(), measures, f"measure {measure.name}")
        self._check([self.cube.currency] if self.cube.currency else [], dimensions, "currency")
        for dimension in self.cube.dimensions:
            self._check([dimension.of] if dimension.of else [], dimensions, dimension.name)
        for block in self.blocks():
            self._check_block(block, measures, dimensions)

    def _check_block(
        self,
        block: Block,
        measures: Mapping[str, Measure],
        dimensions: Mapping[str, Dimension],
    ) -> None:
        where = type(block).__name__
        if isinstance(block, Cards | Ranking | Steps):
            self._check(block.measures, measures, where)
        if isinstance(block, Trend):
            self._check([block.measure], measures, where)
            self._check_counted(where, block.measure, measures)
        if isinstance(block, Hours):
            self._check_hours(block, dimensions)
        if isinstance(block, Listing):
            self._check(block.follows, dimensions, f"listing {block.name}")
        if isinstance(block, Ranking):
            self._check([block.dimension], dimensions, where)
            for name in block.measures:
                self._check_counted(where, name, measures)
                # An order with two categories of a department would count twice in it.
                if dimensions[block.dimension].grain == "item" and counted(measures, name):
                    raise PageDeclarationError(
                        f"{self.name}: {name} cannot be split by {block.dimension}, because "
                        "distinct counts do not add up over parts of an event"
                    )

    def _check_hours(self, block: Hours, dimensions: Mapping[str, Dimension]) -> None:
        if self.cube.hour is None:
            raise PageDeclarationError(f"{self.name}: Hours needs the cube's hour")
        if block.by == "weekday":
            return
        self._check([block.by], dimensions, "Hours")
        if dimensions[block.by].grain == "item":
            raise PageDeclarationError(
                f"{self.name}: Hours counts events, and {block.by} is a dimension of items"
            )

    def _check_counted(self, where: str, name: str, measures: Mapping[str, Measure]) -> None:
        if counted(measures, name) - {"events"}:
            raise PageDeclarationError(
                f"{self.name}: {where} splits {name}, but actors are counted for the whole period"
            )

    def _check_twice(self, kind: str, names: Sequence[str]) -> None:
        if twice := {name for name in names if names.count(name) > 1}:
            raise PageDeclarationError(
                f"{self.name}: two {kind} have the name {', '.join(sorted(twice))}"
            )

    def _check(self, names: Iterable[str], known: Mapping[str, object], where: str) -> None:
        for name in names:
            if name not in known:
                raise PageDeclarationError(
                    f"{self.name}: {where} names {name!r}. There are: {', '.join(known)}"
                )

    def blocks(self) -> Iterator[Block]:
        """All blocks, in the order of the page."""
        for section in self.sections:
            yield from section.blocks

    def listings(self) -> list[Listing]:
        """The listings among the blocks."""
        return [block for block in self.blocks() if isinstance(block, Listing)]

    def insights(self) -> list[Insight]:
        """The insights among the blocks."""
        return [block for block in self.blocks() if isinstance(block, Insight)]


def counted(measures: Mapping[str, Measure], name: str) -> set[str]:
    """What a measure counts distinctly, in itself or in its parts."""
    measure = measures[name]
    found = {measure.counts} if measure.counts else set()
    return found.union(*(counted(measures, part) for part in measure.parts()))
