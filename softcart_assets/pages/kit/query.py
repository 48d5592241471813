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
        return [each for each in self.cube.dimensions if each.grain == grain]

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
        """One row per event and kind of item. `events` marks one row of each event.

        So events can be counted where the page does not contain them singly.
        """
        names = ", ".join([*self.event, *self.item])
        columns = ", ".join(f"{sql} AS {name}" for name, sql in (self.event | self.item).items())
        sums = ", ".join(f"({self.amount(name)})::bigint AS {name}" for name in self.sums)
        total = ", ".join(f"sum({name})::bigint AS {name}" for name in self.sums)
        order = f"ORDER BY {', '.join(self.item.values())}" if self.item else ""
        of_event = f"OVER (PARTITION BY {self.cube.event} {order})"
        return f"""
            SELECT {names}, {total}, sum(is_first)::bigint AS events
            FROM (
              SELECT {columns}, {sums},
                     (row_number() {of_event} = 1)::int AS is_first
              FROM {self.cube.fact} f {self.cube.joins}
              WHERE {self.cube.where} AND {self.cube.day} >= %(first)s
            ) line
            GROUP BY {names}"""

    def ordered(self) -> str:
        """The rows, event by event, in the order of days."""
        return f"{self.rows()} ORDER BY {', '.join([*self.event, *self.item])}"

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
    for condition in cube.left_out.values():
        yield f"SELECT FROM {cube.fact} f WHERE {condition}"
    levels = (level for dimension in cube.dimensions for level in dimension.levels)
    yield from (names_query(level) for level in levels if level.names is not None)
    yield from (listing.sql for listing in page.listings())


def names_query(level: Level) -> str:
    """The names of a level's keys: `key` and `name`."""
    return f"SELECT each.key, each.name FROM ({level.names}) AS each (key, name)"
