"""A stream's figures for Prometheus, served on this machine only.

`job.Status` describes the figures. Here they get their names. Nothing is measured here.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import accumulate

from prometheus_client import CollectorRegistry, ProcessCollector, start_http_server
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from softcart_assets.connections import SettingError
from softcart_assets.ingestion.capture.job import FLUSH_BUCKETS, Status

TABLE_STATES = ("live", "stale", "stopped", "missing")


class StreamCollector(Collector):
    """Reads a stream's status whenever Prometheus asks."""

    def __init__(self, status: Status) -> None:
        self.status = status

    def collect(self) -> Iterator[Metric]:
        """Yield the present figures."""
        status, source = self.status, [self.status.source]

        def gauge(name: str, text: str, value: float | None) -> Iterator[Metric]:
            # A figure that is not known is left out: a 0 would look like "no lag".
            if value is not None:
                family = GaugeMetricFamily(f"softcart_stream_{name}", text, labels=["source"])
                family.add_metric(source, value)
                yield family

        yield from gauge(
            "up",
            "1 while the stream follows its source, 0 while it cannot.",
            float(not status.problem),
        )
        yield from gauge(
            "lag_seconds",
            "Age of the oldest change that is known and not in raw yet.",
            status.lag_seconds,
        )
        yield from gauge(
            "lag_bytes", "Bytes of the source's log past the position.", status.lag_bytes
        )
        yield from gauge(
            "rows_per_second", "Row changes applied, over the last seconds.", status.rows_per_second
        )
        committed = status.committed_at.timestamp() if status.committed_at else None
        yield from gauge(
            "last_commit_timestamp_seconds",
            "When the last change applied was committed at the source.",
            committed,
        )
        position = InfoMetricFamily(
            "softcart_stream_position", "Up to where changes are in raw.", labels=["source"]
        )
        position.add_metric(source, {"position": status.position})
        yield position
        reconnects = CounterMetricFamily(
            "softcart_stream_reconnects", "Connections made anew.", labels=["source"]
        )
        reconnects.add_metric(source, status.reconnects)
        yield reconnects
        changes = CounterMetricFamily(
            "softcart_stream_changes",
            "Row changes applied.",
            labels=["source", "table", "operation"],
        )
        for (table, operation), count in sorted(status.changes.items()):
            changes.add_metric([*source, table, operation], count)
        yield changes
        # Prometheus counts each bucket with all below it.
        counts = accumulate(status.flush_times[bound] for bound in FLUSH_BUCKETS)
        flushes = HistogramMetricFamily(
            "softcart_stream_flush_seconds",
            "How long bringing changes into raw took.",
            labels=["source"],
        )
        buckets = [
            (f"{bound:g}".replace("inf", "+Inf"), count)
            for bound, count in zip(FLUSH_BUCKETS, counts, strict=True)
        ]
        flushes.add_metric(source, buckets, status.flush_seconds_in_all)
        yield flushes
        quarantined = GaugeMetricFamily(
            "softcart_quarantined_rows", "Rows in quarantine.", labels=["source", "table"]
        )
        states = GaugeMetricFamily(
            "softcart_table_state",
            "1 for the state that a table is in.",
            labels=["source", "table", "state"],
        )
        for table, (state, _) in sorted(status.tables.items()):
            quarantined.add_metric([*source, table], status.quarantined.get(table, 0))
            # Every state has a series, most with 0. Otherwise an old state would stay in Prometheus
            # as it was.
            for each in TABLE_STATES:
                states.add_metric([*source, table, each], float(each == state))
        yield quarantined
        yield states


@contextmanager
def served(status: Status, port: int) -> Iterator[int]:
    """Serve the metrics on 127.0.0.1 while the block runs.

    Yields the port, which is a free one if `port` is 0.
    """
    registry = CollectorRegistry()
    registry.register(StreamCollector(status))
    ProcessCollector(registry=registry)
    try:
        # On this machine only: the figures name tables, and the server asks for no password.
        server, thread = start_http_server(port, addr="127.0.0.1", registry=registry)
    except OSError as error:
        raise SettingError(
            f"Metrics cannot be served on port {port} ({error.strerror}); choose another one."
        ) from None
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
