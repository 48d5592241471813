"""The connectors: one package per kind of source system, registered here by its name.

Here belong the registry and what the declarations of a kind must fulfil; importing it loads no
client library.
"""

from __future__ import annotations

from collections.abc import Iterator

from softcart_assets.lines.model import Source

KINDS = ("mysql", "mongodb")
"""The kinds of source systems that there are connectors for."""


def problems(source: Source) -> Iterator[str]:
    """What a declaration asks of its source that no source of that kind can do."""
    if source.kind != "mongodb":
        return
    for table in source.tables:
        if table.strategy != "cdc":
            continue
        where = f"{table.declared_at}: collection {source.name}.{table.name}"
        if table.key != ("_id",):
            yield f"{where}: the key of a MongoDB document is '_id'. Declare key=('_id',)."
        if table.contract != "evolve":
            yield (
                f"{where}: documents have no fixed columns, so a followed collection cannot have the "
                f"contract {table.contract!r}. Declare 'evolve'; a document that does not fit the "
                "columns found so far goes to quarantine."
            )
