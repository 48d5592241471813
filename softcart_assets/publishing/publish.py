"""Write, audit, publish: the one way into the production database.

A publication writes the tables of one snapshot of staging into a slot that nobody reads
(`candidate`). It audits the tables there, and switches all readers to them at one moment (`slots`).
If a line of business fails its audits, it is held: it keeps its live tables, and the other lines
continue without it. Until the switch, readers see the version that they had. An error or a killed
process changes nothing for them, and the next publication starts again.
"""

from __future__ import annotations

import re
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import psycopg
from psycopg import sql

from softcart_assets import comments, locks
from softcart_assets.audits.model import (
    AnyAudit,
    Audit,
    AuditResult,
    Comparison,
    Details,
    Equality,
    Measured,
)
from softcart_assets.connections import PostgresConnection, ServerUnreachable
from softcart_assets.publishing import acceptances, changes, differences, reading, slots
from softcart_assets.publishing.acceptances import Acceptance
from softcart_assets.publishing.candidate import Candidate, Live, Tell, naming
from softcart_assets.publishing.copying import Snapshot, staging_snapshot
from softcart_assets.publishing.slots import PublishError, Version
from softcart_assets.publishing.tables import PublishedTable

APPLICATION = "softcart publish"
"""The application name of a publication's connections."""

_LOCK = 0x50F7CA27
"""The advisory lock that a publication holds in the production database.

It is a number because the first releases used it. A name would not keep them out.
"""


class AuditFailed(PublishError):
    """No line passed. Readers keep the version that they had.

    `failed`: the results of the failed audits.
    """

    def __init__(self, failed: Sequence[AuditResult]) -> None:
        self.failed = failed
        lines = "".join(f"\n  {result.message}" for result in failed)
        super().__init__(
            f"Nothing was published, {len(failed)} audit(s) failed:{lines}\n{remedy(failed)}"
        )


def remedy(failed: Sequence[AuditResult]) -> str:
    """What to do about failed audits."""
    text = "Correct the tables in staging and publish again."
    if names := [result.name for result in failed if result.limit]:
        text += (
            " If a limit does not fit your data, change it where it is declared. If the deviation "
            "is right this once, run softcart accept "
            f"{names[0]} --reason '…' and publish again."
        )
    return text


@dataclass(frozen=True)
class LineOutcome:
    """The outcome of a line.

    `passed`: whether it went live. `version`: the publication that its live tables come from, None
    if it was never published. `failed`: the audits that failed, if the line was held.
    """

    passed: bool
    version: int | None
    failed: tuple[AuditResult, ...] = ()


@dataclass(frozen=True)
class Publication:
    """The result of a publication.

    `version`: 1, 2, … `lines`: the outcome of each requested line. `row_counts`: rows per table
    that went live. `written`: the rows that were deleted and inserted in each table. `versions`:
    what the live rows of each table are known by. It is another text if they are other rows.
    `audits`: the result of every audit that ran. An audit that failed for the new tables of a held
    line counts as failed, even if it passed for the tables that the line keeps. `accepted`: the
    acceptances that let failed audits pass, by audit.
    """

    version: int
    lines: dict[str, LineOutcome]
    row_counts: dict[str, int]
    written: dict[str, int]
    versions: dict[str, str]
    audits: list[AuditResult]
    accepted: dict[str, Acceptance]
    seconds: float


