"""What MongoDB's errors mean, and what to do about them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pymongo

from softcart_assets.connections import MongoConnection
from softcart_assets.ingestion.errors import MissingGrant, SourceLost


@contextmanager
def explained(connection: MongoConnection, asset: str) -> Iterator[None]:
    """Translate MongoDB errors in the block into what happened, to which asset, and what to do."""
    try:
        yield
    except pymongo.errors.OperationFailure as error:
        # Unauthorized, and AuthenticationFailed.
        if error.code in (13, 18):
            raise MissingGrant(
                f"{asset}: MongoDB refuses to read database {connection.database!r} "
                f"({error.code}). Grant the "
                f"user of {connection.prefix}_URI the role `read` on it."
            ) from None
        raise SourceLost(
            f"{asset}: MongoDB failed ({error.code}: {error.details}). Nothing of it was "
            "committed; run the load again."
        ) from None
    except pymongo.errors.PyMongoError as error:
        raise SourceLost(
            f"{asset}: MongoDB failed ({type(error).__name__}). Nothing of it was committed; run "
            "the load "
            f"again. If it persists, check the server and {connection.prefix}_URI."
        ) from None
