"""The plan: what is behind is loaded, what is stale is built in one wave, and nothing else is.

`World` runs plans as Dagster would, with failures, so that whole histories can be tried.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from softcart_assets.components.plan import (
    BUILD_AGAIN_AFTER,
    CHECK_AGAIN_AFTER,
    LOAD_AGAIN_AFTER,
    Asset,
    Attempt,
    Build,
    Plan,
    State,
    Verdict,
    plan,
    sound,
)

NOW = datetime(2026, 1, 2, tzinfo=UTC)
MOMENT = timedelta(seconds=5)


def _keys(names: str) -> frozenset[dg.AssetKey]:
    return frozenset(map(dg.AssetKey, names.split()))


def _asset(
    name: str, reads: str = "", together: str = "", **more: Any
) -> tuple[dg.AssetKey, Asset]:
    return dg.AssetKey(name), Asset(_keys(reads), _keys(together) or _keys(name), **more)


ASSETS: Mapping[dg.AssetKey, Asset] = dict(
    [
        # One log for two tables, and a source of its own.
        _asset("orders", together="orders lines", is_raw=True),
        _asset("lines", together="orders lines", is_raw=True),
        _asset("products", is_raw=True),
        _asset("view", "lines"),
        _asset("calendar"),
        _asset("dim", "products"),
        _asset("fact", "orders view dim calendar"),
        _asset("lake", "lines"),
        _asset("aggregate", "lake"),
        _asset("price", "products"),
        # Two lines of business, and what they share.
        _asset("p_dim", "dim"),
        _asset("p_fact", "fact", together="p_fact p_aggregate p_dim"),
        _asset("p_aggregate", "aggregate", together="p_fact p_aggregate p_dim"),
        _asset("p_price", "price", together="p_price p_dim"),
        _asset("page", "p_fact p_aggregate"),
    ]
)
RAW = [key for key, asset in ASSETS.items() if asset.is_raw]
BEHIND_LINES = "view fact lake aggregate p_fact p_aggregate p_dim page"


class World:
    """Sources, raw tables and assets whose content is what they were made of."""

    def __init__(self) -> None:
        self.now, self._numbers = NOW, itertools.count(1)
        self.source = dict.fromkeys(RAW, 0)
        self.raw = dict.fromkeys(RAW, -1)
        """What raw really holds, whatever Dagster knows."""
        self.content: dict[dg.AssetKey, Any] = {}
        self.builds: dict[dg.AssetKey, Build] = {}
        self.moved_by_load: set[dg.AssetKey] = set()
        self.attempts: Mapping[dg.AssetKey, Attempt] = {}
        self.code: dict[dg.AssetKey, str] = {}
        self.followed: frozenset[dg.AssetKey] = frozenset()

    @property
    def assets(self) -> dict[dg.AssetKey, Asset]:
        return {
            key: Asset(each.parents, each.together, each.is_raw, self.code.get(key))
            for key, each in ASSETS.items()
        }

    def settle(self) -> None:
        """Everything is loaded and built."""
        while self.step():
            pass

    def change(self, *names: str) -> None:
        for name in names:
            self.source[dg.AssetKey(name)] += 1

    def load_elsewhere(self, name: str) -> None:
        """The command line loads a table, and with it the log of its source."""
        for key in ASSETS[dg.AssetKey(name)].together:
            self.raw[key] = self.source[key]
        self.moved_by_load.add(dg.AssetKey(name))

    def stream(self) -> None:
        """A stream applies the log. It records no load."""
        for key in _keys("orders lines"):
            self.raw[key] = self.source[key]

    def refuse(self, key: dg.AssetKey) -> None:
        """A blocking check of the last build fails."""
        if key in self.builds:
            self.builds[key] = Build(**vars(self.builds[key]) | {"verdict": Verdict.FAILED})

    def plan(self, is_building: bool = False) -> Plan:
        known = {key: self.builds[key].version for key in RAW if key in self.builds}
        behind = {
            key
            for key in RAW
            if self.raw[key] != self.source[key] or known.get(key) != str(self.raw[key])
        }
        unsettled = {key for key in self.moved_by_load if known.get(key) != str(self.raw[key])}
        found = plan(
            self.assets,
            State(
                self.now,
                self.builds,
                frozenset(behind),
                bool(unsettled),
                self.followed,
                is_building,
                self.attempts,
            ),
        )
        self.attempts = found.attempts
        return found

    def step(
        self,
        failing: Collection[dg.AssetKey] = (),
        unsound: Collection[dg.AssetKey] = (),
        unchecked: Collection[dg.AssetKey] = (),
    ) -> frozenset[dg.AssetKey]:
        """A tick, and the run that it requests. Returns the request."""
        found = self.plan()
        self.run(found, failing, unsound, unchecked)
        self.now += MOMENT
        return found.request

    def run(
        self,
        found: Plan,
        failing: Collection[dg.AssetKey] = (),
        unsound: Collection[dg.AssetKey] = (),
        unchecked: Collection[dg.AssetKey] = (),
    ) -> None:
        if found.is_load:
            for key in {mate for each in found.request for mate in ASSETS[each].together}:
                self.raw[key] = self.source[key]
        stopped: set[dg.AssetKey] = set()
        for key in (key for key in ASSETS if key in found.request):
            if key in failing or ASSETS[key].parents & stopped:
                stopped.add(key)
                continue
            self._make(key)
            if key in unchecked or key in unsound:
                verdict = Verdict.OPEN if key in unchecked else Verdict.FAILED
                self.builds[key] = Build(**vars(self.builds[key]) | {"verdict": verdict})
                stopped.add(key)

    def _make(self, key: dg.AssetKey) -> None:
        asset = ASSETS[key]
        self.content[key] = self.expected(key) if asset.is_raw else self._made_of(key)
        inputs = {each: self.builds[each].version for each in asset.parents}
        code = self.code.get(key)
        version = str(self.raw[key]) if asset.is_raw else str((code, sorted(inputs.items())))
        self.builds[key] = Build(next(self._numbers), version, self.now, code, inputs)

    def _made_of(self, key: dg.AssetKey) -> Any:
        # Whoever reads raw reads what it really holds.
        return {each: self.raw.get(each, self.content.get(each)) for each in ASSETS[key].parents}

    def expected(self, key: dg.AssetKey) -> Any:
        """What an asset holds if everything is built from raw as it is."""
        if ASSETS[key].is_raw:
            return self.raw[key]
        return {each: self.expected(each) for each in ASSETS[key].parents}

    def outdated(self) -> set[dg.AssetKey]:
        return {
            key
            for key in ASSETS
            if not ASSETS[key].is_raw and self.content.get(key) != self.expected(key)
        }


@pytest.fixture
def world() -> World:
    """Everything is loaded, built and sound."""
    world = World()
    world.settle()
    assert not world.outdated()
    return world


def test_first_everything_is_loaded_then_everything_is_built() -> None:
    world = World()
    assert world.step() == frozenset(RAW)
    assert world.step() == frozenset(ASSETS) - frozenset(RAW)
    assert not world.step()


def test_a_change_is_loaded_with_all_that_its_log_tells_and_all_behind_it_is_built(
    world: World,
) -> None:
    world.change("lines")
    assert world.step() == _keys("orders lines")
    assert world.step() == _keys(BEHIND_LINES)
    assert not world.step()


def test_a_load_that_found_nothing_new_builds_nothing(world: World) -> None:
    world.change("products")
    world.source[dg.AssetKey("products")] -= 1
    world.moved_by_load.add(dg.AssetKey("products"))
    assert not world.step()


def test_the_wave_comes_before_the_next_load_of_a_source_that_never_rests(world: World) -> None:
    for _ in range(3):
        world.change("lines", "products")
        assert world.step() == frozenset(RAW)
        world.change("lines", "products")
        assert world.step() == frozenset(ASSETS) - frozenset(RAW) - _keys("calendar")
        assert not world.outdated()


def test_after_a_load_by_the_command_line_a_load_comes_before_the_wave(world: World) -> None:
    """The wave would know of the first change only, and models would read both."""
    world.change("products")
    world.step()
    world.change("lines")
    world.load_elsewhere("lines")
    assert world.step() == _keys("orders lines")
    assert world.step() >= _keys(BEHIND_LINES)
    assert not world.outdated()


def test_a_stream_that_never_rests_keeps_nothing_from_being_built(world: World) -> None:
    for _ in range(3):
        world.change("lines")
        world.stream()
        assert world.step() == _keys("orders lines")
        world.change("lines")
        world.stream()
        assert world.step() == _keys(BEHIND_LINES)


def test_a_load_may_go_beside_a_wave_and_no_second_wave_may(world: World) -> None:
    world.change("lines")
    world.step()
    wave = world.plan()
    assert not world.plan(is_building=True).request
    world.change("products", "lines")
    load = world.plan(is_building=True)
    assert load.is_load
    assert load.request == frozenset(RAW)
    # The wave has read raw before the load changes it.
    world.run(wave)
    world.run(load)
    assert world.step() == frozenset(ASSETS) - frozenset(RAW) - _keys("calendar")
    assert not world.outdated()


def test_beside_a_wave_nothing_is_loaded_that_a_stream_follows(world: World) -> None:
    world.followed = _keys("orders lines")
    world.change("lines", "products")
    assert world.plan(is_building=True).request == _keys("products")


def test_a_wave_has_all_that_a_stream_may_change_before_it_begins(world: World) -> None:
    """Otherwise facts would have new rows, and their dimensions would not."""
    world.followed = _keys("orders lines")
    assert not world.step()
    world.change("products")
    assert world.step() == _keys("products")
    found = world.plan()
    world.change("lines")
    world.stream()
    world.run(found)
    assert found.request == frozenset(ASSETS) - frozenset(RAW) - _keys("calendar")
    assert not world.outdated()


def test_nothing_is_built_behind_a_failed_check_and_the_rest_is(world: World) -> None:
    """A view lies between the check and the fact, and the line of the fact goes live as a whole."""
    world.change("lines", "products")
    world.step(unsound=_keys("lines"))
    assert world.step() == _keys("dim price p_price p_dim")
    # A load of the same table alone does not lift it.
    world.change("products")
    assert world.step() == _keys("products")
    assert world.step() == _keys("dim price p_price p_dim")
    world.change("lines")
    assert world.step() == _keys("orders lines")
    assert world.step() == _keys(BEHIND_LINES)
    assert not world.outdated()


def test_a_check_that_failed_without_a_change_holds_what_reads_its_table_through_views(
    world: World,
) -> None:
    """`equals_source` failed, and nine minutes later the fact was rebuilt for another table that it
    reads, and published: only its direct dependencies were asked.
    """
    world.refuse(dg.AssetKey("lines"))
    world.change("products")
    world.step()
    assert world.step() == _keys("dim price p_price p_dim")


def test_what_a_check_in_the_wave_stopped_waits_until_it_passes(world: World) -> None:
    world.change("lines")
    world.step()
    world.step(unsound=_keys("fact"))
    # Its line goes live as a whole, and the run did not come to it.
    assert not world.step()
    world.now += BUILD_AGAIN_AFTER
    assert not world.step()
    world.change("lines")
    world.step()
    assert world.step() == _keys(BEHIND_LINES)


def test_what_a_failed_step_skipped_is_requested_once_more_at_once(world: World) -> None:
    world.change("lines", "products")
    world.step()
    world.step(failing=_keys("dim p_price aggregate"))
    # `lake` is new since the aggregate was requested, and `dim` holds the fact.
    assert world.step(failing=_keys("aggregate")) == _keys("aggregate")
    assert not world.step()


def test_what_failed_is_tried_again_after_an_hour_or_when_an_input_moved(world: World) -> None:
    world.change("products")
    world.step()
    world.step(failing=_keys("dim"))
    assert not world.step()
    world.now += BUILD_AGAIN_AFTER
    assert world.step(failing=_keys("dim")) >= _keys("dim p_dim")
    assert not world.step()
    world.change("products")
    world.step()
    assert world.step() >= _keys("dim p_dim")
    assert not world.outdated()


def test_a_line_that_was_held_is_not_requested_again_at_once(world: World) -> None:
    """Its step succeeds and does not make its tables. A second one would hold them again."""
    world.change("lines")
    world.step()
    held = _keys("p_fact p_aggregate")
    world.step(failing=held)
    # The inputs of the line are new since the request, which the next request knows.
    assert world.step(failing=held) == held | _keys("p_dim page")
    assert not world.step()
    world.now += BUILD_AGAIN_AFTER
    assert world.step() >= held


def test_a_failed_load_is_left_alone_for_a_while(world: World) -> None:
    world.change("lines")
    assert world.step(failing=_keys("orders lines"))
    world.raw |= dict.fromkeys(_keys("orders lines"), 0)
    assert not world.step()
    # Others need not wait.
    world.change("products")
    assert world.step() == _keys("products")
    world.settle()
    world.now += LOAD_AGAIN_AFTER
    assert world.step() == _keys("orders lines")


def test_a_table_that_stopped_does_not_fail_every_load_of_its_source(world: World) -> None:
    world.change("lines", "orders")
    world.step(failing=_keys("orders"))
    world.settle()
    world.change("lines")
    assert world.step(failing=_keys("orders")) == _keys("lines")


@pytest.mark.parametrize(
    ("name", "wave"), [("lines", ""), ("fact", "p_fact p_aggregate p_dim page")]
)
def test_what_has_no_check_result_is_made_again_after_a_while(
    world: World, name: str, wave: str
) -> None:
    """dagster-io/dagster#31230: nothing that waits for such a check would ever be built."""
    world.change("lines")
    world.step(unchecked=_keys(name))
    world.step(unchecked=_keys(name))
    assert not world.step() & _keys(name)
    for _ in range(2):
        world.now += CHECK_AGAIN_AFTER
        assert world.step(unchecked=_keys(name)) >= _keys(f"{name} {wave}")
        assert not world.step(unchecked=_keys(name)) & _keys(name)
    world.now += CHECK_AGAIN_AFTER
    assert world.step()
    world.settle()
    assert not world.outdated()


