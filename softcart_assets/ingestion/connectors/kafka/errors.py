"""What Kafka's errors mean, and what to do about them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from confluent_kafka import KafkaError, KafkaException

from softcart_assets.connections import KafkaConnection
from softcart_assets.ingestion.errors import (
    MissingGrant,
    MissingTable,
    PositionPurged,
    SourceLost,
    SourceRefused,
)

_DENIED = {
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    KafkaError.GROUP_AUTHORIZATION_FAILED,
    KafkaError.SASL_AUTHENTICATION_FAILED,
    KafkaError._AUTHENTICATION,
}
_MISSING = {KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC}
_GONE = {
    KafkaError.OFFSET_OUT_OF_RANGE,
    KafkaError._AUTO_OFFSET_RESET,
    KafkaError._UNKNOWN_PARTITION,
}
_TRANSIENT = {
    KafkaError._ALL_BROKERS_DOWN,
    KafkaError._RESOLVE,
    KafkaError._SSL,
    KafkaError._TIMED_OUT,
    KafkaError._TRANSPORT,
    KafkaError.REQUEST_TIMED_OUT,
}


def purged(connection: KafkaConnection, asset: str, why: str) -> PositionPurged:
    """Return the error for a topic that does not tell all changes since the last load."""
    return PositionPurged(
        f"{asset}: the topic cannot be followed from the last load on: {why}. Changes may be lost. "
        f"Nothing was committed. {again(connection)}"
    )


def again(connection: KafkaConnection) -> str:
    """Return what to do when a topic cannot be followed any more."""
    return (
        "Have a connector of Debezium with another `topic.prefix` take a new snapshot, set "
        f"{connection.prefix}_TOPIC_PREFIX to that, and load again."
    )


def missing(connection: KafkaConnection, asset: str, topic: str) -> MissingTable:
    """Return the error for a topic that is not there, or has no message yet."""
    return MissingTable(
        f"{asset}: there is no message in a topic {topic!r}. Debezium makes it with the first row. "
        f"Check {connection.prefix}_TOPIC_PREFIX, and that the connector runs."
    )


@contextmanager
def explained(connection: KafkaConnection, asset: str, topic: str) -> Iterator[None]:
    """Translate the client's errors in the block into what happened, to which asset, and what to
    do.
    """
    try:
        yield
    except KafkaException as failed:
        error: KafkaError = failed.args[0]
        code = error.code()
        if code in _MISSING:
            raise missing(connection, asset, topic) from None
        if code in _DENIED:
            raise MissingGrant(
                f"{asset}: Kafka refuses us ({error.str()}). Check {connection.prefix}_USER, and "
                f"allow it READ, DESCRIBE and DESCRIBE_CONFIGS on topic {topic!r}."
            ) from None
        if code in _GONE:
            raise purged(connection, asset, error.str()) from None
        text = f"{asset}: Kafka failed ({error.str()}). Nothing was committed."
        if error.retriable() or code in _TRANSIENT:
            raise SourceLost(
                f"{text} Run the load again. If it persists, check "
                f"{connection.prefix}_BOOTSTRAP_SERVERS."
            ) from None
        raise SourceRefused(f"{text} Check the settings {connection.prefix}_….") from None
