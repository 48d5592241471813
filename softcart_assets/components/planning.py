"""What the plan needs to know: the graph, Dagster's records, the bookkeeping and the sources."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import Enum, auto
from typing import Any

import dagster as dg

from softcart_assets.assembly import Lines
from softcart_assets.components.keys import raw_key, raw_keys
from softcart_assets.components.plan import Asset, Attempt, Build, Keys, Plan, State, Verdict, plan
from softcart_assets.components.pool import BUILD, PLANNED_TAG
from softcart_assets.components.publication import go_live_together
from softcart_assets.connections import PostgresConnection
from softcart_assets.dagster_private import DATA_VERSION_TAG, DataProvenance
from softcart_assets.ingestion.connectors import connector
from softcart_assets.ingestion.load import (
    changed_tables,
    is_followed,
    load_of,
    loaded_positions,
    raw_versions,
)
from softcart_assets.ingestion.position import latest
from softcart_assets.lines.model import Source

UNDER_WAY = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


@dataclass(frozen=True)
class Memory:
    """What one plan leaves for the next one.

    `positions`: for each source with a log, a position at which no table was behind. `attempts`:
    see `State`.
    """

    positions: Mapping[str, str] = field(default_factory=dict)
    attempts: Mapping[dg.AssetKey, Attempt] = field(default_factory=dict)

    @classmethod
    def read(cls, cursor: str | None) -> Memory:
        """The memory that a cursor holds."""
        if not cursor:
            return cls()
        known = json.loads(cursor)
        attempts = {
            dg.AssetKey.from_user_string(key): Attempt(state, datetime.fromisoformat(at))
            for key, (state, at) in known["attempts"].items()
        }
        return cls(known["positions"], attempts)

    def cursor(self) -> str:
        """The memory as a cursor."""
        attempts = {
            key.to_user_string(): (attempt.state, attempt.at.isoformat())
            for key, attempt in self.attempts.items()
        }
        return json.dumps({"positions": dict(self.positions), "attempts": attempts})


@dataclass(frozen=True)
class Planned:
    """A plan, and what it is based on.

    `positions`: where raw is, by source. `unread`: the sources that could not be asked, and why.
    """

    plan: Plan
    memory: Memory
    positions: Mapping[str, str]
    unread: Mapping[str, Exception]


@dataclass(frozen=True)
class Servers:
    """How to reach the staging warehouse and the sources. Each function raises `SettingError`."""

    staging: Callable[[], PostgresConnection]
    source: Callable[[Source], Any]


class Records:
    """The graph, and what Dagster knows of the last builds.

    Reading all records takes a fifth of a CPU second, so they are kept until another event comes.
    """

    def __init__(
        self, instance: dg.DagsterInstance, repository: dg.RepositoryDefinition, lines: Lines
    ) -> None:
        self._instance, self._graph = instance, repository.asset_graph
        self.assets = made_assets(self._graph, lines)
        self._builds: Mapping[dg.AssetKey, Build] = {}
        self._read_at: int | None = -1

    def builds(self) -> Mapping[dg.AssetKey, Build]:
        """The last success of each asset, with what its blocking checks say of it."""
        # Asked before, so that an event which comes meanwhile is read the next time.
        event = self._instance.event_log_storage.get_maximum_record_id()
        if event != self._read_at:
            self._builds, self._read_at = _builds(self._instance, self._graph), event
        return self._builds


def next_run(
    records: Records,
    lines: Lines,
    servers: Servers,
    memory: Memory,
    now: datetime,
    *,
    is_building: bool = False,
) -> Planned:
    """Plan the next run, while a wave is under way (`is_building`) or nothing.

    It costs a query per source, three to Dagster's storage, and few to staging.

    A source that cannot be asked does not keep the others waiting. It must not look like "nothing
    changed", so the caller tells it.
    """
    assets, found = records.assets, _Found(records.builds())
    for source in lines.sources:
        if any(raw_key(source, table) in assets for table in source.tables):
            found.ask(source, servers, memory.positions.get(source.name))
    planned = plan(
        assets,
        State(
            now,
            found.builds,
            behind=frozenset(found.behind),
            is_unsettled=found.is_unsettled,
            followed=frozenset(found.followed),
            is_building=is_building,
            attempts=memory.attempts,
        ),
    )
    left = Memory({**memory.positions, **found.caught_up}, planned.attempts)
    return Planned(planned, left, found.positions, found.unread)


@dataclass
class _Found:
    """What the bookkeeping and the sources say of the raw tables."""

    builds: Mapping[dg.AssetKey, Build]
    behind: set[dg.AssetKey] = field(default_factory=set)
    is_unsettled: bool = False
    followed: set[dg.AssetKey] = field(default_factory=set)
    positions: dict[str, str] = field(default_factory=dict)
    caught_up: dict[str, str] = field(default_factory=dict)
    unread: dict[str, Exception] = field(default_factory=dict)

    def ask(self, source: Source, servers: Servers, start: str | None) -> None:
        """Add what is to be known of a source. `start`: where no table was behind."""
        staging, has_log = servers.staging(), connector(source.kind).has_log
        for table, version in raw_versions(staging, source).items():
            if table in (each.name for each in source.tables):
                self._compare(raw_keys(source, source.table(table)), version)
        if is_followed(source, staging):
            captured = (table for table in source.tables if table.strategy == "cdc")
            self.followed |= {key for table in captured for key in raw_keys(source, table)}
        loaded = loaded_positions(staging, source)
        # Without a log, positions do not follow one another. Only the loads tell where to look.
        later = [start] if start and has_log else []
        since = {table: latest(position, *later) for table, position in loaded.items()}
        if loaded and has_log:
            self.positions[source.name] = latest(*loaded.values())
        try:
            changes = changed_tables(source, servers.source(source), since)
        except Exception as error:  # whatever it is, the other sources go on
            self.unread[source.name] = error
            return
        names = [table for table in source.tables if table.name in changes.tables]
        self.behind |= {key for table in names for key in raw_keys(source, table)}
        # From there on, a table that seldom changes need not be looked up from its old position.
        if has_log and not names and changes.position:
            self.caught_up[source.name] = changes.position

    def _compare(self, keys: Iterable[dg.AssetKey], version: str) -> None:
        """Compare the version of a table with the one that Dagster knows."""
        for key in keys:
            known = self.builds[key].version if key in self.builds else ""
            if known != version:
                self.behind.add(key)
            self.is_unsettled |= load_of(known) != load_of(version)


class Activity(Enum):
    """What the runs are at that are queued or under way."""

    NOTHING = auto()
    WAVE = auto()
    """A wave that has raw for itself, or has read it already, and nothing else."""
    MORE = auto()


def activity(instance: dg.DagsterInstance) -> Activity:
    """What is going on."""
    # A run that waits in the queue counts too. Otherwise each tick would request the same again.
    runs = instance.get_runs(dg.RunsFilter(statuses=UNDER_WAY))
    if not runs:
        return Activity.NOTHING
    is_wave = all(run.tags.get(PLANNED_TAG) == BUILD and _has_begun(instance, run) for run in runs)
    return Activity.WAVE if is_wave else Activity.MORE


def _has_begun(instance: dg.DagsterInstance, run: dg.DagsterRun) -> bool:
    """Whether a step of a run has ended. The first steps of a wave take the raw tables.

    A load that came before them would change tables whose readers are not in the wave.
    """
    ended = {dg.DagsterEventType.STEP_SUCCESS, dg.DagsterEventType.STEP_FAILURE}
    return bool(instance.get_records_for_run(run.run_id, of_type=ended, limit=1).records)


def made_assets(graph: Any, lines: Lines) -> dict[dg.AssetKey, Asset]:
    """The assets that we make, as the plan sees them."""
    known = graph.materializable_asset_keys
    together = {key: frozenset(mates) & known for key, mates in go_live_together(lines).items()}
    loaded = _loaded_together(lines)
    return {
        key: Asset(
            parents=frozenset(graph.get(key).parent_keys & known),
            together=together.get(key) or loaded.get(key, frozenset()) & known or frozenset({key}),
            is_raw=key in loaded,
            code=graph.get(key).code_version,
        )
        for key in known
    }


def _loaded_together(lines: Lines) -> dict[dg.AssetKey, Keys]:
    """For each raw table, all that a load of it changes: its history, and more.

    A load applies the log of the source to every captured table. If it did not report all of them,
    a wave would lack what lies behind the others, although models read them.
    """
    found: dict[dg.AssetKey, Keys] = {}
    for source in lines.sources:
        has_log = connector(source.kind).has_log
        followed = [t for t in source.tables if has_log and t.strategy == "cdc"]
        for table in source.tables:
            mates = followed if table in followed else [table]
            keys = frozenset(key for mate in mates for key in raw_keys(source, mate))
            found |= dict.fromkeys(raw_keys(source, table), keys)
    return found


def _builds(instance: dg.DagsterInstance, graph: Any) -> dict[dg.AssetKey, Build]:
    """See `Records`."""
    keys = graph.materializable_asset_keys
    blocking = [key for key in graph.asset_check_keys if graph.get(key).blocking]
    results = instance.event_log_storage.get_latest_asset_check_execution_by_key(blocking)
    checks: dict[dg.AssetKey, list[dg.AssetCheckKey]] = {}
    for check in blocking:
        checks.setdefault(check.asset_key, []).append(check)
    found = {}
    for asset in instance.get_asset_records(list(keys)):
        record = asset.asset_entry.last_materialization_record
        if record:
            build = _build(record)
            key = asset.asset_entry.asset_key
            said = [_verdict(results.get(check), record) for check in checks.get(key, ())]
            found[key] = replace(build, verdict=_worst(said))
    return found


def _build(record: dg.EventLogRecord) -> Build:
    """What the event of a materialisation tells."""
    tags = record.event_log_entry.tags or {}
    origin = DataProvenance.from_tags(tags)
    return Build(
        record.storage_id,
        # An event of somebody else's has no version, and tells nothing of what it was made of.
        tags.get(DATA_VERSION_TAG, str(record.storage_id)),
        datetime.fromtimestamp(record.timestamp, UTC),
        origin.code_version if origin else None,
        {key: each.value for key, each in origin.input_data_versions.items()} if origin else {},
    )


def _verdict(result: Any, build: dg.EventLogRecord) -> Verdict:
    """What the last execution of a check says of a build. One that only warns blocks nothing."""
    evaluation = result.evaluation if result else None
    # Of a run that has only begun, or ended too early, the check is planned.
    if not isinstance(evaluation, dg.AssetCheckEvaluation):
        return Verdict.OPEN
    target = evaluation.target_materialization_data
    is_of_build = (
        result.run_id == build.run_id
        or (target is not None and target.storage_id == build.storage_id)
        or (target is None and result.create_timestamp >= build.timestamp)
    )
    if not is_of_build:
        return Verdict.OPEN
    is_passed = evaluation.passed or evaluation.severity != dg.AssetCheckSeverity.ERROR
    return Verdict.PASSED if is_passed else Verdict.FAILED


def _worst(verdicts: list[Verdict]) -> Verdict:
    for each in (Verdict.FAILED, Verdict.OPEN):
        if each in verdicts:
            return each
    return Verdict.PASSED
