"""Reads a declared cube and the listings of a page from `production.*`, in one transaction.

Amounts are whole numbers: money in cents. Days are numbers from the first day of the cube. The
result is ready to pack. What the figures mean is declared with the page.
"""

from __future__ import annotations

from array import array
from collections import defaultdict
from dataclasses import asdict, dataclass
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import psycopg
from psycopg.rows import dict_row

from softcart_assets.connections import PostgresConnection
from softcart_assets.lines.page import Dimension, Listing, Page, Rung
from softcart_assets.pages.kit.pack import Amounts, Packer, distinct_amounts, rest_of_ratio
from softcart_assets.pages.kit.query import CubeQuery, names_query
from softcart_assets.publishing import slots

ROW_LIMIT = 200_000
"""Maximum number of rows in a page. Each takes about 4 bytes of the file's 800 KB."""

_BATCH = 20_000


class PageError(RuntimeError):
    """Production cannot be shown. The message says why and what to do."""


@dataclass(frozen=True)
class Content:
    """What a page embeds: the archive, its production version, its rung and its plain sums.

    `totals`: each summed measure over all days of the page. `course`: each of them, and `events`,
    by month (its first day). Both are empty without any event.
    """

    archive: str
    version: int | None
    rung: Rung | None
    totals: dict[str, Decimal]
    course: dict[date, dict[str, int]]


class Codes(defaultdict[Any, int]):
    """A dictionary that numbers its keys in the order of their first use."""

    def __init__(self) -> None:
        super().__init__()
        self.default_factory = self.__len__


def read(production: PostgresConnection, page: Page) -> Content:
    """Read what a page shows, at one moment of production.

    Raises `PageError` if a published table is missing or the joins of the cube change its sums.
    """
    with production.connect() as session:
        # One transaction. In the next one, another version may be live.
        session.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        session.read_only = True
        # With this much memory, the events of a large line are not sorted on disk.
        session.execute("SET LOCAL work_mem = '64MB'")
        try:
            return _Reader(session, page).content()
        except (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedColumn) as error:
            raise PageError(
                f"Production lacks what the page {page.name} reads: "
                f"{error.diag.message_primary}. Publish all tables together: materialise the whole "
                "group `production`."
            ) from None


