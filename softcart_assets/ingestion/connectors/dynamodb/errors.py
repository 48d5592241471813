"""What DynamoDB's errors mean, and what to do about them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError

from softcart_assets.connections import DynamoConnection
from softcart_assets.ingestion.errors import MissingGrant, PositionPurged, SourceLost, SourceRefused

_DENIED = {
    "AccessDeniedException",
    "AccessDenied",
    "ExpiredTokenException",
    "IncompleteSignatureException",
    "InvalidSignatureException",
    "MissingAuthenticationTokenException",
    "UnrecognizedClientException",
}
_TRANSIENT = {
    "ProvisionedThroughputExceededException",
    "ThrottlingException",
    "RequestLimitExceeded",
    "LimitExceededException",
    "InternalServerError",
    "InternalFailure",
    "ServiceUnavailable",
    "ExpiredIteratorException",
    "RequestTimeout",
}
_OF_STREAMS = {"DescribeStream", "GetShardIterator", "GetRecords"}
TRIMMED = "TrimmedDataAccessException"
"""DynamoDB's error for records that are older than 24 hours."""


def code_of(error: ClientError) -> str:
    """Return the name of an error."""
    return str(error.response.get("Error", {}).get("Code", ""))


def purged(asset: str, why: str) -> PositionPurged:
    """Return the error for a stream that no longer has all that followed the last load."""
    return PositionPurged(
        f"{asset}: the stream cannot be followed from the last load on: {why}. DynamoDB keeps "
        "changes for 24 hours only, so some may be lost. Nothing was committed. Load the table "
        "anew with --full, and then at least once in 24 hours."
    )


@contextmanager
def explained(connection: DynamoConnection, asset: str) -> Iterator[None]:
    """Translate the client's errors in the block into what happened, to which asset, and what to
    do.
    """
    try:
        yield
    except ClientError as error:
        code = code_of(error)
        text = error.response.get("Error", {}).get("Message", "")
        if code == TRIMMED:
            raise purged(asset, "the records after its place have been removed") from None
        if code == "ResourceNotFoundException" and error.operation_name in _OF_STREAMS:
            raise purged(asset, "the stream, or a part of it, is gone") from None
        failed = f"{asset}: DynamoDB failed ({code}: {text}). Nothing was committed."
        if code in _DENIED:
            raise MissingGrant(
                f"{asset}: DynamoDB refuses {error.operation_name} ({code}). Allow the credentials "
                f"of {connection.prefix} dynamodb:{error.operation_name} on the table and its "
                "stream."
            ) from None
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        if code in _TRANSIENT or status >= 500:
            raise SourceLost(
                f"{failed} Run the load again. If it comes back, lower "
                f"{connection.prefix}_RCU_PER_SECOND or give the table more capacity."
            ) from None
        raise SourceRefused(
            f"{failed} The same error comes back until its cause at the server is removed."
        ) from None
    except HTTPClientError as error:
        raise SourceLost(
            f"{asset}: DynamoDB failed ({type(error).__name__}). Nothing was committed. Run the "
            f"load again. If it persists, check {connection.prefix}_REGION and "
            f"{connection.prefix}_ENDPOINT."
        ) from None
    except BotoCoreError as error:
        raise SourceRefused(
            f"{asset}: DynamoDB cannot be read ({type(error).__name__}: {error}). Nothing was "
            f"committed. Check the settings {connection.prefix}_…, and the credentials."
        ) from None
