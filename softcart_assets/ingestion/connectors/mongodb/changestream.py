"""MongoDB's change streams: what happened to a collection since a resume token.

This module opens a stream, keeps its token and reads its events. `followed` decides what becomes of
them.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

import bson
import pymongo
from bson.codec_options import CodecOptions
from bson.raw_bson import RawBSONDocument
from pymongo.collection import Collection

Token = dict[str, Any]
"""A resume token as the server gave it."""

_EVENTS_A_BATCH = 1_000
_AWAIT_MILLISECONDS = 20
_PATIENCE_SECONDS = 30
"""Seconds for which a server's stream may stand still before a point that the server itself has
named.

Idle shards need up to 10 s.
"""
_REFUSALS = (13, 18)
"""MongoDB's codes for a missing privilege.

A person has to grant it. It is no reason to do without the stream.
"""
_OPERATIONS: dict[str, Literal["insert", "update", "delete"]] = {
    "insert": "insert",
    "replace": "update",
    "update": "update",
    "delete": "delete",
}
_VOIDS = {"drop", "rename", "dropDatabase", "invalidate"}


class NoStream(Exception):
    """There is no change stream, or none from this token. The text says why."""


@dataclass(frozen=True)
class Event:
    """What happened to one document.

    `id`: its `_id`. `document`: the whole document in BSON, exactly as the event left it. None: it
    must be looked up.
    """

    operation: Literal["insert", "update", "delete"]
    id: Any
    document: bytes | None
    committed_at: datetime | None


@dataclass(frozen=True)
class Void:
    """The collection was dropped or renamed, or another one took its name.

    Whatever was known of it is no longer true.
    """

    operation: str


class Stream:
    """One collection's change stream, from a token or from now. Raises `NoStream` if there is none.

    `has_images`: the collection keeps its documents as they were after each update. Use it as a
    context. `token` is its present place.
    """

    def __init__(
        self,
        collection: Collection[dict[str, Any]],
        token: Token | None = None,
        *,
        has_images: bool = False,
    ) -> None:
        self._options = collection.codec_options
        raw: CodecOptions[RawBSONDocument] = CodecOptions(
            document_class=RawBSONDocument, tz_aware=True, tzinfo=UTC
        )
        try:
            # Looking up each updated document is left out: once per document, by its `_id`, is
            # enough.
            # `start_after`, not `resume_after`: it also goes on behind an event that ended the
            # stream.
            self._stream = collection.with_options(codec_options=raw).watch(
                start_after=token,
                full_document="whenAvailable" if has_images else None,
                batch_size=_EVENTS_A_BATCH,
                max_await_time_ms=_AWAIT_MILLISECONDS,
            )
        except pymongo.errors.OperationFailure as error:
            raise _explained(error) from None
        self.token: Token | None = token or self._resume_token()

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        # After a failure the server may be gone: closing would wait for it.
        if kind is None:
            self._stream.close()

    def events(self, until: Token | None) -> Iterator[Event | Void]:
        """Yield the events up to a token. If tokens have no order, yield them up to the present.

        The last one may be a `Void`. When the next event is asked for, `token` stands behind the
        one before. Raises `NoStream` if the stream's token is of a later moment than `until`, which
        is the present: then it is another server's, and the events between would be skipped.
        """
        if _is_of_the_future(self.token, until):
            raise NoStream("the place of the last load lies behind the end of this server's log")
        stood_at, since = self.token, time.monotonic()
        while True:
            try:
                event = self._stream.try_next()
            except pymongo.errors.OperationFailure as error:
                raise _explained(error) from None
            if event is None:
                self.token = self._resume_token() or self.token
                if not _is_past(until, self.token):
                    # Both are places behind the last event. But SecantusDB refuses to go on from
                    # the stream's own if another collection was dropped there.
                    if until and _place(until):
                        self.token = until
                    return
                if self.token != stood_at:
                    stood_at, since = self.token, time.monotonic()
                # The collection is quiet and the server names no later point. There is nothing to
                # wait for.
                elif time.monotonic() - since > _PATIENCE_SECONDS:
                    return
                continue
            token = dict(event["_id"])
            if _is_past(token, until):
                self.token = until
                return
            operation = event["operationType"]
            if operation in _VOIDS:
                self.token = token
                yield Void(operation)
                return
            if operation in _OPERATIONS:
                # The token moves only afterwards: an event that was not taken in comes again.
                yield self._event(operation, event)
            self.token = token

    def _event(self, operation: str, event: Mapping[str, Any]) -> Event:
        document = event.get("fullDocument") if operation != "delete" else None
        return Event(
            _OPERATIONS[operation],
            bson.decode(event["documentKey"].raw, self._options)["_id"],
            document.raw if document is not None else None,
            _committed_at(event),
        )

    def _resume_token(self) -> Token | None:
        token = self._stream.resume_token
        return None if token is None else dict(token)


def _committed_at(event: Mapping[str, Any]) -> datetime | None:
    """Return when the event was committed: in milliseconds if the server says so, otherwise in
    seconds.
    """
    cluster_time = event.get("clusterTime")
    if not isinstance(cluster_time, bson.Timestamp):
        return None
    return event.get("wallTime") or cluster_time.as_datetime()


def _is_past(one: Token | None, other: Token | None) -> bool:
    """Return whether one token lies past the other. False if their order is not known."""
    places = [_place(token) for token in (one, other) if token]
    return len(places) == 2 and None not in places and places[0] > places[1]  # type: ignore[operator]


def _is_of_the_future(token: Token | None, now: Token | None) -> bool:
    """Return whether a token's moment lies after that of the present."""
    places = [_place(each) for each in (token, now) if each]
    return len(places) == 2 and None not in places and places[0][0] > places[1][0]  # type: ignore[index]


def _place(token: Token) -> tuple[str, str] | None:
    """Return a token's moment and its place within the moment, both to be compared as texts."""
    data = token.get("_data")
    if not isinstance(data, str) or not re.fullmatch("([0-9a-fA-F]{2})+", data):
        return None
    raw = bytes.fromhex(data)
    # SecantusDB's tokens are a document, which begins with its length. `s` counts the events.
    if int.from_bytes(raw[:4], "little") == len(raw):
        return f"{bson.decode(raw)['s']:020}", ""
    # The bytes of MongoDB's tokens, written as hexadecimal digits, are made to be compared. After a
    # byte for the type come eight for the cluster's time.
    return data[:18].upper(), data[18:].upper()


def _explained(error: pymongo.errors.OperationFailure) -> Exception:
    if error.code in _REFUSALS:
        return error
    what = (error.details or {}).get("errmsg") or str(error)
    return NoStream(f"{what} ({error.code})")