class _Reader:
    """Reads one `Content` over one open transaction."""

    def __init__(self, session: psycopg.Connection, page: Page) -> None:
        self.session, self.page, self.cube = session, page, page.cube
        self.packer = Packer()
        self.codes = {each.name: Codes() for each in self.cube.dimensions}
        self.course: dict[date, dict[str, int]] = {}

    def rows(self, query: str, **parameters: object) -> list[dict[str, Any]]:
        return self.session.cursor(row_factory=dict_row).execute(query, parameters).fetchall()

    def published(self) -> dict[str, Any] | None:
        """Version and time of the publication, None before the first."""
        (known,) = self.rows("SELECT to_regclass('production_meta.current') IS NOT NULL AS once")
        current = slots.read_current(self.session) if known["once"] else None
        if current is None:
            return None
        (row,) = self.rows("SELECT published_at AS at FROM production_meta.current")
        return {"version": current.version, "publishedAt": row["at"]}

    def content(self) -> Content:
        published = self.published()
        if published is None:
            return Content(self.packer.archive({"cube": None}), None, None, {}, {})
        description: dict[str, Any] = published | {"page": self.declaration(), "cube": None}
        cube = self.cube
        (span,) = self.rows(
            f"""
            SELECT min({cube.day}) AS first, max({cube.day}) AS last, max({cube.moment}) AS as_of
            FROM {cube.fact} f WHERE {cube.where}"""
        )
        if span["last"] is None:
            return Content(self.packer.archive(description), published["version"], None, {}, {})
        first, query = self.choose(span["first"], span["last"])
        (totals,) = self.rows(query.totals(), first=first)
        description |= {
            "asOf": span["as_of"],
            "first": first,
            "last": span["last"],
            "earlier": span["first"] < first,
            "rung": asdict(query.rung),
            "leftOut": self.left_out(),
            "cube": self.read_cube(query, first, totals),
            "listings": {each.name: self.listing(each) for each in self.page.listings()},
        }
        # After the cube and the listings, because only now the codes are known.
        description |= {"paths": self.paths(), "names": self.names()}
        archive = self.packer.archive(description)
        return Content(archive, published["version"], query.rung, totals, self.course)

    def declaration(self) -> dict[str, Any]:
        """What the script must know of the declaration: no SQL."""
        measures = [
            {
                "name": each.name,
                "label": each.label,
                "kind": each.kind,
                "sum": each.sql is not None,
                "plus": each.plus or None,
                "of": each.of,
                "counts": each.counts,
                "rising": each.rising,
                "settles": each.settles_days,
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
            told = asdict(block)
            told.pop("sql", None)
            blocks.append(told | {"type": type(block).__name__.lower()})
        return {
            "name": self.page.name,
            "period": self.page.period,
            "currency": self.cube.currency,
            "measures": measures,
            "dimensions": dimensions,
            "blocks": blocks,
        }

    def choose(self, earliest: date, last: date) -> tuple[date, CubeQuery]:
        """The first day and the query of the first rung whose rows fit into `ROW_LIMIT`."""
        first, query = earliest, CubeQuery(self.page, self.cube.ladder[-1])
        for rung in self.cube.ladder:
            # The day after the same date, so that a year has 365 or 366 days and not one more.
            first = max(earliest, years_before(last, rung.years) + timedelta(days=1))
            query = CubeQuery(self.page, rung)
            (found,) = self.rows(
                f"SELECT count(*) AS n FROM (SELECT 1 FROM ({query.rows()}) r"
                f" LIMIT {ROW_LIMIT + 1}) t",
                first=first,
            )
            if found["n"] <= ROW_LIMIT:
                break
        return first, query

    def read_cube(
        self, query: CubeQuery, first: date, totals: dict[str, Decimal]
    ) -> dict[str, Any]:
        """The cube by column: events, and their items in the order of the events.

        Raises `PageError` if its sums are not those of the fact.
        """
        columns = _Columns(query, self.codes)
        # A named cursor fetches the rows in batches. All rows at once could fill the memory.
        with self.session.cursor("cube", row_factory=dict_row) as cursor:
            cursor.itersize = _BATCH
            cursor.execute(query.ordered(), {"first": first})
            for row in cursor:
                columns.add(row)
        for name, total in totals.items():
            found = sum(columns.sums[name])
            if found != total:
                raise PageError(
                    f"The {name} read for the page {self.page.name} is {found}, that of "
                    f"{self.cube.fact} {total}. A dimension that the page joins has two current "
                    "rows for one key, or an amount has fractions of a cent: correct the warehouse "
                    "and publish again."
                )
        self.course = columns.course(first)
        return columns.packed(self.packer)

    def left_out(self) -> dict[str, int]:
        """How many rows of the fact the page does not show, by the declaration's words."""
        counts = {}
        for says, condition in self.cube.left_out.items():
            (row,) = self.rows(f"SELECT count(*) AS n FROM {self.cube.fact} f WHERE {condition}")
            counts[says] = row["n"]
        return counts

    def paths(self) -> dict[str, list[list[Any]]]:
        """The path of each code, by dimension."""
        return {name: [list(path) for path in codes] for name, codes in self.codes.items()}

    def names(self) -> dict[str, dict[str, str]]:
        """The names of keys that are none themselves, by dimension and level."""
        found = {}
        for dimension in self.cube.dimensions:
            for level in dimension.levels:
                if level.names is not None:
                    rows = self.session.execute(names_query(level)).fetchall()
                    found[f"{dimension.name}.{level.name}"] = {
                        str(key): name for key, name in rows if name is not None
                    }
        return found

    def listing(self, block: Listing) -> dict[str, list[Any]]:
        """The rows of a listing, by column."""
        cursor = self.session.execute(block.sql)
        values = list(zip(*cursor.fetchall(), strict=True))
        return {
            column.name: list(values[n]) if values else []
            for n, column in enumerate(cursor.description or ())
        }


class _Columns:
    """Collects the rows of a cube as columns of codes and amounts."""

    def __init__(self, query: CubeQuery, codes: dict[str, Codes]) -> None:
        self.query, self.codes = query, codes
        self.event_dimensions = [d for d in query.cube.dimensions if d.grain == "event"]
        self.item_dimensions = [d for d in query.cube.dimensions if d.grain == "item"]
        has_events = "event" not in query.rung.without
        self.single = [
            name
            for name in ("hour", "actor")
            if getattr(query.cube, name) is not None and name not in query.rung.without
        ]
        self.actors = Codes()
        # Arrays of numbers, because lists of Python objects would need several times the memory.
        names = ["day", *(d.name for d in self.event_dimensions), *self.single, "items"]
        self.events = {name: array("q") for name in names}
        self.items = {d.name: array("q") for d in self.item_dimensions}
        self.sums = {name: array("q") for name in query.sums}
        self.marks = None if has_events else array("q")
        self.current: tuple[Any, ...] | None = None

    def code(self, dimension: Dimension, row: dict[str, Any]) -> int:
        path = tuple(row[name] for name, _ in self.query.levels[dimension.name])
        return self.codes[dimension.name][path]

    def add(self, row: dict[str, Any]) -> None:
        """Add an item, and its event if it is the first."""
        event = tuple(row[name] for name in self.query.event)
        if event != self.current:
            self.current = event
            self.events["day"].append(row["day"])
            for dimension in self.event_dimensions:
                self.events[dimension.name].append(self.code(dimension, row))
            for name in self.single:
                value = row[name]
                if name == "actor" and value is not None:
                    value = self.actors[value]
                # An array has no null.
                self.events[name].append(-1 if value is None else int(value))
            self.events["items"].append(0)
        self.events["items"][-1] += 1
        for dimension in self.item_dimensions:
            self.items[dimension.name].append(self.code(dimension, row))
        for name, values in self.sums.items():
            values.append(row[name])
        if self.marks is not None:
            self.marks.append(row["events"])

    def course(self, first: date) -> dict[date, dict[str, int]]:
        """The sums and the number of events by month."""
        found: dict[date, dict[str, int]] = {}
        item = 0
        for event, day in enumerate(self.events["day"]):
            month = (first + timedelta(days=day)).replace(day=1)
            if month not in found:
                found[month] = dict.fromkeys((*self.sums, "events"), 0)
            end = item + self.events["items"][event]
            for name, values in self.sums.items():
                found[month][name] += sum(values[item:end])
            found[month]["events"] += 1 if self.marks is None else sum(self.marks[item:end])
            item = end
        return found

    def packed(self, packer: Packer) -> dict[str, Any]:
        """The columns in the packer, and what stands for them."""
        days = self.events.pop("day")
        follows, direct = {}, {}
        for dimension in self.item_dimensions:
            parent = dimension.of
            steps = parent and self._following(dimension.name, parent)
            if steps:
                follows[dimension.name] = packer.add(steps)
            else:
                direct[dimension.name] = packer.add(self.items[dimension.name])
        return {
            # Sorted, so the steps between days are small.
            "daySteps": packer.add([now - was for was, now in zip([0, *days], days, strict=False)]),
            "events": {name: packer.add(column) for name, column in self.events.items()},
            "items": direct,
            "follows": follows,
            "marks": None if self.marks is None else packer.add(self.marks),
            "actors": len(self.actors),
            **self._amounts(packer),
        }

    def _following(self, name: str, parent: str) -> list[int] | None:
        """The code of a dimension for each code of its parent; None if it does not follow."""
        if parent in self.query.rung.without:
            return None
        pairs = set(zip(self.items[parent], self.items[name], strict=True))
        if len(pairs) != len(self.codes[parent]):
            return None
        return [code for _, code in sorted(pairs)]

    def _amounts(self, packer: Packer) -> dict[str, Any]:
        """The amounts of items: distinct ones by the dimension with the most codes, or all."""
        columns = list(self.sums.values())
        if self.items:
            by = max(self.items, key=lambda name: len(self.codes[name]))
            found = distinct_amounts(self.items[by], columns, len(self.codes[by]))
            if found is not None:
                return {
                    "amountBy": by,
                    "amountRow": packer.add(found.rows),
                    "amountBegin": packer.add(found.begins),
                    "sums": self._distinct(packer, found),
                }
        return {
            "amountBy": None,
            "sums": {name: packer.add(column) for name, column in self.sums.items()},
        }

    def _distinct(self, packer: Packer, amounts: Amounts) -> dict[str, Any]:
        """The columns of distinct amounts, by their ratio to the first where that is shorter."""
        first, *others = self.sums
        main = amounts.columns[0]
        packed: dict[str, Any] = {first: packer.add(main)}
        for name, column in zip(others, amounts.columns[1:], strict=True):
            ratio, rest = rest_of_ratio(amounts, main, column)
            if packer.size(ratio) + packer.size(rest) < packer.size(column):
                packed[name] = {"ratio": packer.add(ratio), "rest": packer.add(rest)}
            else:
                packed[name] = packer.add(column)
        return packed


def years_before(day: date, years: int) -> date:
    """The same date so many years before. 29 February becomes 28 February where it must."""
    try:
        return day.replace(year=day.year - years)
    except ValueError:
        return day.replace(year=day.year - years, day=28)