def publish(
    staging: PostgresConnection,
    production: PostgresConnection,
    tables: Sequence[PublishedTable],
    audits: Sequence[AnyAudit],
    lines: Collection[str] | None = None,
    on_progress: Tell | None = None,
    *,
    complete: bool = False,
    refused: Mapping[str, str] | None = None,
) -> Publication:
    """Publish the lines of business that pass their audits, all at one moment.

    `tables`: every declared table of every line. A table that is left out disappears from
    production. `lines`: the lines to publish, by default all. The others keep their live tables.
    `on_progress` is called with a line of text after each part, from several threads. `complete`:
    compare every row with staging and let all audits read all rows, not only those that changed. A
    table that differs is copied whole. `refused`: tables that must not go live, each with the
    reason. Their lines are held.

    Raises `AuditFailed` if no line passes. Raises `PublishError` if another publication is running,
    or if a server refuses a statement.
    """
    started = time.monotonic()
    tell = on_progress or (lambda line: None)
    wanted = set(lines) if lines is not None else {table.line for table in tables}
    # Autocommit, because the session keeps the lock. One long transaction would also keep
    # PostgreSQL from removing old rows anywhere in the database.
    with production.connect(application_name=APPLICATION, autocommit=True) as session:
        _lock(session)
        with naming("production: setting up"):
            slots.set_up(session)
            reading.create_roles(session, tell)
            live = Live.read(session, tables)
            accepted = acceptances.read_open(session)
        held = _held(
            staging, [table for table in tables if table.line in wanted], audits, refused or {}
        )
        new = wanted - held.keys()
        if not new:
            raise _all_failed(session, wanted, held)
        _watch(staging, tables, tell)
        with (
            _snapshot(staging, production, [t for t in tables if t.line in new]) as snapshot,
            differences.room(session),
        ):
            candidate = Candidate.prepare(session, snapshot, live, tables, new, tell)
            candidate.write(complete=complete)
            auditor = _Auditor(snapshot, candidate, tables, held, accepted, tell, complete)
            auditor.hold_what_fails(audits)
            if not candidate.new:
                raise _all_failed(session, wanted, held)
            # After the audits, because a line that they hold gets its tables once more.
            candidate.prepare_for_readers()
            tell("indexes and statistics made")
            found = _comments(snapshot, [t for t in tables if t.line in candidate.new])
        version = candidate.version()
        # An acceptance that was not needed is used up too. It was for this publication, and would
        # let a mistake pass later.
        over = [each for each in accepted.values() if each.line in candidate.new]

        def note() -> None:
            acceptances.use(session, over, version.number)
            acceptances.record(session, wanted, held)
            reading.serve(session, tables, version.shape, found, tell)

        with naming("production: switching"):
            slots.switch(session, version, live.current, also=note)
        tell(f"version {version.number} published")
    _drop_notes(staging, candidate, version, tell)
    outcomes = {
        line: LineOutcome(
            line in candidate.new,
            version.lines[line].version if line in version.lines else None,
            tuple(held.get(line, ())),
        )
        for line in sorted(wanted)
    }
    published = {name for line in candidate.new for name in version.lines[line].tables}
    rows = {name: count for name, count in version.row_counts.items() if name in published}
    return Publication(
        version.number,
        outcomes,
        rows,
        candidate.written,
        {name: content.label for name, content in version.contents.items()},
        # A table that staging lacks was never audited, but its line is held for it.
        list((auditor.results | {result.name: result for result in _flat(held)}).values()),
        {name: accepted[name] for name in auditor.needed if accepted[name] in over},
        time.monotonic() - started,
    )


def _lock(session: psycopg.Connection) -> None:
    """Become the only publication.

    The lock of a killed publication ends as soon as its server process notices. So it is worth
    waiting two seconds.
    """
    try:
        locks.take(session, _LOCK, wait_seconds=2)
    except locks.LockHeld as held:
        raise PublishError(
            f"Another publication is under way: {held.holder or 'it has ended just now'}. "
            "Publish again when it is done."
        ) from None


def _all_failed(
    session: psycopg.Connection, wanted: Collection[str], held: dict[str, list[AuditResult]]
) -> AuditFailed:
    """The error of a publication without a line that passed. Records the limits that failed."""
    with naming("production: recording the limits that failed"):
        acceptances.record(session, wanted, held)
    return AuditFailed(_flat(held))


def _held(
    staging: PostgresConnection,
    tables: Sequence[PublishedTable],
    audits: Sequence[AnyAudit],
    refused: Mapping[str, str],
) -> dict[str, list[AuditResult]]:
    """The lines with tables that staging lacks or that are refused, each with the audits that fail
    for it.

    A line that was never built must not stop the publication of the others.
    """
    with staging.connect(application_name=APPLICATION) as session:
        there = slots.read_shapes(session, "|".join({table.schema for table in tables}))
    held: dict[str, list[AuditResult]] = {}
    for table in tables:
        note = refused.get(table.name)
        if table.name not in there.get(table.schema, {}):
            note = (
                f"{table.schema}.{table.name} does not exist in staging database "
                f"{staging.database!r}. Materialise it, or correct {staging.prefix}_DATABASE."
            )
        if note:
            names = [
                audit.name
                for audit in audits
                if audit.table == table.name and isinstance(audit, Comparison | Equality)
            ]
            held.setdefault(table.line, []).extend(
                AuditResult(name, table.name, False, {"note": note})
                for name in names or [f"{table.name}_exists"]
            )
    return held


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
            "The tables to publish cannot be read in staging database "
            f"{staging.database!r}: {str(error).strip()}. Materialise what is missing, or correct "
            f"{staging.prefix}_DATABASE."
        ) from None


_NOTE_OF_VIEW = re.compile("dbt [0-9a-f]{32} [0-9a-f]{32}")
"""What dbt's materialisation of a view keeps for itself, in the place of its description."""


def _comments(snapshot: Snapshot, tables: Sequence[PublishedTable]) -> comments.Comments:
    """The comments that staging has on these tables and their columns."""
    found: dict[tuple[str, str], str] = {}
    for schema in {table.schema for table in tables}:
        names = [table.name for table in tables if table.schema == schema]
        found |= comments.read(snapshot.session, schema, names)
    return {
        (table, column): text
        for (table, column), text in found.items()
        if column or not _NOTE_OF_VIEW.fullmatch(text)
    }


