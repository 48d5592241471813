"""The tables and files that are made from those of the sources: their personal columns, and how a
person is found in them.

Both follow from the lineage of columns, which the last builds recorded. A value is the same as at
its source if its column has the same name, or one that ends in `_id`: `docs/naming.md` keeps this
ending for keys of sources. Any other column is computed, such as a number of customers.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from softcart_assets.ingestion.connectors import connector
from softcart_assets.lines.model import Line, Privacy
from softcart_assets.privacy.handles import LINE, Handles, undecided
from softcart_assets.publishing.personal import OF_VERSIONS

Relation = tuple[str, str]
"""A schema and a table in it, or a layer and a file."""
Column = tuple[str, str, str]
"""A schema, a table and a column. Of a source: its name, a table and a column."""
Lineage = Mapping[Relation, Mapping[str, Collection[Column]]]
"""For each table that is made from others, where the values of its columns come from."""


@dataclass(frozen=True)
class Made:
    """A table that is made from others.

    `personal`: its columns with values of personal columns of sources, and these, as
    `<source>.<table>.<column>`. `rows`: the columns that tell whose a row is, each with its
    handles. `keys`: columns with the key of a row of somebody, if there is no better one.
    `mentions`: those that name a person in rows of somebody else.
    """

    columns: frozenset[str]
    personal: dict[str, set[str]] = field(default_factory=dict)
    rows: dict[str, set[str]] = field(default_factory=dict)
    keys: dict[str, set[str]] = field(default_factory=dict)
    mentions: dict[str, set[str]] = field(default_factory=dict)

    @property
    def found_by(self) -> Mapping[str, set[str]]:
        """The columns by which the rows of a person are found."""
        return self.rows or self.keys

    def wrong(self, columns: Collection[str] | None = None) -> str:
        """Why nobody can be found for sure in the table, and what to do. Empty: everybody can be.

        `columns`: those that it has now. None: those that the last build recorded.
        """
        columns = self.columns if columns is None else columns
        if several := undecided({**self.mentions, **self.found_by}, columns):
            return (
                f"{', '.join(several)} has customers of several lines, and no column tells of "
                f"which. Add {LINE}."
            )
        if self.personal and not self.found_by.keys() & set(columns):
            origins = sorted(set().union(*self.personal.values()))
            return (
                f"{', '.join(sorted(self.personal))} have values of {', '.join(origins)}, and no "
                "column tells whose they are. Add the key of the source, with a name that ends in "
                "_id. Or say in `not_pii` of its Published why they are not personal."
            )
        return ""


class Tracing:
    """Follows columns back to the sources. `lineage`: that of all tables that are made."""

    def __init__(self, lines: Iterable[Line], lineage: Lineage) -> None:
        lines = list(lines)
        self.handles = Handles(lines)
        self._lineage = lineage
        self._sources: dict[Column, list[Column]] = {}
        self._not_personal: dict[Relation, Collection[str]] = {}
        for line in lines:
            for source, table in line.tables():
                kind = connector(source.kind)
                # A document is a column, too, and comes from all of its fields.
                read = kind.column_origins([*table.privacy, *kind.own_columns])
                for schema, name in (
                    (source.schema, table.name),
                    (source.schema, f"{table.name}_history"),
                    (source.lake, table.name),
                ):
                    for column, origins in read.items():
                        found = [(source.name, table.name, each) for each in origins]
                        self._sources[schema, name, column] = found
        published = {table.name: table for line in lines for table in line.published}
        for schema, name in lineage:
            if declared := published.get(name):
                self._not_personal[schema, name] = declared.not_pii
        self._found: dict[Column, frozenset[Column]] = {}

    def origins(self, column: Column) -> frozenset[Column]:
        """The columns of sources that a column comes from, each as source, table and column."""
        if column not in self._found:
            self._found[column] = frozenset()  # a model that reads itself
            schema, table, name = column
            found: set[Column] = set()
            # What is not personal here is not personal in what is made from it.
            is_hidden = name in self._not_personal.get((schema, table), ())
            origins: Collection[Column] = (
                () if is_hidden else self._lineage.get((schema, table), {}).get(name, ())
            )
            for each in origins:
                read = self._sources.get(each)
                if read is None:
                    found |= self.origins(each)
                else:
                    # Of a document, it is the field of that name.
                    found.update([field for field in read if field[2] == name] or read)
            self._found[column] = frozenset(found)
        return self._found[column]

    def made(self) -> dict[Relation, Made]:
        """Every table that is made from others, with what is personal in it."""
        found = {}
        for (schema, table), columns in self._lineage.items():
            if any((schema, table, column) in self._sources for column in columns):
                continue
            each = found[schema, table] = Made(frozenset(columns))
            for column in columns:
                if column not in OF_VERSIONS:
                    self._take(each, column, self.origins((schema, table, column)))
        return found

    def _take(self, made: Made, column: str, origins: Collection[Column]) -> None:
        # A key is a hash.
        if column.endswith("_key"):
            return
        for source, name, origin in origins:
            _, table = self.handles.tables[source, name]
            if table.privacy[origin] is not Privacy.NONE:
                made.personal.setdefault(column, set()).add(f"{source}.{name}.{origin}")
            if column != origin and not column.endswith("_id"):
                continue
            for into, told in (
                (made.rows, self.handles.of(source, table)),
                (made.keys, self.handles.own(source, table)),
                (made.mentions, self.handles.mentioned(source, table)),
            ):
                if handle := told.get(origin):
                    into.setdefault(column, set()).add(handle)