def test_new_code_builds_its_asset_and_all_behind_it(world: World) -> None:
    world.code[dg.AssetKey("lake")] = "2"
    assert world.step() == _keys("lake aggregate p_aggregate p_fact p_dim page")
    assert not world.step()


def test_what_lines_share_makes_none_of_them_go_live(world: World) -> None:
    world.code[dg.AssetKey("p_dim")] = "2"
    assert world.step() == _keys("p_dim")
    world.code[dg.AssetKey("p_price")] = "2"
    assert world.step() == _keys("p_price p_dim")


_SOME = st.frozensets(st.sampled_from(sorted(ASSETS)), max_size=3)
_NONE: st.SearchStrategy[frozenset[dg.AssetKey]] = st.just(frozenset())


@st.composite
def _histories(draw: st.DrawFn) -> list[tuple[str, Any]]:
    event = st.one_of(
        st.tuples(st.just("change"), st.sampled_from(RAW)),
        st.tuples(st.just("load"), st.sampled_from(RAW)),
        st.tuples(st.just("stream"), st.none()),
        st.tuples(st.just("refuse"), st.sampled_from(RAW)),
        st.tuples(st.just("code"), st.sampled_from([k for k in sorted(ASSETS) if k not in RAW])),
        st.tuples(st.just("wait"), st.sampled_from([1, 6, 20, 70])),
        st.tuples(st.just("tick"), st.tuples(*[st.one_of(_NONE, _SOME)] * 3)),
    )
    return draw(st.lists(event, max_size=40))