def _watch(staging: PostgresConnection, tables: Sequence[PublishedTable], tell: Tell) -> None:
    """Note from now on what changes in staging. It comes before the snapshot, so nothing is missed
    between the two.
    """
    try:
        with staging.connect(application_name=APPLICATION, autocommit=True) as session:
            changes.watch(session, tables, tell)
    except psycopg.Error as error:
        raise PublishError(
            f"Changes cannot be noted in staging database {staging.database!r}, nothing was "
            f"published: {str(error).strip()}. Its user must own the tables and may create the "
            f"schema {changes.SCHEMA}."
        ) from None


def _drop_notes(
    staging: PostgresConnection, candidate: Candidate, version: Version, tell: Tell
) -> None:
    """Readers see the version already, so a failure is told and not raised."""
    try:
        with staging.connect(application_name=APPLICATION, autocommit=True) as session:
            candidate.drop_notes(session, version)
    except (psycopg.Error, ServerUnreachable) as error:
        tell(f"old notes of changes stay in staging until the next publication: {error}")


_REFUSED = (psycopg.ProgrammingError, psycopg.DataError)
"""A query that cannot be answered, whatever the state of the server."""
_HARMLESS = (psycopg.errors.UndefinedColumn, psycopg.errors.SyntaxError, psycopg.DataError)
"""What a query that a line declares today may lack in the tables that the line keeps."""


