"""Change data capture: reading a MySQL or MariaDB server's binary log and applying it to raw, history and the lake."""

from softcart_assets.ingestion.capture.bounded import catch_up
from softcart_assets.ingestion.capture.stream import Status

__all__ = ["Status", "catch_up"]
