"""Where the personal columns of the sources go, and how a person is found there.

A route begins at a declared column. The copies follow from the declaration, all others from the
lineage of columns.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from softcart_assets.assembly import Lines
from softcart_assets.lines.model import Privacy, Source, Table
from softcart_assets.privacy.handles import Handles, personal
from softcart_assets.privacy.made import Lineage, Relation, Tracing


@dataclass(frozen=True)
class Route:
    """A personal column of a source, how a person is found in its table, and where it goes.

    `way`: empty if there is none.
    """

    column: str
    privacy: Privacy
    way: str
    stores: tuple[str, ...]


def routes(lines: Lines, lineage: Lineage, views: Collection[Relation] = ()) -> Iterator[Route]:
    """The routes of all personal columns.

    `lineage`: that of all tables that are made. `views`: those of them that keep no rows.
    """
    handles = Handles(lines)
    made = Tracing(lines, lineage).made()
    goes_to: dict[str, set[str]] = {}
    for (schema, name), table in made.items():
        if (schema, name) in views:
            continue
        for origin in set().union(*table.personal.values()):
            goes_to.setdefault(origin, set()).add(f"{schema}.{name}")
    for source, declared in lines.tables():
        for column, privacy in personal(declared).items():
            name = f"{source.name}.{declared.name}.{column}"
            yield Route(
                name,
                privacy,
                handles.way(source.name, declared),
                (*_copies(source, declared, column), *sorted(goes_to.get(name, ()))),
            )


def _copies(source: Source, table: Table, column: str) -> Iterator[str]:
    yield source.name
    yield f"{source.schema}.{table.name}"
    if table.history:
        yield f"{source.schema}.{table.name}_history"
    yield "ingestion.quarantine"
    if source.kind == "files":
        yield "ingestion.file_duplicates"
    yield f"changes/{source.name}/{table.name}"
    yield f"{source.lake}.{table.name}"
    for total in source.totals:
        if total.table == table.name and column in total.reads:
            yield f"ods.{total.name}"


def problems(lines: Lines, lineage: Lineage, views: Collection[Relation] = ()) -> Iterator[str]:
    """Each table with values of personal columns in which nobody can be found, and what to do.

    The arguments are those of `routes`. Extracts and pages without a key have figures about many.
    """
    skipped = {"extracts", *(source.reporting for source in lines.sources)}
    for source, table in lines.tables():
        if (columns := personal(table)) and not table.person:
            yield (
                f"{table.declared_at}: table {source.name}.{table.name} has the personal columns "
                f"{', '.join(columns)}, and does not say how a person is found in it. Declare "
                "`person`."
            )
    for (schema, name), made in sorted(Tracing(lines, lineage).made().items()):
        if schema in skipped or (schema, name) in views:
            continue
        if wrong := made.wrong():
            yield f"{schema}.{name}: {wrong}"
