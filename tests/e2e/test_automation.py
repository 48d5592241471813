"""What runs by itself: the change sensors asked one by one, then the daemon, which carries a new
order to the dashboard, unless a check on its way has failed.

The changes of the first part touch no column of the star schema, so what is published stays as it
is.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import psutil
import pytest
from support.project import Project

from softcart_assets.components.changes import UNDER_WAY
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


def _tick(
    definitions: dg.Definitions,
    instance: dg.DagsterInstance,
    source: str,
    cursor: str | None = None,
):
    """Evaluate a source's change sensor once, as the daemon does."""
    resources = definitions.get_repository_def().get_top_level_resources()
    with dg.build_sensor_context(instance=instance, cursor=cursor, resources=resources) as context:
        return definitions.resolve_sensor_def(f"{source}_changes").evaluate_tick(context)


def _change_an_address() -> None:
    with closing(MySQLConnection.from_env("SOFTCART_SHOP").connect(autocommit=True)) as shop:
        shop.query("UPDATE addresses SET line2 = NOW(6) ORDER BY id LIMIT 1")


def _edit_a_product() -> None:
    catalog = MongoConnection.from_env("SOFTCART_CATALOG")
    with catalog.connect() as client:
        products = client[catalog.database].products
        edit = {"description": "Now even better.", "updated_at": datetime.now(UTC)}
        products.update_one({"_id": products.find_one()["_id"]}, {"$set": edit})


@pytest.mark.parametrize(
    ("source", "change", "table"),
    [("shop", _change_an_address, "addresses"), ("catalog", _edit_a_product, "products")],
)
def test_a_sensor_requests_just_the_tables_that_changed(
    definitions, instance, source, change, table
):
    quiet = _tick(definitions, instance, source)
    assert not quiet.run_requests
    assert "loaded up to the source's last change" in quiet.skip_message
    assert quiet.cursor

    change()
    told = _tick(definitions, instance, source, quiet.cursor)
    [request] = told.run_requests
    assert set(request.asset_selection) == {
        dg.AssetKey([f"raw_{source}", name]) for name in (table, f"{table}_history")
    }
    assert told.cursor == quiet.cursor  # what is not loaded yet is not left behind

    job = definitions.resolve_implicit_global_asset_job_def()
    assert job.execute_in_process(
        instance=instance,
        asset_selection=request.asset_selection,
        tags=request.tags,
        run_config=QUIET,
    ).success
    after = _tick(definitions, instance, source, quiet.cursor)
    assert not after.run_requests
    assert after.cursor > quiet.cursor


def test_a_load_by_the_command_line_is_followed(project, definitions, instance):
    _change_an_address()
    code, told = project.run("softcart", "load", "shop.addresses")
    assert code == 0, told
    [request] = _tick(definitions, instance, "shop").run_requests
    assert {key.path[-1] for key in request.asset_selection} == {"addresses", "addresses_history"}
    # Only one of both is asked for, and both are reported.
    job = definitions.resolve_implicit_global_asset_job_def()
    done = job.execute_in_process(
        instance=instance,
        asset_selection=[dg.AssetKey(["raw_shop", "addresses"])],
        run_config=QUIET,
    )
    assert {event.asset_key.path[-1] for event in done.get_asset_materialization_events()} == {
        "addresses",
        "addresses_history",
    }
    assert not _tick(definitions, instance, "shop").run_requests


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
    definitions, instance, monkeypatch, source, variable, value
):
    monkeypatch.setenv(variable, value.format(port=free_port()))
    with pytest.raises(Exception, match=f"Check SOFTCART_{source.upper()}_") as caught:
        _tick(definitions, instance, source)
    assert ServerUnreachable in {type(error) for error in (caught.value, caught.value.__cause__)}


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


@contextmanager
def _ui(project: Project, log: Path) -> Iterator[Callable[[Callable[[], bool]], None]]:
    """The UI and its daemon. Yields a function that waits until something is true.

    All of its processes end with it.
    """
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


def test_the_daemon_carries_a_new_order_to_the_dashboard(project, definitions, instance, tmp_path):
    with _ui(project, tmp_path / "ui.log") as wait:
        order, written_at = _repeat_the_last_order(), time.time()
        page = project.extracts / "dashboard.html"
        wait(lambda: _is_published(order))
        wait(lambda: page.stat().st_mtime > written_at)
        wait(lambda: _is_at_rest(instance))
    failed = dg.RunsFilter(
        statuses=[dg.DagsterRunStatus.FAILURE],
        created_after=datetime.fromtimestamp(written_at, UTC),
    )
    assert not instance.get_runs_count(failed)
    # A blocking check that no run comes to would have its table made again for ever.
    graph = definitions.resolve_asset_graph()
    blocking = [key for key in graph.asset_check_keys if graph.get(key).blocking]
    known = instance.event_log_storage.get_latest_asset_check_execution_by_key(blocking)
    assert blocking
    assert not [key for key in blocking if not (key in known and known[key].evaluation)]


def _return_changes() -> None:
    with closing(MySQLConnection.from_env("SOFTCART_SHOP").connect(autocommit=True)) as shop:
        shop.query("UPDATE returns SET updated_at = NOW(6) ORDER BY id LIMIT 1")


def _is_in_raw(order: int) -> bool:
    with staging().connect() as session:
        rows = session.execute(
            "SELECT count(*) FROM raw_shop.order_lines WHERE order_id = %s", [order]
        )
        return rows.fetchone() != (0,)


def test_the_daemon_builds_nothing_behind_a_failed_check_until_it_passes(
    project, instance, tmp_path
):
    """A check of a raw table failed, and nine minutes later the fact was rebuilt and published,
    because of another table: it reads the raw table by views, which have no failed check.
    """
    fact = dg.AssetKey(["warehouse", "fct_order_lines"])
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
        wait = stack.enter_context(_ui(project, tmp_path / "ui.log"))
        _return_changes()
        wait(lambda: has(passed=False))
        order, written_at = _repeat_the_last_order(), time.time()
        wait(lambda: _is_in_raw(order))
        # What is not behind the check follows.
        wait(lambda: made_at(dg.AssetKey(["lake_shop", "order_lines"])) > written_at)
        wait(lambda: _is_at_rest(instance))
        time.sleep(40)  # two ticks
        wait(lambda: _is_at_rest(instance))
        assert made_at(fact) < written_at
        assert not _is_published(order)

        take_away()
        _return_changes()
        wait(lambda: has(passed=True))
        wait(lambda: _is_published(order))
        wait(lambda: _is_at_rest(instance))
