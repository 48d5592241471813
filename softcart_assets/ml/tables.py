"""How models read the features: aggregates in the staging warehouse."""

from __future__ import annotations

from collections.abc import Iterable

import psycopg
import pyarrow as pa
from psycopg import sql

from softcart_assets.lines.model import Model


def features(model: Model) -> sql.Identifier:
    """The table of a model's features."""
    return sql.Identifier("aggregates", model.features)


def columns(names: Iterable[str]) -> sql.Composed:
    """A list of columns."""
    return sql.SQL(", ").join(map(sql.Identifier, names))


def names(session: psycopg.Connection, model: Model) -> set[str]:
    """The columns that the features have."""
    found = session.execute(sql.SQL("SELECT * FROM {} LIMIT 0").format(features(model)))
    return {each.name for each in found.description or ()}


def kind_of_subject(session: psycopg.Connection, model: Model) -> pa.DataType:
    """The type of the subject's column in the scores."""
    found = session.execute(
        sql.SQL("SELECT {} FROM {} LIMIT 0").format(columns([model.subject]), features(model))
    )
    assert found.description
    is_number = found.description[0].type_code == psycopg.adapters.types["bigint"].oid
    return pa.int64() if is_number else pa.string()
