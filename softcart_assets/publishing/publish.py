"""Write, audit, publish: the one way into the production database.

A publication copies the published tables from one snapshot of staging into a slot that nobody reads (`copying`),
audits what was written, and switches all readers to it at one moment (`slots`). Until then they keep the version they
had: an error, a failed audit or a killed process changes nothing for them, and the next publication starts over.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import psycopg
from psycopg import sql

from softcart_assets import locks
from softcart_assets.audits.model import Audit, AuditResult, Comparison
from softcart_assets.connections import PostgresConnection
from softcart_assets.publishing import slots
from softcart_assets.publishing.copying import Snapshot, copy_rows, staging_snapshot
from softcart_assets.publishing.slots import Current, PublishError, Shape
from softcart_assets.publishing.tables import PublishedTable

APPLICATION = "softcart publish"
"""The application name of a publication's connections."""

_LOCK = 0x50F7CA27
"""The advisory lock that a publication holds in the production database."""


class AuditFailed(PublishError):
    """The candidate did not pass; readers keep the version they had. `failed`: the audits that it did not pass."""

    def __init__(self, failed: Sequence[AuditResult]) -> None:
        self.failed = failed
        lines = "".join(f"\n  {result.name}: {result.details}" for result in failed)
        super().__init__(
            f"Nothing was published, {len(failed)} audit(s) failed:{lines}\n"
            "Correct the tables in staging and publish again."
        )


@dataclass(frozen=True)
class Publication:
    """What was published: version (1, 2, …), rows per table, every audit's result, seconds it took."""

    version: int
    row_counts: dict[str, int]
    audits: list[AuditResult]
    seconds: float


def publish(
    staging: PostgresConnection,
    production: PostgresConnection,
    tables: Sequence[PublishedTable],
    audits: Sequence[Audit | Comparison],
    on_progress: Callable[[str], None] | None = None,
) -> Publication:
    """Publish all `tables` together, if all `audits` pass.

    Afterwards `production` has just these tables: one that is left out disappears. `on_progress` is called with a line
    for people as each part is done, from several threads. Raises `AuditFailed`, or `PublishError` when another
    publication is under way, a table is missing in staging, or a server refuses what it was asked.
    """
    started = time.monotonic()
    tell = on_progress or (lambda line: None)
    with production.connect(application_name=APPLICATION, autocommit=True) as session:
        _lock(session)
        with _naming("production: setting up"):
            slots.set_up(session)
            current = slots.read_current(session)
        with _snapshot(staging, production, tables) as snapshot:
            shape = _shape(snapshot, tables)
            with _naming("production: preparing a slot"):
                slot, nobody_sees_it = _candidate_slot(session, current, shape, tell)
            row_counts = _copy(snapshot, tables, shape, slot, nobody_sees_it, tell)
            results = _audit(snapshot, audits, tables, slot, current)
            tell(f"{sum(result.passed for result in results)} of {len(results)} audits passed")
            if failed := [result for result in results if not result.passed]:
                raise AuditFailed(failed)
            _prepare_for_readers(snapshot, tables, slot)
            tell("indexes and statistics made")
        with _naming("production: switching"):
            version = slots.switch(session, slot, shape, row_counts, current)
        tell(f"version {version} published")
    return Publication(version, row_counts, results, time.monotonic() - started)


def _lock(session: psycopg.Connection) -> None:
    """Become the only publication. A killed one lets go as soon as its server process notices: hence the patience."""
    try:
        locks.take(session, _LOCK, wait_seconds=2)
    except locks.LockHeld as held:
        raise PublishError(
            f"Another publication is under way: {held.holder or 'it has ended just now'}. "
            "Publish again when it is done."
        ) from None


@contextmanager
def _snapshot(
    staging: PostgresConnection, production: PostgresConnection, tables: Sequence[PublishedTable]
) -> Iterator[Snapshot]:
    try:
        sources = [sql.Identifier(table.schema, table.name) for table in tables]
        with staging_snapshot(staging, production, sources, APPLICATION) as snapshot:
            yield snapshot
    except psycopg.Error as error:
        raise PublishError(
            f"The tables to publish cannot be read in staging database {staging.database!r}: {str(error).strip()}. "
            f"Materialise what is missing, or correct {staging.prefix}_DATABASE."
        ) from None