def _before(key: dg.AssetKey) -> Iterator[dg.AssetKey]:
    for parent in ASSETS[key].parents:
        yield parent
        yield from _before(parent)


def _assert_sound(world: World, found: Plan) -> None:
    """Nothing is behind a failed check, nor is a line taken apart."""
    assert not found.is_load or found.request <= set(RAW)
    for key in found.request if not found.is_load else ():
        assert ASSETS[key].together <= found.request
        for each in set(_before(key)) - found.request:
            assert world.builds[each].verdict is Verdict.PASSED
            assert ASSETS[each].is_raw or each not in found.waiting


@settings(max_examples=300, deadline=None)
@given(_histories())
def test_whatever_happens_all_is_built_from_raw_in_the_end_and_nothing_twice(
    history: list[tuple[str, Any]],
) -> None:
    world = World()
    requested: dict[tuple[dg.AssetKey, Any], datetime] = {}
    for event, what in history:
        if event == "change":
            world.change(what.path[-1])
        elif event == "load":
            world.load_elsewhere(what.path[-1])
        elif event == "stream":
            world.stream()
        elif event == "refuse":
            world.refuse(what)
        elif event == "code":
            world.code[what] = world.code.get(what, "") + "+"
        elif event == "wait":
            world.now += timedelta(minutes=what)
        else:
            found = world.plan()
            _assert_sound(world, found)
            for key in found.request - frozenset(RAW):
                before = sorted({key, *_before(key)})
                # A table is also published because another one of its line is.
                mates = sorted(found.request & ASSETS[key].together)
                inputs = (
                    mates,
                    [
                        (each, each in found.request, world.code.get(each), world.builds.get(each))
                        for each in before
                    ],
                )
                last = requested.get((key, str(inputs)))
                assert last is None or world.now - last >= CHECK_AGAIN_AFTER
                requested[key, str(inputs)] = world.now
            world.run(found, *what)
            world.now += MOMENT
    # Nothing fails any more, and nothing moves.
    world.now += BUILD_AGAIN_AFTER
    for _ in range(8):
        if not world.step():
            break
    # Data that a check refuses stay so until the source mends them.
    world.change(*(key.path[-1] for key in RAW))
    for key, build in list(world.builds.items()):
        if build.verdict is Verdict.FAILED and not ASSETS[key].is_raw:
            world.code[key] = world.code.get(key, "") + "mended"
    for _ in range(8):
        if not world.step():
            break
    assert not world.outdated()
    assert {key: world.raw[key] for key in RAW} == world.source
    assert not world.step()


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(RAW), st.booleans()), min_size=1, max_size=12))
def test_every_wave_of_a_source_that_never_rests_is_whole(
    traffic: list[tuple[dg.AssetKey, bool]],
) -> None:
    """After a wave, everything shows one state of raw: no audit could find two."""
    world = World()
    world.settle()
    for key, is_loaded_elsewhere in traffic:
        world.change(key.path[-1])
        if is_loaded_elsewhere:
            world.load_elsewhere(key.path[-1])
        found = world.plan()
        world.run(found)
        assert found.is_load or not world.outdated()
        world.now += MOMENT


@pytest.mark.parametrize(
    ("refused", "held"),
    [
        # A published table that nobody asked is held with those that go live with it.
        ("fact", "p_fact p_aggregate page"),
        ("calendar", "fact p_fact p_aggregate page"),
        ("price", "p_price"),
        ("products", "dim fact price p_dim p_fact p_aggregate p_price page"),
        ("p_fact", "page"),
    ],
)
def test_what_a_check_refused_goes_live_in_no_other_way(refused: str, held: str) -> None:
    builds = {key: Build(1, "1", NOW) for key in ASSETS}
    assert sound(ASSETS, builds) == ASSETS.keys()
    for verdict in (Verdict.FAILED, Verdict.OPEN):
        found = sound(ASSETS, {**builds, dg.AssetKey(refused): Build(1, "1", NOW, verdict=verdict)})
        assert ASSETS.keys() - found == _keys(held)
    without = {key: build for key, build in builds.items() if key != dg.AssetKey(refused)}
    assert ASSETS.keys() - sound(ASSETS, without) == _keys(held)
