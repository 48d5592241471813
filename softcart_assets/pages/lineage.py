"""Finds the tables and columns of a page in the SQL that it declares."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from softcart_assets import lineage
from softcart_assets.lines.model import Dashboard, Source
from softcart_assets.lines.page import Hours, Measure, Page
from softcart_assets.pages.kit.query import CubeQuery, names_query, queries


@dataclass(frozen=True)
class Shown:
    """A figure or a part of a page, and the published columns that its values come from."""

    name: str
    kind: str
    description: str
    origins: lineage.Origins


def tables(dashboard: Dashboard, published: Collection[str]) -> tuple[str, ...]:
    """The published tables that the page reads, in the order of their names.

    `published`: the names of all published tables. Raises `ForeignTable`.
    """
    return lineage.known_tables(dashboard, queries(dashboard.page), published)


def source_tables(dashboard: Dashboard, source: Source) -> tuple[str, ...]:
    """The tables that a page of a source reads, in the order of their names.

    Raises `ForeignTable` if it reads anything else.
    """
    declared = {table.name for table in source.tables}
    return lineage.known_tables(dashboard, queries(dashboard.page), declared, source.name)


def tables_read(dashboard: Dashboard) -> tuple[str, ...]:
    """The tables of `production` that the page names, in order. Raises `ForeignTable`."""
    return lineage.tables_read(dashboard, queries(dashboard.page))


def may_change_by_itself(dashboard: Dashboard) -> bool:
    """Whether the page may differ although its tables do not."""
    return any(map(lineage.may_change_by_itself, queries(dashboard.page)))


def shown(page: Page) -> Iterator[Shown]:
    """What a page shows: measures, dimensions by level, and the columns of listings."""
    cube = lineage.sources(CubeQuery(page, page.cube.ladder[0]).rows())
    measures = {measure.name: measure for measure in page.measures}

    def of(measure: Measure) -> set[tuple[str, str]]:
        if measure.sql is not None:
            return {*cube[measure.name]}
        if measure.counts is not None:
            return {*cube["event" if measure.counts == "events" else "actor"]}
        return set().union(*(of(measures[name]) for name in measure.parts()))

    yield Shown("day", "date", "The day of the period.", cube["day"])
    if any(isinstance(block, Hours) for block in page.blocks()):
        yield Shown("hour", "count", "The hour of the week.", cube["hour"])
    for measure in page.measures:
        origins = tuple(sorted(of(measure)))
        yield Shown(measure.name, measure.kind, f"{measure.label}. {measure.definition}", origins)
    for dimension in page.cube.dimensions:
        for level in dimension.levels:
            found = {*cube[f"{dimension.name}_{level.name}"]}
            if level.names is not None:
                found |= {*lineage.sources(names_query(level))["name"]}
            name = f"{dimension.name}.{level.name}"
            yield Shown(name, "text", f"{dimension.label}.", tuple(sorted(found)))
    for listing in page.listings():
        columns = lineage.sources(listing.sql)
        for column in listing.columns:
            text = f"{listing.title}: {column.label}."
            yield Shown(f"{listing.name}.{column.name}", column.kind, text, columns[column.name])
    for insight in page.insights():
        found = {origin for sql in insight.sql.values() for origin in _all(lineage.sources(sql))}
        text = f"{insight.title}. {insight.note}"
        yield Shown(insight.name, insight.kind, text, tuple(sorted(found)))


def finders(page: Page) -> tuple[str, ...]:
    """The modules that compute what the page finds, in the order of their names."""
    return tuple(sorted({insight.finder.partition(":")[0] for insight in page.insights()}))


def _all(sources: Mapping[str, lineage.Origins]) -> set[tuple[str, str]]:
    """The origins of all columns of a query."""
    return {origin for origins in sources.values() for origin in origins}
