"""What runs by itself: the planning sensor asked tick by tick, then the daemon, under traffic that
never stops. It carries a new order to the dashboard, and builds nothing behind a failed check.

The changes of the first part touch no column of the star schema, so what is published stays as it
is.
"""

from __future__ import annotations

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
from softcart_assets.runs import QUIET
from softcart_assets.stack.server import free_port

ARRIVES_WITHIN_SECONDS = 400
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


def _repeat_the_last_order() -> int:
    """Write a new order with the content of the last one; returns its number."""
    header = (
        "customer_id, store_id, employee_id, shipping_address_id, device, status, currency, "
        "promised_on"
    )
    header += ", shipping_amount, total_amount"
    line = (
        "line_number, product_id, variant_sku, quantity, unit_price, unit_cost, "
        "discount_amount, tax_rate"
    )
    line += ", tax_amount"
    with (
        closing(MySQLConnection.from_env("SOFTCART_SHOP").connect()) as shop,
        shop.cursor() as cursor,
    ):
        cursor.execute("SELECT max(id) FROM orders")
        [last] = cursor.fetchone()
        cursor.execute(
            f"INSERT INTO orders ({header}, ordered_at) SELECT {header}, NOW(6) FROM orders WHERE "
            "id = %s",
            [last],
        )
        order = cursor.lastrowid
        cursor.execute(
            f"INSERT INTO order_lines (order_id, {line}, created_at)"
            f" SELECT new.id, {line}, new.ordered_at FROM order_lines JOIN orders AS new ON new.id "
            "= %s"
            " WHERE order_id = %s",
            [order, last],
        )
        shop.commit()
    return order


def _is_published(order: int) -> bool:
    with production().connect() as session:
        rows = session.execute(
            "SELECT count(*) FROM production.fct_order_lines WHERE order_id = %s", [order]
        )
        return rows.fetchone() != (0,)


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


@pytest.mark.parametrize("is_followed", [False, True])
def test_no_run_is_early_under_traffic_that_never_stops(
    project, instance, tmp_path, wait, is_followed
):
    """A wave that began while raw was being loaded had audits find two states, and the dashboard
    was never rebuilt. A stream changes raw even while a wave is under way.
    """
    started, done = time.time(), dg.DagsterRunStatus.SUCCESS
    # All lines have traffic, or only the one that is followed, whose waves take less time.
    lines = ["shop"] if is_followed else []
    with (
        (tmp_path / "traffic.log").open("w") as log,
        project.start("softcart", "simulate", *lines, "--rate", "5", to=log) as traffic,
    ):
        with ExitStack() as stack:
            # Otherwise a failure would wait for the end of the traffic.
            stack.callback(traffic.terminate)
            if is_followed:
                told = stack.enter_context((tmp_path / "stream.log").open("w"))
                stream = project.start("softcart", "stream", "shop", to=told)
                stack.callback(stream.wait, timeout=60)
                stack.callback(stream.terminate)
            page = project.extracts / "dashboard.html"
            wait(lambda: _runs_since(instance, started, done, **{PLANNED_TAG: "build"}) >= 1)
            wait(lambda: _runs_since(instance, started, done, **{PLANNED_TAG: "build"}) >= 2)
            assert page.stat().st_mtime > started
            assert traffic.poll() is None, (tmp_path / "traffic.log").read_text()
        traffic.wait(timeout=60)
        loads = _runs_since(instance, started, done, **{PLANNED_TAG: "load"})
        wait(lambda: _is_at_rest(instance))
    assert loads >= 2
    assert not _runs_since(instance, started, dg.DagsterRunStatus.FAILURE)
    assert not _refused(instance, started)


def test_the_daemon_carries_a_new_order_to_the_dashboard(project, definitions, instance, wait):
    """After the traffic, whose last changes go the same way, so that one wave makes both."""
    order, written_at = _repeat_the_last_order(), time.time()
    page = project.extracts / "dashboard.html"
    wait(lambda: _is_published(order))
    wait(lambda: page.stat().st_mtime > written_at)
    wait(lambda: _is_at_rest(instance))
    assert not _runs_since(instance, written_at, dg.DagsterRunStatus.FAILURE)
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
        time.sleep(20)  # two ticks
        wait(lambda: _is_at_rest(instance))
        assert made_at(fact) < written_at
        assert made_at(published) < written_at

        take_away()
        _return_changes()
        wait(lambda: has(passed=True))
        wait(lambda: made_at(published) > written_at)
        wait(lambda: _is_at_rest(instance))
