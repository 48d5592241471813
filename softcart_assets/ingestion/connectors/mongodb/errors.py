"""What MongoDB's errors mean, and what to do about them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pymongo

from softcart_assets.connections import MongoConnection
from softcart_assets.ingestion.errors import MissingGrant, SourceLost, SourceRefused

_TRANSIENT = {
    6,  # HostUnreachable
    7,  # HostNotFound
    24,  # LockTimeout
    43,  # CursorNotFound: it was idle for too long, or its server restarted
    46,  # LockBusy
    50,  # MaxTimeMSExpired
    89,  # NetworkTimeout
    91,  # ShutdownInProgress
    112,  # WriteConflict
    133,  # FailedToSatisfyReadPreference
    134,  # ReadConcernMajorityNotAvailableYet
    175,  # QueryPlanKilled
    189,  # PrimarySteppedDown
    202,  # NetworkInterfaceExceededTimeLimit
    237,  # CursorKilled
    239,  # SnapshotTooOld
    246,  # SnapshotUnavailable
    262,  # ExceededTimeLimit
    9001,  # SocketException
    10107,  # NotWritablePrimary
    11600,  # InterruptedAtShutdown
    11601,  # Interrupted
    11602,  # InterruptedDueToReplStateChange
    13388,  # StaleConfig: a shard's data are moving
    13435,  # NotPrimaryNoSecondaryOk
    13436,  # NotPrimaryOrSecondary
}


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
        failed = f"{asset}: MongoDB failed ({error.code}: {error.details}). Nothing was committed."
        if _is_transient(error):
            raise SourceLost(f"{failed} Run the load again.") from None
        raise SourceRefused(
            f"{failed} The same error comes back until its cause at the server is removed."
        ) from None
    except pymongo.errors.ConnectionFailure as error:
        raise SourceLost(
            f"{asset}: MongoDB failed ({type(error).__name__}). Nothing was committed. Run the "
            f"load again. If it persists, check the server and {connection.prefix}_URI."
        ) from None
    except pymongo.errors.PyMongoError as error:
        raise SourceRefused(
            f"{asset}: MongoDB cannot be read ({type(error).__name__}: {error}). Nothing was "
            f"committed. Check {connection.prefix}_URI and whether the server is supported."
        ) from None


def _is_transient(error: pymongo.errors.OperationFailure) -> bool:
    """Return whether the same command may succeed later, though nobody changes anything."""
    labels = ("RetryableReadError", "RetryableWriteError", "TransientTransactionError")
    return error.code in _TRANSIENT or any(map(error.has_error_label, labels))
