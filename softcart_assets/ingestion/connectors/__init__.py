"""The connectors: one package per kind of source system, registered here by its name.

A kind's package is imported when somebody first asks for it. Nothing else names a kind. Each
difference between kinds is a method of `Connector`.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from functools import cache

from softcart_assets.ingestion.connectors.protocol import (
    TLS_SETTINGS,
    Changes,
    Connector,
    Result,
    ResultColumn,
    Setting,
    SourceMoment,
)
from softcart_assets.lines.model import Source

__all__ = [
    "KINDS",
    "TLS_SETTINGS",
    "Changes",
    "Connector",
    "Result",
    "ResultColumn",
    "Setting",
    "SourceMoment",
    "connector",
    "problems",
]

KINDS = ("mysql", "mongodb", "dynamodb", "files", "kafka")
"""The kinds of source systems. Each is a package next to this module with `connector.CONNECTOR`."""


@cache
def connector(kind: str) -> Connector:
    """Return the connector of a kind of source system. Raises `KeyError`, which lists the known
    kinds.
    """
    if kind not in KINDS:
        raise KeyError(f"there is no connector {kind!r}; there are {', '.join(KINDS)}")
    module = importlib.import_module(f"{__name__}.{kind}.connector")
    found: Connector = module.CONNECTOR
    return found


def problems(source: Source) -> Iterator[str]:
    """Yield what a declaration asks of its source that no source of that kind can do."""
    return connector(source.kind).problems(source)
