"""What runs by itself: the planning sensor asked tick by tick, then the daemon, under traffic that
never stops. It carries a new order to the dashboard, and builds nothing behind a failed check.

The changes of the first part touch no column of the star schema, so what is published stays as it
is.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from datetime import UTC, datetime

import dagster as dg
import psutil
import pytest
from support.project import Project

from softcart_assets.assembly import LINES
from softcart_assets.components import sensor as sensor_module
from softcart_assets.components.keys import raw_keys
from softcart_assets.components.planning import UNDER_WAY
from softcart_assets.components.pool import PLANNED_TAG
from softcart_assets.connections import (
    MongoConnection,
    MySQLConnection,
    ServerUnreachable,
    production,
    staging,
)
from softcart_assets.ingestion.load import is_followed
from softcart_assets.runs import QUIET
from softcart_assets.stack.server import free_port

ARRIVES_WITHIN_SECONDS = 600
"""What a slow machine may take; about 60 on four cores."""


class Sensor:
    """Ticks of the planning sensor, as the daemon evaluates them. Each looks once."""

    def __init__(self, definitions: dg.Definitions, instance: dg.DagsterInstance) -> None:
        self.definitions, self.instance = definitions, instance
        self.cursor: str | None = None

    def tick(self) -> dg.SensorEvaluationContext:
        """Evaluate the sensor once."""
        repository = self.definitions.get_repository_def()
        sensor = self.definitions.resolve_sensor_def("plan")
        # No others: a resource such as Spark's starts a Java, whoever asks for it.
        resources = repository.get_top_level_resources()
        with dg.build_sensor_context(
            instance=self.instance,
            cursor=self.cursor,
            repository_def=repository,
            resources={name: resources[name] for name in sensor.required_resource_keys},
        ) as context:
            told = sensor.evaluate_tick(context)
        self.cursor = told.cursor
        return told

    def run(self, request: dg.RunRequest) -> dg.ExecuteInProcessResult:
        """What the daemon does with a request."""
        job = self.definitions.resolve_implicit_global_asset_job_def()
        return job.execute_in_process(
            instance=self.instance,
            asset_selection=request.asset_selection,
            tags=request.tags,
            run_config=QUIET,
        )

    def settle(self) -> list[set[dg.AssetKey]]:
        """Do what is requested until nothing is. Returns the requests."""
        found = []
        while requests := self.tick().run_requests:
            [request] = requests
            assert self.run(request).success
            found.append(set(request.asset_selection))
        return found


@pytest.fixture
def sensor(project: Project, definitions, instance, monkeypatch) -> Sensor:
    """The sensor, with nothing to do."""
    monkeypatch.setattr(sensor_module, "LOOKS_PER_TICK", 1)
    sensor = Sensor(definitions, instance)
    sensor.settle()
    return sensor


def _change_an_address() -> None:
    with closing(MySQLConnection.from_env("SOFTCART_SHOP").connect(autocommit=True)) as shop:
        shop.query("UPDATE addresses SET line2 = NOW(6) ORDER BY id LIMIT 1")


def _edit_a_product() -> None:
    catalog = MongoConnection.from_env("SOFTCART_CATALOG")
    with catalog.connect() as client:
        products = client[catalog.database].products
        edit = {"description": "Now even better.", "updated_at": datetime.now(UTC)}
        products.update_one({"_id": products.find_one()["_id"]}, {"$set": edit})


def _loaded_with(source: str, table: str) -> set[dg.AssetKey]:
    """The raw tables that a load of this one changes: all that its log tells of."""
    found = LINES.source(source)
    followed = [t for t in found.tables if found.kind == "mysql" and t.strategy == "cdc"]
    tables = followed if found.table(table) in followed else [found.table(table)]
    return {key for each in tables for key in raw_keys(found, each)}


def _behind(definitions: dg.Definitions, source: str, table: str) -> set[dg.AssetKey]:
    graph = definitions.resolve_asset_graph()
    found, wanted = set(), set(raw_keys(LINES.source(source), LINES.source(source).table(table)))
    while wanted:
        children = graph.get(wanted.pop()).child_keys - found
        found |= children
        wanted |= children
    return {key for key in found if not key.path[0].startswith("raw_")}


@pytest.mark.parametrize(
    ("source", "change", "table"),
    [("shop", _change_an_address, "addresses"), ("catalog", _edit_a_product, "products")],
)
def test_a_change_is_loaded_then_all_behind_it_is_built_and_nothing_else(
    sensor, definitions, source, change, table
):
    quiet = sensor.tick()
    assert "loaded up to the source's last change" in quiet.skip_message
    change()
    load, wave = sensor.settle()
    assert load == _loaded_with(source, table)
    behind = _behind(definitions, source, table)
    assert wave >= behind
    # With a published table goes its line, and nothing more.
    assert {key.path[0] for key in wave - behind} <= {"production", "extracts"}
    assert "loaded up to the source's last change" in sensor.tick().skip_message


def test_a_tick_without_news_is_cheap(sensor):
    sensor.tick()
    started = time.process_time()
    for _ in range(5):
        assert not sensor.tick().run_requests
    # A busy machine adds to the processor time, too.
    assert (time.process_time() - started) / 5 < 3


def test_a_load_by_the_command_line_is_followed(project, sensor):
    _change_an_address()
    code, told = project.run("softcart", "load", "shop.addresses")
    assert code == 0, told
    load, wave = sensor.settle()
    assert load >= set(raw_keys(*LINES.table("shop.addresses")))
    assert wave


def test_a_demo_without_changes_starts_no_run(project, instance, sensor):
    before = instance.get_runs_count()
    started = time.time()
    code, told = project.demo()
    assert code == 0, told
    assert "Unchanged since position " in told
    assert instance.get_runs_count() == before
    print(f"unchanged demo: {time.time() - started:.1f} s")


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error:
        yield error
        error = error.__cause__


@pytest.mark.parametrize(
    ("source", "variable", "value"),
    [
        ("shop", "SOFTCART_SHOP_PORT", "{port}"),
        (
            "catalog",
            "SOFTCART_CATALOG_URI",
            "mongodb://127.0.0.1:{port}/?serverSelectionTimeoutMS=1000",
        ),
    ],
)
def test_a_source_that_is_down_is_not_taken_for_unchanged(
    sensor, monkeypatch, source, variable, value
):
    monkeypatch.setenv(variable, value.format(port=free_port()))
    with pytest.raises(Exception, match=f"Check SOFTCART_{source.upper()}_") as caught:
        sensor.tick()
    assert ServerUnreachable in {type(error) for error in _chain(caught.value)}
    # It keeps nothing else waiting.
    change = _edit_a_product if source == "shop" else _change_an_address
    change()
    [request] = sensor.tick().run_requests
    assert sensor.run(request).success


def _last_order() -> int:
    """The number of the latest order at its source."""
    with (
        closing(MySQLConnection.from_env("SOFTCART_SHOP").connect()) as shop,
        shop.cursor() as cursor,
    ):
        cursor.execute("SELECT max(id) FROM orders")
        [last] = cursor.fetchone()
    return last


def _last_published_order() -> int:
    with production().connect() as session:
        [last] = session.execute("SELECT max(order_id) FROM production.fct_order_lines").fetchone()
    return last


Wait = Callable[[Callable[[], bool]], None]


@pytest.fixture(scope="module")
def wait(project: Project, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Wait]:
    """A function that waits until something is true, while the UI and its daemon run.

    They start with the first test that needs them. All of their processes end with them.
    """
    log = tmp_path_factory.mktemp("ui") / "ui.log"
    with log.open("w+") as file, project.start("softcart", "ui", to=file) as ui:

        def wait(until: Callable[[], bool]) -> None:
            given_up_at = time.time() + ARRIVES_WITHIN_SECONDS
            while not until():
                assert ui.poll() is None, log.read_text()
                assert time.time() < given_up_at, log.read_text()[-9999:]
                time.sleep(1)

        family = []
        try:
            yield wait
        finally:
            with suppress(psutil.NoSuchProcess):
                family = psutil.Process(ui.pid).children(recursive=True)
            ui.terminate()
            ui.wait(timeout=60)
    assert family
    assert not psutil.wait_procs(family, timeout=5)[1]


def _is_at_rest(instance: dg.DagsterInstance) -> bool:
    return instance.get_runs_count(dg.RunsFilter(statuses=UNDER_WAY)) == 0


def _runs_since(
    instance: dg.DagsterInstance, moment: float, status: dg.DagsterRunStatus, **tags: str
) -> int:
    return instance.get_runs_count(
        dg.RunsFilter(
            statuses=[status], tags=tags, created_after=datetime.fromtimestamp(moment, UTC)
        )
    )


def _answers_since(instance: dg.DagsterInstance, moment: float) -> list[str]:
    """Why the planning sensor requested nothing since a moment, except for a run under way."""
    under_way = sensor_module.UNDER_WAY
    ticks = [
        tick
        for state in instance.all_instigator_state()
        if state.instigator_name == "plan"
        for tick in instance.get_ticks(state.instigator_origin_id, state.selector_id, after=moment)
    ]
    return [tick.skip_reason for tick in ticks if tick.skip_reason not in (None, under_way)]


def _all_is_built_since(instance: dg.DagsterInstance, moment: float) -> bool:
    """Whether the daemon has found so. Between two runs of one change, it is at rest, too."""
    return any("everything is built" in answer for answer in _answers_since(instance, moment))


def _refused(instance: dg.DagsterInstance, moment: float) -> list[str]:
    """The checks that failed since a moment. One that holds a line makes no run fail."""
    runs = instance.get_runs(dg.RunsFilter(created_after=datetime.fromtimestamp(moment, UTC)))
    kind = {dg.DagsterEventType.ASSET_CHECK_EVALUATION}
    events = [
        record.event_log_entry.get_dagster_event()
        for run in runs
        for record in instance.get_records_for_run(run.run_id, of_type=kind).records
    ]
    checks = [event.asset_check_evaluation_data for event in events]
    return [
        f"{check.asset_key.to_user_string()}: {check.check_name}"
        for check in checks
        if not check.passed and check.severity == dg.AssetCheckSeverity.ERROR
    ]


@pytest.mark.timeout(1800)  # Up to four waves, each of nearly everything.
def test_under_traffic_that_never_stops_new_orders_get_to_the_dashboard_and_no_run_is_early(
    project, definitions, instance, tmp_path, wait
):
    """A wave that began while raw was being loaded had audits find two states, and the dashboard
    was never rebuilt. A stream changes raw even while a wave is under way.

    So the daemon first loads all lines itself. Then a stream follows one of them.
    """
    started, done = time.time(), dg.DagsterRunStatus.SUCCESS
    page = project.extracts / "dashboard.html"
    # A failure ends them, too. Otherwise it would wait for them for ever.
    with ExitStack() as running:

        def start(*command: str) -> None:
            log = running.enter_context((tmp_path / f"{command[0]}.log").open("w"))
            process = project.start("softcart", *command, to=log)
            running.callback(process.wait, timeout=60)
            running.callback(process.terminate)
            processes[command[0]] = process

        processes: dict[str, subprocess.Popen[str]] = {}
        start("simulate", "--rate", "5")
        wait(lambda: _runs_since(instance, started, done, **{PLANNED_TAG: "build"}) >= 1)
        start("stream", "shop")
        wait(lambda: is_followed(LINES.source("shop"), staging()))
        followed_at = time.time()
        wait(lambda: _runs_since(instance, followed_at, done, **{PLANNED_TAG: "build"}) >= 1)
        # Of the orders from here on, one is published although the changes go on.
        last, looked_at = _last_order(), time.time()
        wait(lambda: _last_published_order() > last)
        wait(lambda: page.stat().st_mtime > looked_at)
        for name, process in processes.items():
            assert process.poll() is None, (tmp_path / f"{name}.log").read_text()
    ended_at = time.time()
    wait(lambda: _all_is_built_since(instance, ended_at))
    assert _runs_since(instance, started, done, **{PLANNED_TAG: "load"}) >= 2
    assert not _runs_since(instance, started, dg.DagsterRunStatus.FAILURE)
    assert not _refused(instance, started)
    # A blocking check that no run comes to would have its table made again for ever.
    graph = definitions.resolve_asset_graph()
    blocking = [key for key in graph.asset_check_keys if graph.get(key).blocking]
    known = instance.event_log_storage.get_latest_asset_check_execution_by_key(blocking)
    assert blocking
    assert not [key for key in blocking if not (key in known and known[key].evaluation)]


def _return_changes() -> None:
    with closing(MySQLConnection.from_env("SOFTCART_SHOP").connect(autocommit=True)) as shop:
        shop.query("UPDATE returns SET updated_at = NOW(6) ORDER BY id LIMIT 1")


def test_the_daemon_builds_nothing_behind_a_failed_check_until_it_passes(
    definitions, instance, wait
):
    """A check of a raw table failed, and nine minutes later the fact was rebuilt and published,
    because of another table: it reads the raw table by views, which have no failed check.
    """
    fact, published = (
        dg.AssetKey([layer, "fct_order_lines"]) for layer in ("warehouse", "production")
    )
    assert fact in _behind(definitions, "shop", "addresses")
    returns = dg.AssetKey(["raw_shop", "returns"])
    check = dg.AssetCheckKey(returns, "quarantine_small")

    def has(passed: bool) -> bool:
        record = instance.event_log_storage.get_latest_asset_check_execution_by_key([check])[check]
        # Of a run that has only just begun, the check is planned.
        found = record.evaluation
        return isinstance(found, dg.AssetCheckEvaluation) and found.passed == passed

    def take_away() -> None:
        with staging().connect() as session:
            session.execute("DELETE FROM ingestion.quarantine WHERE identity LIKE 'odd %'")

    def made_at(key: dg.AssetKey) -> float:
        return instance.get_latest_materialization_event(key).timestamp

    with staging().connect() as session:
        session.execute(
            "INSERT INTO ingestion.quarantine (source, table_name, identity, column_name, reason,"
            " row, position, load_id, quarantined_at)"
            " SELECT 'shop', 'returns', 'odd ' || n, 'odd', 'odd', '{}', '', '', now()"
            " FROM generate_series(1, (SELECT count(*) FROM raw_shop.returns)) n",
        )
    with ExitStack() as stack:
        # The tests that follow need sound data, too.
        stack.callback(take_away)
        _return_changes()
        wait(lambda: has(passed=False))
        wait(lambda: _is_at_rest(instance))
        written_at = time.time()
        _change_an_address()
        # What is not behind the check follows.
        wait(lambda: made_at(dg.AssetKey(["lake_shop", "addresses"])) > written_at)
        wait(lambda: _is_at_rest(instance))
        seen_at = time.time()
        wait(lambda: len(_answers_since(instance, seen_at)) >= 2)
        wait(lambda: _is_at_rest(instance))
        assert made_at(fact) < written_at
        assert made_at(published) < written_at

        take_away()
        _return_changes()
        wait(lambda: has(passed=True))
        wait(lambda: made_at(published) > written_at)
        wait(lambda: _is_at_rest(instance))
