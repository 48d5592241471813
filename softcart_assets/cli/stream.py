"""The command that keeps raw tables up to date from the log of their source."""

from __future__ import annotations

import os
from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated

import typer

from softcart_assets.cli import settings

if TYPE_CHECKING:
    from softcart_assets.ingestion.capture import Status
    from softcart_assets.progress import StatusLine


def stream(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="The source to follow.")],
    metrics_port: Annotated[
        int | None,
        typer.Option(help="Serve Prometheus metrics on this local port. 0 picks a free one."),
    ] = None,
) -> None:
    """Apply the changes of a source to its raw tables within half a second, until Ctrl-C."""
    from softcart_assets.connections import staging
    from softcart_assets.ingestion.capture import Status
    from softcart_assets.ingestion.capture import stream as follow
    from softcart_assets.ingestion.capture.metrics import served
    from softcart_assets.progress import StatusLine
    from softcart_assets.stores import lake_uri

    settings.apply(start=False)
    declared, _ = settings.chosen([source])[0]
    if not any(table.strategy == "cdc" for table in declared.tables):
        raise typer.BadParameter(f"{source!r} declares no table with strategy 'cdc'")
    status = Status(source)
    shown = StatusLine()
    with ExitStack() as stack:
        if metrics_port is not None:
            port = stack.enter_context(served(status, metrics_port))
            typer.echo(f"Metrics: http://127.0.0.1:{port}/metrics")
        typer.echo(f"Process {os.getpid()} follows {source}. Ctrl-C ends it at any time.")
        follow(
            declared,
            settings.database(declared),
            staging(),
            lake_uri(),
            status=status,
            on_report=lambda status: _show(shown, status),
        )
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
