"""MongoDB's positions: `time|documents|latest cursor`, and with a stream its place: `|token`."""

from __future__ import annotations

from bson import json_util

from softcart_assets.ingestion.connectors.mongodb.changestream import Token
from softcart_assets.ingestion.connectors.mongodb.values import CANONICAL


def with_token(position: str, token: Token | None) -> str:
    """Return a position with another token, or without one."""
    if token_of(position):
        position = position.rpartition("|")[0]
    return (
        position
        if token is None
        else f"{position}|{json_util.dumps(token, json_options=CANONICAL)}"
    )


def token_of(position: str) -> Token | None:
    """Return the resume token of a position, if it has one."""
    # Searched from the end: a cursor may be any text, and may contain "|" itself.
    text = position.rpartition("|")[2]
    return json_util.loads(text, json_options=CANONICAL) if text.startswith('{"_data"') else None


def is_apart(one: str, other: str) -> bool:
    """Return whether the number of documents or the latest cursor differ between two positions."""
    return with_token(one, None).partition("|")[2] != with_token(other, None).partition("|")[2]
