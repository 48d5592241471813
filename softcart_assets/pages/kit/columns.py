"""The rows of a cube as columns of codes and amounts: of events, and of their items."""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

from softcart_assets.pages.kit.pack import (
    Amounts,
    Packer,
    combined,
    distinct_amounts,
    rest_of_ratio,
)
from softcart_assets.pages.kit.query import CubeQuery

Numbers = NDArray[np.int64]


@dataclass(frozen=True)
class Course:
    """Sums by month, named by its first day, from the day `first`: amounts of one currency.

    `currency`: the most frequent one, None where it is not known or the page has none. `months`:
    each summed measure, and `events`.
    """

    first: date
    currency: str | None
    months: dict[date, dict[str, int]]


class Codes(defaultdict[Any, int]):
    """A dictionary that numbers its keys in the order of their first use."""

    def __init__(self) -> None:
        super().__init__()
        self.default_factory = self.__len__

    def sorted(self) -> tuple[list[Any], Numbers]:
        """The keys in their order, tuples without what is unknown first, and each number's place.

        The rows come in about this order, so a column of places has small steps.
        """
        keys = sorted(self, key=lambda path: tuple((part is None, part) for part in path))
        places = np.empty(len(keys), dtype=np.int64)
        places[[self[key] for key in keys]] = np.arange(len(keys))
        return keys, places


