"""Change data capture: reads the binary log of a MySQL or MariaDB server and applies it to raw,
history and the lake. `to_kafka` writes it to Kafka.
"""

from softcart_assets.ingestion.capture.bounded import catch_up
from softcart_assets.ingestion.capture.job import Status
from softcart_assets.ingestion.capture.resnapshot import Resnapshot, resnapshot
from softcart_assets.ingestion.capture.stream import stream

__all__ = ["Resnapshot", "Status", "catch_up", "resnapshot", "stream"]
