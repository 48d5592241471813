"""Which server's log is followed: where it begins, and what happens to positions when another
server or a new log takes over.
"""

from __future__ import annotations

from contextlib import closing

import psycopg

from softcart_assets.ingestion.capture.job import Job
from softcart_assets.ingestion.connectors.mysql.session import Session, explained
from softcart_assets.ingestion.connectors.mysql.state import (
    ServerState,
    check_log,
    current_state,
)
from softcart_assets.ingestion.errors import IngestionError, PositionPurged
from softcart_assets.ingestion.position import Place, Position
from softcart_assets.lines.model import Source


def state_of(job: Job) -> ServerState:
    """Return where the log of the server that answers now ends."""
    with (
        explained(job.connection, f"database `{job.connection.database}`"),
        closing(Session(job.connection)) as session,
    ):
        return current_state(session)


def start_here(job: Job, connection: psycopg.Connection) -> None:
    """Begin at the log's present end, if the source's log was never followed.

    Snapshots taken from now on lie behind that. Raises `IngestionError` if the server's log may
    lack changes.
    """
    with (
        explained(job.connection, f"database `{job.connection.database}`"),
        closing(Session(job.connection)) as session,
    ):
        try:
            check_log(session, job.source.name)
        except IngestionError:
            # What it lacks it does not get later: once the cause is removed, all rows are compared.
            connection.execute(
                "UPDATE ingestion.captures SET stale_since = coalesce(stale_since, position)"
                " WHERE source = %s AND state = 'live'",
                (job.source.name,),
            )
            raise
        state = current_state(session)
    gtid = str(state.gtids) or None
    connection.execute(
        "INSERT INTO ingestion.streams (source, position, gtid, server, lake_position, lake_gtid, "
        "lake_server)"
        # An existing start stays. If a first copy fails and is tried again, the log still begins
        # before it (airbytehq/airbyte#48717: there the start moved on, and changes between the
        # attempts were lost).
        " VALUES (%s, %s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING",
        (job.source.name, state.position, gtid, state.server, state.position, gtid, state.server),
    )


def epoch_now(job: Job, place: Place) -> int:
    """Return the epoch of the server that answers now.

    Raises `PositionPurged` if its log ends before the applied position.
    """
    return epoch_of_state(job.source, state_of(job), place)


def epoch_of_state(source: Source, state: ServerState, place: Place) -> int:
    """Return the epoch of a server with this state, see `epoch_now`."""
    if state.server != place.server:
        # Its positions say nothing about the log before. Whether it has all of that, GTIDs tell.
        return place.position.epoch + 1
    end = state.position.in_epoch(place.position.epoch)
    if end < place.position:
        raise PositionPurged(
            f"Source {source.name!r}: its binary log ends at {end}, before {place.position}, "
            "up to where its changes "
            "are applied: the server was set back or its log reset. The log cannot be continued. "
            "Take a new snapshot: run "
            f"`softcart resnapshot {source.name}`."
        )
    return place.position.epoch


def epoch_of_reread(job: Job) -> int:
    """Return the epoch of the server that answers now, for reading next to whoever follows the
    log.
    """
    with job.staging.connect() as connection:
        row = connection.execute(
            "SELECT position, server FROM ingestion.streams WHERE source = %s", (job.source.name,)
        ).fetchone()
        assert row
        position, server = row
        return Position.parse(position).epoch + int(state_of(job).server != server)


def end_after(job: Job, place: Place) -> Place:
    """Return the log's present end, as a place behind `place`.

    Positions keep growing, even if another server answers or the log began anew.
    """
    state = state_of(job)
    epoch = place.position.epoch
    end = state.position.in_epoch(epoch)
    if state.server != place.server or end < place.position:
        end = end.in_epoch(epoch + 1)
    return Place(end, str(state.gtids) or None, state.server)
