"""Reads a declared cube and the listings of a page, in one transaction.

Amounts are whole numbers: money in cents. Days are numbers from the first day of the cube. The
result is ready to pack. What the figures mean is declared with the page.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

from softcart_assets.connections import PostgresConnection
from softcart_assets.lines.page import Finding, Insight, Listing, Page, Rung
from softcart_assets.pages.kit.columns import Columns, Course
from softcart_assets.pages.kit.database import Database, PageError, production
from softcart_assets.pages.kit.figures import First, first_shown
from softcart_assets.pages.kit.pack import Packer
from softcart_assets.pages.kit.query import CubeQuery, names_query

ROW_LIMIT = 300_000
"""A page with more rows is too large, whatever is in them."""

ARCHIVE_LIMIT = 735_000
"""Maximum length of the data. With the kit, a page then has 800 KB. A row takes 3 to 5 bytes."""

_BATCH = 20_000


@dataclass(frozen=True)
class Content:
    """What a page embeds: the archive, its production version, its rung and its plain sums.

    `totals`: by currency, each summed or added measure over all days of the page. `first`: what it
    shows at first. `parts`: how many parts each dimension has. `findings`: those of the insights
    that have enough data. Without any event, these and `course` are empty.
    """

    archive: str
    version: int | None
    rung: Rung | None
    totals: dict[str | None, dict[str, int]]
    course: Course | None
    first: First | None = None
    parts: Mapping[str, int] = field(default_factory=dict)
    findings: Mapping[str, Finding] = field(default_factory=dict)


def read(connection: PostgresConnection, page: Page) -> Content:
    """Read what a page shows, at one moment of production.

    Raises `PageError` if a published table is missing or the joins of the cube change its sums.
    """
    return read_from(production(connection, page.name), page)


def read_from(database: AbstractContextManager[Database], page: Page) -> Content:
    """Read what a page shows, at the moment of a database. Raises as `read`."""
    with database as moment:
        return _Reader(moment, page).content()


class _Reader:
    """Reads one `Content` over one open transaction."""

    def __init__(self, database: Database, page: Page) -> None:
        self.database, self.page, self.cube = database, page, page.cube

    def rows(self, query: str, **parameters: object) -> list[dict[str, Any]]:
        names, rows = self.database.table(query, parameters)
        return [dict(zip(names, row, strict=True)) for row in rows]

    def content(self) -> Content:
        published = self.database.published()
        if published is None:
            return Content(Packer().archive({"cube": None}), None, None, {}, None)
        description: dict[str, Any] = published | {"page": self.declaration(), "cube": None}
        cube = self.cube
        (span,) = self.rows(
            f"""
            SELECT min({cube.day}) AS first, max({cube.day}) AS last, max({cube.moment}) AS as_of
            FROM {cube.fact} f WHERE {cube.where}"""
        )
        if span["last"] is None:
            return Content(Packer().archive(description), published["version"], None, {}, None)
        description |= {
            "asOf": span["as_of"],
            "last": span["last"],
            "remarks": self.remarks(),
            "listings": {each.name: self.listing(each) for each in self.page.listings()},
        }
        names = self.names()
        for first, query in self.rungs(span["first"], span["last"]):
            (totals,) = self.rows(query.totals(), first=first)
            columns = self.read_cube(query, first, totals)
            packer = Packer()
            described = description | {
                "first": first,
                "earlier": span["first"] < first,
                "rung": asdict(query.rung),
                "names": columns.named(names),
                "cube": columns.packed(packer),
            }
            archive = packer.archive(described)
            if len(archive) <= ARCHIVE_LIMIT:
                break
        else:
            archive = packer.archive(described | {"isTooLarge": True})
        sums = {
            currency: found | self.added(found) for currency, found in columns.by_currency().items()
        }
        course = columns.course()
        return Content(
            archive,
            published["version"],
            query.rung,
            sums,
            course,
            first_shown(self.page, first, span["last"], course.currency, columns.sums),
            columns.parts(),
            {each.name: told for each in self.page.insights() if (told := self.finding(each))},
        )

    def finding(self, insight: Insight) -> Finding | None:
        """What the statistics of an insight find. None: there are not enough data."""
        module, _, name = insight.finder.partition(":")
        found: Finding | None = getattr(importlib.import_module(module), name)(
            {name: self.rows(query) for name, query in insight.sql.items()}
        )
        return found

    def added(self, sums: dict[str, int]) -> dict[str, int]:
        """The totals of the measures that add up these."""
        return {
            each.name: sum(map(sums.__getitem__, each.plus))
            - sum(map(sums.__getitem__, each.minus))
            for each in self.page.measures
            if each.plus and sums.keys() >= {*each.plus, *each.minus}
        }

    def declaration(self) -> dict[str, Any]:
        """What the script must know of the declaration: no SQL."""
        measures = [
            {
                "name": each.name,
                "label": each.label,
                "kind": each.kind,
                "sum": each.sql is not None,
                "plus": each.plus or None,
                "minus": each.minus,
                "of": each.of,
                "counts": each.counts,
                "rising": each.rising,
                "settles": each.settles_days,
                "target": each.target,
            }
            for each in self.page.measures
        ]
        dimensions = [
            {
                "name": each.name,
                "label": each.label,
                "plural": each.plural,
                "grain": each.grain,
                "of": each.of,
                "filter": each.is_filter,
                "levels": len(each.levels),
                "levelNames": [level.name for level in each.levels],
                "codes": [level.codes for level in each.levels],
                "single": each.is_single,
            }
            for each in self.cube.dimensions
        ]
        blocks = []
        for block in self.page.blocks():
            # No SQL, and nothing of an insight: the script does not draw it.
            told = {} if isinstance(block, Insight) else asdict(block)
            told.pop("sql", None)
            blocks.append(told | {"type": type(block).__name__.lower()})
        return {
            "name": self.page.name,
            "period": self.page.period,
            "compare": self.page.compare,
            "unit": self.cube.unit,
            "currency": self.cube.currency,
            "measures": measures,
            "dimensions": dimensions,
            "blocks": blocks,
        }

    def rungs(self, earliest: date, last: date) -> Iterator[tuple[date, CubeQuery]]:
        """The first day and the query of each rung whose rows fit, and of the last one anyway."""
        tried = set()
        for rung in self.cube.ladder:
            # The day after the same date, so that a year has 365 or 366 days and not one more.
            first = max(earliest, years_before(last, rung.years) + timedelta(days=1))
            if self.cube.unit == "month" and first.day > 1:
                # The row of a month is of its first day.
                first = (first.replace(day=1) + timedelta(days=31)).replace(day=1)
            query = CubeQuery(self.page, rung)
            is_last = rung == self.cube.ladder[-1]
            # Fewer years are no step down where the data have not so many.
            if (first, rung.without) in tried and not is_last:
                continue
            tried.add((first, rung.without))
            # No more than the fact's own rows, which are counted far faster.
            if is_last or self.fits(query.facts(), first) or self.fits(query.rows(), first):
                yield first, query

    def fits(self, rows: str, first: date) -> bool:
        """Whether a page has room for these rows."""
        limited = f"SELECT 1 AS one FROM ({rows}) found LIMIT {ROW_LIMIT + 1}"
        (counted,) = self.rows(f"SELECT count(*) AS n FROM ({limited}) rows", first=first)
        return bool(counted["n"] <= ROW_LIMIT)

    def read_cube(self, query: CubeQuery, first: date, totals: dict[str, Decimal]) -> Columns:
        """The rows of the cube. Raises `PageError` if its sums are not those of the fact."""
        columns = Columns(query, first)
        # All rows at once could fill the memory.
        for rows in self.database.batches(query.ordered(), {"first": first}, _BATCH):
            columns.add(rows)
        for name, total in totals.items():
            found = columns.total(name)
            if found != total:
                raise PageError(
                    f"The {name} read for the page {self.page.name} is {found}, that of "
                    f"{self.cube.fact} {total}. A dimension that the page joins has two current "
                    "rows for one key, or an amount has fractions of a cent: correct the warehouse "
                    "and publish again."
                )
        return columns

    def remarks(self) -> dict[str, int]:
        """How many rows of the fact need a remark, by the declaration's words."""
        counts = {}
        for says, condition in self.cube.remarks.items():
            (row,) = self.rows(f"SELECT count(*) AS n FROM {self.cube.fact} f WHERE {condition}")
            counts[says] = row["n"]
        return counts

    def names(self) -> dict[str, dict[str, str]]:
        """The names of keys that are none themselves, by dimension and level."""
        found = {}
        for dimension in self.cube.dimensions:
            for level in dimension.levels:
                if level.names is not None:
                    _, rows = self.database.table(names_query(level), {})
                    found[f"{dimension.name}.{level.name}"] = {
                        str(key): name for key, name in rows if name is not None
                    }
        return found

    def listing(self, block: Listing) -> dict[str, list[Any]]:
        """The rows of a listing, by column. Raises `PageError` if one is missing."""
        names, rows = self.database.table(block.sql, {})
        if missing := block.names() - {*names}:
            raise PageError(
                f"The listing {block.name} of the page {self.page.name} lacks the columns "
                f"{', '.join(sorted(missing))}: its SQL must return them."
            )
        values = list(zip(*rows, strict=True))
        return {name: list(values[n]) if values else [] for n, name in enumerate(names)}


def years_before(day: date, years: int) -> date:
    """The same date so many years before. 29 February becomes 28 February where it must."""
    try:
        return day.replace(year=day.year - years)
    except ValueError:
        return day.replace(year=day.year - years, day=28)
