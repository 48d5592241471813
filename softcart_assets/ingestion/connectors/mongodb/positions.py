"""MongoDB's positions: `time|documents|latest cursor`, and perhaps a stream's place: `|token`."""

from __future__ import annotations

from bson import json_util

from softcart_assets.ingestion.connectors.mongodb.changestream import Token
from softcart_assets.ingestion.connectors.mongodb.values import CANONICAL


def with_token(position: str, token: Token | None) -> str:
    """A position with another token, or with none."""
    if token_of(position):
        position = position.rpartition("|")[0]
    return (
        position
        if token is None
        else f"{position}|{json_util.dumps(token, json_options=CANONICAL)}"
    )


def token_of(position: str) -> Token | None:
    """The resume token in a position, if it has one."""
    text = position.rpartition("|")[2]
    return json_util.loads(text, json_options=CANONICAL) if text.startswith('{"_data"') else None


def is_apart(one: str, other: str) -> bool:
    """Whether number of documents or latest cursor are not the same in two positions."""
    return with_token(one, None).partition("|")[2] != with_token(other, None).partition("|")[2]