def _shape(snapshot: Snapshot, tables: Sequence[PublishedTable]) -> Shape:
    """The columns of the published tables as they are in staging."""
    shapes = slots.read_shapes(snapshot.session, "|".join({table.schema for table in tables}))
    return {table.name: shapes[table.schema][table.name] for table in tables}


def _candidate_slot(
    session: psycopg.Connection, current: Current | None, wanted: Shape, tell: Callable[[str], None]
) -> tuple[int, bool]:
    """A slot to write to, and whether nobody sees its rows; of a new pair if the current one has another shape."""
    slots.drop_other_pairs(session, current)
    pairs = slots.read_pairs(session)
    if current is None or pairs[slots.pair_of(current.slot)] != wanted:
        pair = max(pairs, default=0) + 1
        slots.create_pair(session, pair, wanted)
        return slots.slots_of(pair)[0], True
    (slot,) = set(slots.slots_of(slots.pair_of(current.slot))) - {current.slot}
    readers = slots.wait_for_old_readers(session, current.switch_xid)
    if readers:
        tell(
            f"version {current.version - 1} is still read, so its rows are deleted one by one: {', '.join(readers)}"
        )
    return slot, not readers


def _copy(
    snapshot: Snapshot,
    tables: Sequence[PublishedTable],
    shape: Shape,
    slot: int,
    nobody_sees_it: bool,
    tell: Callable[[str], None],
) -> dict[str, int]:
    """Replace the slot's rows by staging's; returns rows per table."""
    patient_until = time.monotonic() + slots.PATIENCE_SECONDS if nobody_sees_it else None

    def copy(source: psycopg.Connection, target: psycopg.Connection, table: PublishedTable) -> int:
        columns = [column for column, _ in shape[table.name]]
        with _naming(f"production/{table.name}: copying"):
            slots.empty_table(target, slot, table.name, patient_until)
            source_table = sql.Identifier(table.schema, table.name)
            rows = copy_rows(
                source, source_table, target, slots.slot_table(slot, table.name), columns
            )
        tell(f"{table.name}: {rows:,} rows copied")
        return rows

    return dict(zip((table.name for table in tables), snapshot.map(copy, tables), strict=True))


def _audit(
    snapshot: Snapshot,
    audits: Sequence[Audit | Comparison],
    tables: Sequence[PublishedTable],
    slot: int,
    current: Current | None,
) -> list[AuditResult]:
    staging_schemas = tuple({table.schema for table in tables})

    def ask(
        staging: psycopg.Connection, production: psycopg.Connection, audit: Audit | Comparison
    ) -> AuditResult:
        candidate = (production, (slots.slot_schema(slot),))
        with _naming(f"production/{audit.table}: audit {audit.name}"):
            if isinstance(audit, Audit):
                return audit.run(production, slots.slot_schema(slot))
            if audit.against == "staging":
                return audit.compare(candidate, (staging, staging_schemas))
            if current and audit.table in current.row_counts:
                return audit.compare(candidate, (production, ("production",)))
            return AuditResult(
                audit.name, audit.table, True, {"note": "first publication of this table"}
            )

    return snapshot.map(ask, audits)


def _prepare_for_readers(snapshot: Snapshot, tables: Sequence[PublishedTable], slot: int) -> None:
    """Build the slot's indexes and have the planner's statistics made."""

    def build(
        _: psycopg.Connection,
        target: psycopg.Connection,
        index: tuple[str, str, tuple[str, ...], bool],
    ) -> None:
        with _naming(f"production/{index[0]}: building index {index[1]}"):
            slots.create_index(target, slot, *index)

    def analyze(_: psycopg.Connection, target: psycopg.Connection, table: PublishedTable) -> None:
        with _naming(f"production/{table.name}: ANALYZE"):
            slots.analyze(target, slot, table.name)

    indexes = [(table.name, f"{table.name}_key", table.key, True) for table in tables]
    indexes += [
        (table.name, f"{table.name}_{'_'.join(columns)}", columns, False)
        for table in tables
        for columns in table.indexes
    ]
    snapshot.map(build, indexes)
    snapshot.map(analyze, tables)


@contextmanager
def _naming(step: str) -> Iterator[None]:
    """Give a database's error the name of the step, and say that nothing was published."""
    try:
        yield
    except psycopg.Error as error:
        raise PublishError(f"{step} failed, nothing was published: {str(error).strip()}") from error
