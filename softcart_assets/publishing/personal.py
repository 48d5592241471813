"""Finds published columns with personal values that no class hides.

A class goes by the name of a column, see `tables`. A model may give a column another name, or make
another column of its values. Only the lineage of the built models shows that.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from functools import cache

from softcart_assets.lines.model import Line, Privacy
from softcart_assets.publishing.tables import UNKNOWN, PublishedTable

Column = tuple[str, str, str]
"""A schema, a table and a column of it. The schema of a table of the lake is its database."""

OF_VERSIONS = frozenset({"valid_from", "valid_to", "is_current", "version_number"})
"""They tell when the values of a row changed, and show none of them."""


def unclassed(
    tables: Collection[PublishedTable],
    lines: Iterable[Line],
    origins: Mapping[tuple[str, str], Mapping[str, Collection[Column]]],
) -> dict[str, dict[str, Column]]:
    """By published table, the columns with personal values, and a source's column with these.

    Those are left out that have a class, or a reason to have none. `origins`: for each model and
    aggregate, where the values of its columns come from.
    """
    personal = {
        (schema, name, column)
        for line in lines
        for source, table in line.tables()
        for schema, name in (
            (source.schema, table.name),
            (source.schema, f"{table.name}_history"),
            (source.lake, table.name),
        )
        for column, privacy in table.privacy.items()
        if privacy is not Privacy.NONE
    }

    # A key is a hash. docs/operations.md says what can be computed from it. But that of a dimension
    # whose unknown member has a number, or a date, is a value.
    values = {
        reference.column
        for table in tables
        for reference in table.references
        if reference.unknown != UNKNOWN
    }

    @cache
    def source_of(column: Column) -> Column | None:
        schema, table, name = column
        if column in personal:
            return column
        if name in OF_VERSIONS or (name.endswith("_key") and name not in values):
            return None
        found = map(source_of, sorted(origins.get((schema, table), {}).get(name, ())))
        return next(filter(None, found), None)

    result: dict[str, dict[str, Column]] = {}
    for table in tables:
        classed = {*table.pii, *table.sensitive, *table.declared.not_pii}
        for name in origins.get((table.schema, table.name), {}).keys() - classed:
            if source := source_of((table.schema, table.name, name)):
                result.setdefault(table.name, {})[name] = source
    return result