class _Auditor:
    """Audits a candidate and holds the lines that fail.

    `held`: these lines, each with the audits that failed. `results`: the result of each audit. If
    an audit failed in any round, its result is that failure. `needed`: the audits that failed and
    hold no line, because a person accepted that. `complete`: all audits read all rows.
    """

    def __init__(
        self,
        snapshot: Snapshot,
        candidate: Candidate,
        tables: Sequence[PublishedTable],
        held: dict[str, list[AuditResult]],
        accepted: Mapping[str, Acceptance],
        tell: Tell,
        complete: bool,
    ) -> None:
        self.held = held
        self.results: dict[str, AuditResult] = {}
        self.needed: set[str] = set()
        self._accepted, self._complete = accepted, complete
        self._snapshot, self._candidate, self._tell = snapshot, candidate, tell
        self._line_of = {table.name: table.line for table in tables}
        self._staging_schemas = tuple({table.schema for table in tables})

    def hold_what_fails(self, audits: Sequence[AnyAudit]) -> None:
        """Hold lines until all tables that will be live pass their audits and fit together."""
        candidate = self._candidate
        own = [audit for audit in audits if len(self._lines(audit)) == 1]
        crossing = [audit for audit in audits if len(self._lines(audit)) > 1]
        # Audits of single lines come first. Otherwise a line could be held because of a mistake in
        # another line that will not go live at all.
        failed = self._round(own)
        left = crossing
        while candidate.new:
            if failed:
                self._hold(failed)
            failed = self._round(left)
            if not failed:
                break
            # Holding a line exchanges its tables. Audits of other tables cannot change.
            left = [audit for audit in crossing if self._lines(audit) & failed.keys()]

    def _lines(self, audit: AnyAudit) -> set[str]:
        """The lines whose tables an audit reads."""
        reads = audit.reads if isinstance(audit, Audit | Measured) else ()
        return {self._line_of[name] for name in (audit.table, *reads)}

    def _round(self, audits: Sequence[AnyAudit]) -> dict[str, list[AuditResult]]:
        """Run the audits that concern new lines. Returns the lines to hold, with their failures."""
        new = self._candidate.new
        concerned = [audit for audit in audits if self._lines(audit) & new]
        results = self._snapshot.map(self._run, concerned)
        failed: dict[str, list[AuditResult]] = {}
        for audit, result in zip(concerned, results, strict=True):
            self.results.setdefault(audit.name, result)
            if not result.passed:
                self.results[audit.name] = result
                if self._is_accepted(result):
                    continue
                own = {self._line_of[audit.table]}
                # If the table is live already, its rows stay. Then the line that they refer to has
                # to be held.
                for line in own & new or self._lines(audit) & new:
                    failed.setdefault(line, []).append(result)
        if concerned:
            passed = sum(result.passed for result in results)
            self._tell(f"{passed} of {len(concerned)} audits passed")
        return failed

    def _is_accepted(self, result: AuditResult) -> bool:
        acceptance = self._accepted.get(result.name)
        if not acceptance or not acceptance.covers(result):
            return False
        if result.name not in self.needed:
            self.needed.add(result.name)
            self._tell(f"{result.message} Accepted once: {acceptance}")
        return True

    def _hold(self, failed: dict[str, list[AuditResult]]) -> None:
        self.held |= failed
        for line, results in failed.items():
            names = ", ".join(result.name for result in results)
            self._tell(f"{line} is held and keeps what is live: {names} failed")
        if self._candidate.new <= failed.keys():
            self._candidate.new.clear()  # There will be no switch, so nothing has to be copied.
        else:
            self._candidate.keep(failed)

    def _run(
        self,
        staging: psycopg.Connection,
        production: psycopg.Connection,
        audit: AnyAudit,
    ) -> AuditResult:
        """Run an audit of either kind on the candidate.

        A query that PostgreSQL refuses is a mistake in a declaration, such as in the `where` of a
        reference. It is a failed audit, so that it holds its own line only.
        """
        with naming(f"production/{audit.table}: audit {audit.name}"):
            try:
                return self._ask(staging, production, audit)
            except _REFUSED as error:
                note = f"The query of the audit is refused: {str(error).strip()}."
                if isinstance(audit, Audit | Measured) and audit.limit:
                    note += f" It is declared at {audit.limit.declared_at}."
                return AuditResult(audit.name, audit.table, False, {"note": note})

    def _ask(
        self,
        staging: psycopg.Connection,
        production: psycopg.Connection,
        audit: AnyAudit,
    ) -> AuditResult:
        candidate = self._candidate
        current = candidate.live.current
        if isinstance(audit, Audit | Measured):
            return self._run_audit(production, audit)
        if isinstance(audit, Equality):
            ours, theirs = candidate.equality[audit.table]
            how = "changed rows" if candidate.is_difference(audit.table) else "all rows"
            details = {"row_count": ours.count, "row_count_staging": theirs.count, "compared": how}
            return AuditResult(audit.name, audit.table, ours == theirs, details)
        if isinstance(audit, Comparison):
            if candidate.is_difference(audit.table):
                note = {"note": "all rows are those of staging"}
                return AuditResult(audit.name, audit.table, True, note)
            slot = (slots.slot_schema(candidate.slot),)
            return audit.compare((production, slot), (staging, self._staging_schemas))
        if current and audit.table in current.row_counts:
            live = current.row_counts[audit.table]
            usual = candidate.live.usual.get(audit.table, live)
            return audit.compare(candidate.rows(audit.table), live, usual)
        note = {"note": "first publication of this table"}
        return AuditResult(audit.name, audit.table, True, note)

    def _run_audit(self, production: psycopg.Connection, audit: Audit | Measured) -> AuditResult:
        """Lines that keep their tables may lack a table or a column that the audit reads."""
        candidate = self._candidate
        if audit.table not in candidate.shape:
            note = f"{audit.table} will not be live"
            return AuditResult(audit.name, audit.table, True, {"note": note})
        if missing := [name for name in audit.reads if name not in candidate.shape]:
            note = (
                f"{', '.join(missing)} will not be live: its line is held and was never published"
            )
            return AuditResult(audit.name, audit.table, False, {"note": note})
        try:
            if isinstance(audit, Measured):
                figures = [candidate.measure(production, part) for part in audit.parts]
                return audit.judge({name: n for each in figures for name, n in each.items()})
            return self._run_on_rows(production, audit)
        except _REFUSED as error:
            # A live table may lack columns that are declared today. Rows without a reference's
            # column refer to nothing, so they break no reference. Nor does a mistake in the
            # declaration of a line that is held already.
            kept = {name for name in (audit.table, *audit.reads) if not candidate.is_new(name)}
            if not kept:
                raise
            harmless = audit.table in kept and isinstance(error, _HARMLESS)
            note = f"{', '.join(sorted(kept))} as it is live: {str(error).strip()}"
            return AuditResult(audit.name, audit.table, harmless, {"note": note})

    def _run_on_rows(self, production: psycopg.Connection, audit: Audit) -> AuditResult:
        """Run the audit on added rows if the others passed it and refer to nothing that is gone.
        Otherwise, or if an added row fails, run it on all rows.
        """
        candidate = self._candidate
        slot = slots.slot_schema(candidate.slot)
        if audit.added is None:
            return audit.run(production, slot)
        question = audit.sql.as_string()
        result = None
        if (
            not self._complete
            and candidate.live_passed(audit.table, question)
            and not any(candidate.has_lost(production, *column) for column in audit.refers_to)
        ):
            if candidate.is_as_live(audit.table):
                details: Details = {"offending": 0, "total": candidate.rows(audit.table)}
                result = AuditResult(audit.name, audit.table, True, details)
            elif candidate.has_added(audit.table):
                result = replace(audit, sql=audit.added).run(production, slot)
        if result is None or not result.passed:
            result = audit.run(production, slot)
        if result.passed:
            candidate.passed(audit.table, question)
        return result


def _flat(held: dict[str, list[AuditResult]]) -> list[AuditResult]:
    return list({result.name: result for failed in held.values() for result in failed}.values())
