"""The SQL of a page: of its cube on each rung, and all of it together."""

from __future__ import annotations

from collections.abc import Iterator

from softcart_assets.lines.page import Dimension, Level, Page, Rung


def level_columns(dimension: Dimension) -> list[tuple[str, str]]:
    """The columns of a dimension in the query: its levels by name, with their SQL."""
    return [(f"{dimension.name}_{level.name}", level.sql) for level in dimension.levels]


class CubeQuery:
    """The SQL of a cube on one rung of its ladder."""

    def __init__(self, page: Page, rung: Rung) -> None:
        self.page, self.cube, self.rung = page, page.cube, rung
        self.sums = {each.name: each for each in page.measures if each.sql is not None}
        self.levels = {each.name: self._levels(each) for each in self.cube.dimensions}
        event = [("day", f"{self.cube.day} - %(first)s::date")]
        event += [column for each in self._grain("event") for column in self.levels[each.name]]
        for name in ("event", "hour", "actor"):
            expression = getattr(self.cube, name)
            if expression is not None:
                event.append((name, "NULL" if name in rung.without else expression))
        self.event = dict(event)
        items = self._grain("item")
        self.item = dict(column for each in items for column in self.levels[each.name])

    def _grain(self, grain: str) -> list[Dimension]:
        # What others follow from comes first, because rows are in this order.
        found = [each for each in self.cube.dimensions if each.grain == grain]
        return sorted(found, key=lambda each: each.of is not None)

    def _levels(self, dimension: Dimension) -> list[tuple[str, str]]:
        columns = level_columns(dimension)
        if dimension.name in self.rung.without:
            # The coarser of two levels stays.
            columns = columns[:-1] if len(columns) > 1 else [(columns[0][0], "NULL")]
        return columns

    def amount(self, name: str) -> str:
        """The SQL of a summed measure: money in cents."""
        measure = self.sums[name]
        return f"({measure.sql}) * {100 if measure.kind in ('money', 'amount') else 1}"

    def rows(self) -> str:
        """One row per event and kind of item.

        Where the page does not contain events singly, `events` has those of which this row is one,
        so that they can be counted.
        """
        names = ", ".join([*self.event, *self.item])
        columns = ", ".join(f"{sql} AS {name}" for name, sql in (self.event | self.item).items())
        sums = ", ".join(f"({self.amount(name)})::bigint AS {name}" for name in self.sums)
        total = ", ".join(f"sum({name})::bigint AS {name}" for name in self.sums)
        is_first = "1"
        if "event" in self.rung.without:
            order = f"ORDER BY {', '.join(self.item.values())}" if self.item else ""
            is_first = f"(row_number() OVER (PARTITION BY {self.cube.event} {order}) = 1)::int"
        return f"""
            SELECT {names}, {total}, sum(is_first)::bigint AS events
            FROM (
              SELECT {columns}, {sums}, {is_first} AS is_first
              FROM {self.cube.fact} f {self.cube.joins}
              WHERE {self.cube.where} AND {self.cube.day} >= %(first)s
            ) line
            GROUP BY {names}"""

    def ordered(self) -> str:
        """The rows, event by event, in the order of days. In a day, actors are in order."""
        first = [name for name in ("day", "actor", "event") if name in self.event]
        rest = [name for name in (*self.event, *self.item) if name not in first]
        return f"{self.rows()} ORDER BY {', '.join([*first, *rest])}"

    def facts(self) -> str:
        """The rows of the fact that `rows` sums."""
        return f"""
            SELECT 1 AS one FROM {self.cube.fact} f
            WHERE {self.cube.where} AND {self.cube.day} >= %(first)s"""

    def totals(self) -> str:
        """The same sums over the fact alone: without any join, and not rounded."""
        total = ", ".join(f"sum({self.amount(name)}) AS {name}" for name in self.sums)
        return f"""
            SELECT {total} FROM {self.cube.fact} f
            WHERE {self.cube.where} AND {self.cube.day} >= %(first)s"""


def queries(page: Page) -> Iterator[str]:
    """Every query of a page. The first is its cube, as whole as it gets."""
    cube = page.cube
    yield CubeQuery(page, cube.ladder[0]).rows()
    for condition in cube.remarks.values():
        yield f"SELECT FROM {cube.fact} f WHERE {condition}"
    levels = (level for dimension in cube.dimensions for level in dimension.levels)
    yield from (names_query(level) for level in levels if level.names is not None)
    yield from (listing.sql for listing in page.listings())
    yield from (query for insight in page.insights() for query in insight.sql.values())


def names_query(level: Level) -> str:
    """The names of a level's keys: `key` and `name`."""
    # MariaDB names the columns of a WITH, and not those of a subquery.
    return f"WITH each (key, name) AS ({level.names}) SELECT each.key, each.name FROM each"
