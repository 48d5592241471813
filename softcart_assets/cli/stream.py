"""The command that keeps raw tables up to date from the log of their source."""

from __future__ import annotations

import os
from contextlib import ExitStack
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from softcart_assets.cli import settings

if TYPE_CHECKING:
    from softcart_assets.ingestion.capture import Status
    from softcart_assets.progress import StatusLine


class Target(StrEnum):
    """What a stream writes to."""

    RAW = "raw"
    KAFKA = "kafka"


def stream(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="The source to follow.")],
    metrics_port: Annotated[
        int | None,
        typer.Option(help="Serve Prometheus metrics on this local port. 0 picks a free one."),
    ] = None,
    to: Annotated[Target, typer.Option(help="Where the changes go.")] = Target.RAW,
    once: Annotated[
        bool, typer.Option("--once", help="With --to kafka: end at the log's present end.")
    ] = False,
    anew: Annotated[
        bool,
        typer.Option("--anew", help="With --to kafka: begin with a new snapshot of each table."),
    ] = False,
) -> None:
    """Apply the changes of a source to its raw tables within half a second, until Ctrl-C.

    With --to kafka it writes them to topics in Debezium's format instead, each change once.
    """
    from softcart_assets.connections import kafka, kafka_partitions, staging
    from softcart_assets.ingestion.capture import Status
    from softcart_assets.ingestion.capture import stream as follow
    from softcart_assets.ingestion.capture.metrics import served
    from softcart_assets.ingestion.capture.to_kafka import to_kafka
    from softcart_assets.ingestion.connectors import connector
    from softcart_assets.progress import StatusLine
    from softcart_assets.stores import lake_uri

    settings.apply(start=False)
    declared, _ = settings.chosen([source])[0]
    if not any(table.strategy == "cdc" for table in declared.tables):
        raise typer.BadParameter(f"{source!r} declares no table with strategy 'cdc'")
    if to is Target.KAFKA and not connector(declared.kind).has_log:
        raise typer.BadParameter(f"only a MySQL source can be written to Kafka, not {source!r}")
    if to is Target.RAW and (once or anew):
        raise typer.BadParameter("--once and --anew belong to --to kafka")
    status = Status(source)
    shown = StatusLine()
    with ExitStack() as stack:
        if metrics_port is not None:
            port = stack.enter_context(served(status, metrics_port))
            typer.echo(f"Metrics: http://127.0.0.1:{port}/metrics")
        typer.echo(f"Process {os.getpid()} follows {source}. Ctrl-C ends it at any time.")
        database = settings.database(declared)

        def on_report(status: Status) -> None:
            _show(shown, status)

        if to is Target.KAFKA:
            to_kafka(
                declared,
                database,
                kafka(),
                partitions=kafka_partitions(),
                status=status,
                on_report=on_report,
                once=once,
                anew=anew,
            )
        else:
            follow(declared, database, staging(), lake_uri(), status=status, on_report=on_report)
    typer.echo(f"Stopped at {status.position}. Everything up to there is committed.")


def _show(line: StatusLine, status: Status) -> None:
    """Show the state of a stream. A stopped table or a problem is always printed."""
    stopped = [f"{name} {state}" for name, (state, _) in status.tables.items() if state != "live"]
    quarantined = sum(status.quarantined.values())
    parts = [
        f"{status.position}  {status.rows_per_second:,.0f} rows/s  {status.rows:,} rows  "
        f"lag {status.lag_seconds:.1f} s"
        + ("" if status.lag_bytes is None else f", {status.lag_bytes / 1e6:,.1f} MB of log ahead"),
        f"{quarantined:,} in quarantine" if quarantined else "",
        ", ".join(stopped),
        f"waiting: {status.problem}" if status.problem else "",
    ]
    line.show("  ".join(filter(None, parts)), notable=(stopped, status.problem))