class Columns:
    """Collects the rows of a `CubeQuery`, which begin on the day `first`."""

    def __init__(self, query: CubeQuery, first: date) -> None:
        self.query, self.first = query, first
        self.names = [*query.event, *query.item, *query.sums, "events"]
        self.codes = {each.name: Codes() for each in query.cube.dimensions}
        self.single = [
            name
            for name in ("hour", "actor")
            if getattr(query.cube, name) is not None and name not in query.rung.without
        ]
        self.actors = Codes()
        # Arrays of numbers, because lists of Python objects would need several times the memory.
        self.values = {
            name: array("q")
            for name in ("day", "begins", "events", *self.codes, *self.single, *query.sums)
        }
        self.current: tuple[Any, ...] | None = None

    def add(self, rows: Sequence[tuple[Any, ...]]) -> None:
        """Add rows, in the query's order."""
        columns = dict(zip(self.names, zip(*rows, strict=True), strict=True))
        events = list(zip(*(columns[name] for name in self.query.event), strict=True))
        before = [self.current, *events]
        self.current = events[-1]
        self.values["begins"].extend(was != now for was, now in zip(before, events, strict=False))
        for dimension, levels in self.query.levels.items():
            paths = zip(*(columns[name] for name, _ in levels), strict=True)
            self.values[dimension].extend(map(self.codes[dimension].__getitem__, paths))
        for name in ("day", "events", *self.query.sums):
            self.values[name].extend(columns[name])
        # An array has no null.
        if "hour" in self.single:
            self.values["hour"].extend(
                -1 if hour is None else int(hour) for hour in columns["hour"]
            )
        if "actor" in self.single:
            self.values["actor"].extend(
                -1 if actor is None else self.actors[(actor,)] for actor in columns["actor"]
            )

    def __getitem__(self, name: str) -> Numbers:
        """A column with an entry for each row."""
        return np.frombuffer(self.values[name], dtype=np.int64)

    def total(self, name: str) -> int:
        """The sum of a column."""
        return int(self[name].sum())

    def by_currency(self) -> dict[str | None, dict[str, int]]:
        """The sums of each currency, the most frequent first. None: not known, or no currency."""
        name = self.query.cube.currency
        if name is None:
            return {None: {each: self.total(each) for each in self.query.sums}}
        often, keys = self.often(name), list(self.codes[name])
        return {
            keys[code][0]: {
                each: int(self[each][self[name] == code].sum()) for each in self.query.sums
            }
            for code in np.argsort(-often, kind="stable")
        }

    def often(self, dimension: str) -> Numbers:
        """How many events each code of a dimension has."""
        found = np.zeros(len(self.codes[dimension]), dtype=np.int64)
        np.add.at(found, self[dimension], self[self.marked])
        return found

    def course(self) -> Course:
        """The sums by month in the most frequent currency, months without any event included."""
        is_shown = self._is_shown()
        days, of_row = np.unique(self["day"][is_shown], return_inverse=True)
        dates = [self.first + timedelta(days=int(day)) for day in days]
        spanned = range(_month(dates[0]), _month(dates[-1]) + 1)
        found = {
            date(month // 12, month % 12 + 1, 1): dict.fromkeys((*self.query.sums, "events"), 0)
            for month in spanned
        }
        for name, column in self._added().items():
            by_day = np.zeros(len(days), dtype=np.int64)
            np.add.at(by_day, of_row, self[column][is_shown])
            for day, value in zip(dates, by_day, strict=True):
                found[day.replace(day=1)][name] += int(value)
        return Course(self.first, next(iter(self.by_currency())), found)

    def sums(self, start: date, end: date) -> dict[str, int]:
        """The sums from one day to another in the most frequent currency, and `events`."""
        days, (low, high) = self["day"], ((day - self.first).days for day in (start, end))
        is_asked = self._is_shown() & (days >= low) & (days <= high)
        return {name: int(self[column][is_asked].sum()) for name, column in self._added().items()}

    def _is_shown(self) -> NDArray[np.bool_]:
        """Which rows are in the most frequent currency."""
        currency = self.query.cube.currency
        if currency is None:
            return np.ones(len(self["day"]), dtype=bool)
        return np.asarray(self[currency] == np.argmax(self.often(currency)))

    def _added(self) -> dict[str, str]:
        """The columns whose sums are those of measures and events."""
        return {name: name for name in self.query.sums} | {"events": self.marked}

    def parts(self) -> dict[str, int]:
        """How many parts, of either level, each dimension has."""
        return {
            name: len({path[: depth + 1] for path in codes for depth in range(len(path))})
            for name, codes in self.codes.items()
        }

    def named(self, names: Mapping[str, Mapping[str, str]]) -> dict[str, dict[str, str]]:
        """Of these names, by dimension and level, those of keys that the rows have.

        A large catalogue would take the room of the rows.
        """
        found = {}
        for each in self.query.cube.dimensions:
            for n, (level, _) in enumerate(
                zip(each.levels, self.query.levels[each.name], strict=False)
            ):
                known = names.get(f"{each.name}.{level.name}", {})
                used = {str(path[n]) for path in self.codes[each.name]}
                if known:
                    found[f"{each.name}.{level.name}"] = {
                        key: name for key, name in known.items() if key in used
                    }
        return found

    @property
    def marked(self) -> str:
        """The column whose sum is the number of events."""
        return "events" if "event" in self.query.rung.without else "begins"

    def packed(self, packer: Packer) -> dict[str, Any]:
        """The columns in the packer, and what stands for them."""
        places: dict[str, Numbers] = {}
        paths: dict[str, list[Any]] = {}
        for name, codes in self.codes.items():
            paths[name], order = codes.sorted()
            places[name] = order[self[name]]
        begins = np.flatnonzero(self["begins"])
        days = self["day"][begins]
        parts = {
            each.name: places[each.name][begins]
            for each in self.query.cube.dimensions
            if each.grain == "event"
        }
        # Parts depend on each other: what is bought in a store is not paid by bank transfer.
        kinds, examples = combined(list(parts.values()), len(begins))
        events = {"kind": packer.add(kinds)}
        if "hour" in self.single:
            hours = self["hour"][begins]
            # Hours since the day began are fewer than those of a week.
            since = (hours - 24 * ((days + self.first.weekday()) % 7)) % 168
            events["hour"] = packer.add(np.where(hours < 0, -1, since))
        if "actor" in self.single:
            _, order = self.actors.sorted()
            actors = np.append(order, -1)[self["actor"][begins]]
            events["actor"] = packer.add_codes(actors + 1, len(order) + 1)
        events["items"] = packer.add(np.diff(begins, append=len(self["day"])))
        items, follows = self._items(packer, places, paths)
        return {
            "days": packer.add_codes(days, int(days[-1]) + 1),
            "events": events,
            "kinds": {name: packer.add(column[examples]) for name, column in parts.items()},
            "items": items,
            "follows": follows,
            "marks": packer.add(self["events"]) if self.marked == "events" else None,
            "actors": len(self.actors),
            "often": {
                each.name: self._sorted_often(each.name)
                for each in self.query.cube.dimensions
                if each.is_single
            },
            "paths": {name: [list(path) for path in found] for name, found in paths.items()},
            **self._amounts(packer, places, paths),
        }

    def _sorted_often(self, dimension: str) -> list[int]:
        _, order = self.codes[dimension].sorted()
        return [int(count) for count in self.often(dimension)[np.argsort(order)]]

    def _items(
        self, packer: Packer, places: dict[str, Numbers], paths: dict[str, list[Any]]
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """The dimensions of items, and what of them follows from another one."""
        items, follows = {}, {}
        for each in self.query.cube.dimensions:
            if each.grain != "item":
                continue
            own, parent = places[each.name], each.of
            if parent and parent not in self.query.rung.without:
                pairs = np.unique(np.stack([places[parent], own]), axis=1)
                if pairs.shape[1] == len(paths[parent]):
                    follows[each.name] = packer.add(pairs[1])
                    continue
            items[each.name] = packer.add_codes(own, len(paths[each.name]))
        return items, follows

    def _amounts(
        self, packer: Packer, places: dict[str, Numbers], paths: dict[str, list[Any]]
    ) -> dict[str, Any]:
        """The amounts of items: distinct ones by the dimension with the most parts, or all."""
        sums = [self[name] for name in self.query.sums]
        items = [each.name for each in self.query.cube.dimensions if each.grain == "item"]
        if items:
            by = max(items, key=lambda name: len(paths[name]))
            found = distinct_amounts(places[by], sums, len(paths[by]))
            if found is not None:
                return {
                    "amountBy": by,
                    "amountRow": packer.add(found.rows),
                    "amountBegin": packer.add(found.begins),
                    "sums": self._distinct(packer, found),
                }
        return {
            "amountBy": None,
            "sums": {
                name: packer.add(column) for name, column in zip(self.query.sums, sums, strict=True)
            },
        }

    def _distinct(self, packer: Packer, amounts: Amounts) -> dict[str, Any]:
        """The columns of distinct amounts, by their ratio to the first where that is shorter."""
        first, *others = self.query.sums
        main = amounts.columns[0]
        packed: dict[str, Any] = {first: packer.add(main)}
        for name, column in zip(others, amounts.columns[1:], strict=True):
            ratio, rest = rest_of_ratio(amounts, main, column)
            if packer.size(ratio) + packer.size(rest) < packer.size(column):
                packed[name] = {"ratio": packer.add(ratio), "rest": packer.add(rest)}
            else:
                packed[name] = packer.add(column)
        return packed


def _month(day: date) -> int:
    """The number of a month since the year 0."""
    return day.year * 12 + day.month - 1
