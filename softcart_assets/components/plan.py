"""What to load and what to build next, as a pure function without Dagster's instance and servers.

A load and what follows it are two runs. Only after the load, the versions of the raw tables and the
results of their checks are known, so a wave is exactly what lies behind the tables that moved. In
one run, a check that fails at every load would skip everything, as long as traffic never stops.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum, auto
from functools import cache

import dagster as dg

LOAD_AGAIN_AFTER = timedelta(minutes=5)
"""How long to wait after a failed load before the same tables are requested again."""

BUILD_AGAIN_AFTER = timedelta(hours=1)
"""How long to wait before an asset is tried again whose inputs did not move since it failed."""

CHECK_AGAIN_AFTER = timedelta(minutes=15)
"""How long to wait for the result of a blocking check. What ended one run may end the next, too."""

Keys = frozenset[dg.AssetKey]


class Verdict(Enum):
    """What the blocking checks of an asset say about its last build."""

    PASSED = auto()
    FAILED = auto()
    OPEN = auto()
    """None failed, and one has no result: it is new, or a run ended too early."""


@dataclass(frozen=True)
class Asset:
    """An asset that we make. `parents`: the assets that it reads, as far as we make them too.

    `together`: itself, and the assets that are made whenever it is. For a published table, these
    are its line and what the lines share. For a raw table, all that the same load changes.
    `is_raw`: it is loaded from a source. `code`: the version of its code, None if it has none.
    """

    parents: Keys
    together: Keys
    is_raw: bool = False
    code: str | None = None


@dataclass(frozen=True)
class Build:
    """The last success of an asset.

    `event`: the number of Dagster's event. `version`: the data version. `inputs`: the versions of
    the assets that it was made of.
    """

    event: int
    version: str
    at: datetime
    code: str | None = None
    inputs: Mapping[dg.AssetKey, str] = field(default_factory=dict)
    verdict: Verdict = Verdict.PASSED


@dataclass(frozen=True)
class Attempt:
    """A request of an asset: when, and in which state of its inputs (see `_Planner.state`)."""

    state: str
    at: datetime


@dataclass(frozen=True)
class State:
    """Everything that a plan depends on.

    `builds`: the last success of each asset that has one. `behind`: the raw tables to load, as the
    source changed, or Dagster does not know the version that raw has. `is_unsettled`: a load that
    Dagster does not know changed some of them. `followed`: the raw tables that a stream changes at
    any time. `is_building`: a wave is under way. `attempts`: what was requested and did not succeed
    yet, as the last plan left it.
    """

    now: datetime
    builds: Mapping[dg.AssetKey, Build]
    behind: Keys = frozenset()
    is_unsettled: bool = False
    followed: Keys = frozenset()
    is_building: bool = False
    attempts: Mapping[dg.AssetKey, Attempt] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """What to request as one run: a load of raw tables, or a wave of what is behind them.

    `waiting`: what is not up to date and not requested: something before it is not sound, or it
    failed a short time ago. `attempts` belong to the next state.
    """

    request: Keys
    is_load: bool
    waiting: Keys
    attempts: Mapping[dg.AssetKey, Attempt]


def plan(assets: Mapping[dg.AssetKey, Asset], state: State) -> Plan:
    """What to request in this state.

    The caller asks only while no run is queued or under way, or a wave alone. A load may go beside
    a wave: it waits until the wave has read raw. So new rows do not wait for the publication. A
    stream needs no such help. Otherwise a wave comes before the next load, as a source never rests.
    But after a load that Dagster does not know, a load comes first and
    reports all that changed: a wave that knows some of the changes would not be whole. So it does
    for a table that was never loaded.
    """
    planner = _Planner(assets, state)
    wave, load = planner.wave(), planner.load()
    if state.is_building:
        wave, load = frozenset(), load - state.followed
    is_new = any(key not in state.builds for key in load)
    is_load = bool(load) and (not wave or state.is_unsettled or is_new)
    request = load if is_load else wave
    needed = {key for key in assets if planner.is_needed(key)}
    pending = {
        key: attempt
        for key, attempt in state.attempts.items()
        if key in needed and attempt.state == planner.state(key)
    }
    requested = {key: Attempt(planner.state(key), state.now) for key in request}
    return Plan(
        request,
        is_load,
        waiting=frozenset(needed - wave - load),
        attempts=pending | requested,
    )


def sound(assets: Mapping[dg.AssetKey, Asset], builds: Mapping[dg.AssetKey, Build]) -> Keys:
    """The assets that may be made from what there is.

    Nothing before them, and before what is made with them, was refused by a blocking check.
    """

    @cache
    def passed(key: dg.AssetKey) -> bool:
        build = builds.get(key)
        return (
            build is not None
            and build.verdict is Verdict.PASSED
            and all(map(passed, assets[key].parents))
        )

    return frozenset(
        key
        for key, asset in assets.items()
        if all(passed(each) for mate in asset.together for each in assets[mate].parents)
    )


class _Planner:
    """The questions to a state. Their answers are kept, because the graph has many paths."""

    def __init__(self, assets: Mapping[dg.AssetKey, Asset], state: State) -> None:
        self._assets, self._now = assets, state.now
        self._builds, self._behind, self._attempts = state.builds, state.behind, state.attempts
        self._followed = state.followed
        self._moving: Keys = frozenset()
        self.is_requested = cache(self._is_requested)
        self._is_usable = cache(self._usable)

    def load(self) -> Keys:
        """The raw tables to load now."""
        due = {
            key
            for key, asset in self._assets.items()
            if asset.is_raw
            and (
                (key in self._behind and self._may_try(key, LOAD_AGAIN_AFTER))
                or self._lacks_result(key)
            )
        }
        return frozenset(
            mate
            for key in due
            for mate in self._assets[key].together
            if mate in due or self._may_try(mate, LOAD_AGAIN_AFTER)
        )

    def wave(self) -> Keys:
        """What to build now: all that lies behind what moved, if everything before it is sound.

        What a stream follows moves until the wave begins, and nobody knows which tables. So any
        wave has all that is behind these tables. Otherwise facts would come without the new rows
        of their dimensions.
        """
        found = {key for key in self._assets if self.is_requested(key)}
        if found and self._followed:
            self._moving = self._followed
            self.is_requested.cache_clear()
            self._is_usable.cache_clear()
            found = {key for key in self._assets if self.is_requested(key)}
        return frozenset(mate for key in found for mate in self._assets[key].together)

    def is_needed(self, key: dg.AssetKey) -> bool:
        """Whether an asset is not up to date, or a blocking check lacks its result."""
        build = self._builds.get(key)
        outdated = key in self._behind if self._assets[key].is_raw else self._is_outdated(key)
        return outdated or (build is not None and build.verdict is Verdict.OPEN)

    def state(self, key: dg.AssetKey) -> str:
        """What must change before a failed attempt is repeated early, as a short text.

        For a raw table it is a load that succeeded. For every other asset, it is its code and the
        versions of what it reads.
        """
        asset = self._assets[key]
        if asset.is_raw:
            return str(self._builds[key].event) if key in self._builds else ""
        versions = [f"{parent}={self._version(parent)}" for parent in sorted(asset.parents)]
        return hashlib.sha256("\n".join([str(asset.code), *versions]).encode()).hexdigest()[:16]

    def _version(self, key: dg.AssetKey) -> str | None:
        return self._builds[key].version if key in self._builds else None

    def _is_outdated(self, key: dg.AssetKey) -> bool:
        """Whether an asset was never built, or from other code or inputs than there are now."""
        build, asset = self._builds.get(key), self._assets[key]
        return (
            build is None
            or (asset.code is not None and asset.code != build.code)
            or any(build.inputs.get(each) != self._version(each) for each in asset.parents)
        )

    def _may_try(self, key: dg.AssetKey, wait: timedelta) -> bool:
        attempt = self._attempts.get(key)
        return attempt is None or attempt.state != self.state(key) or self._now - attempt.at >= wait

    def _lacks_result(self, key: dg.AssetKey) -> bool:
        """Whether a blocking check has had no result for so long that its asset is made again."""
        build, attempt = self._builds.get(key), self._attempts.get(key)
        if build is None or build.verdict is not Verdict.OPEN:
            return False
        last = max(build.at, attempt.at) if attempt else build.at
        return self._now - last >= CHECK_AGAIN_AFTER

    def _is_wanted(self, key: dg.AssetKey) -> bool:
        return (
            (self._is_outdated(key) and self._may_try(key, BUILD_AGAIN_AFTER))
            or self._lacks_result(key)
            or not self._moving.isdisjoint(self._assets[key].parents)
            or any(map(self.is_requested, self._assets[key].parents))
        )

    def _is_requested(self, key: dg.AssetKey) -> bool:
        asset = self._assets[key]
        if asset.is_raw:
            return False
        # What several lines share goes live with each of them, but does not make them go live.
        own = {mate for mate in asset.together if key in self._assets[mate].together}
        read = {each for mate in asset.together for each in self._assets[mate].parents}
        return any(map(self._is_wanted, own)) and all(map(self._is_usable, read))

    def _usable(self, key: dg.AssetKey) -> bool:
        """Whether others may be built from an asset in this wave.

        What is rebuilt in the same wave is checked there. Everything else must be up to date and
        sound, and all that it was made of. Most models are views: whoever reads them reads what is
        before them. A raw table may be behind its source, because a source never rests.
        """
        if self.is_requested(key):
            return True
        build, asset = self._builds.get(key), self._assets[key]
        return (
            build is not None
            and build.verdict is Verdict.PASSED
            and (asset.is_raw or not self._is_outdated(key))
            and all(map(self._is_usable, asset.parents))
        )
