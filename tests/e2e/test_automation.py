"""What runs by itself: the change sensors asked one by one, then the daemon, which carries a new
order to the dashboard.

The changes of the first part touch no column of the star schema, so what is published stays as it
is.
"""

from __future__ import annotations

import time
from contextlib import closing, suppress
from datetime import UTC, datetime

import dagster as dg
import psutil
import pytest

from softcart_assets.components.changes import UNDER_WAY
from softcart_assets.connections import (
    MongoConnection,
    MySQLConnection,
    ServerUnreachable,
    production,
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


def test_the_daemon_carries_a_new_order_to_the_dashboard(project, instance, tmp_path):
    with (tmp_path / "ui.log").open("w+") as log, project.start("softcart", "ui", to=log) as ui:
        family = []
        try:
            order, written_at = _repeat_the_last_order(), time.time()
            done = dict.fromkeys(("published", "on the dashboard", "at rest"), False)
            while not all(done.values()):
                assert ui.poll() is None, (tmp_path / "ui.log").read_text()
                assert time.time() < written_at + ARRIVES_WITHIN_SECONDS, (
                    done,
                    (tmp_path / "ui.log").read_text()[-9999:],
                )
                time.sleep(1)
                done["published"] = _is_published(order)
                done["on the dashboard"] = (
                    project.extracts / "dashboard.html"
                ).stat().st_mtime > written_at
                done["at rest"] = instance.get_runs_count(dg.RunsFilter(statuses=UNDER_WAY)) == 0
        finally:
            with suppress(psutil.NoSuchProcess):
                family = psutil.Process(ui.pid).children(recursive=True)
            ui.terminate()
            ui.wait(timeout=60)
    assert family
    assert not psutil.wait_procs(family, timeout=5)[1]
    failed = dg.RunsFilter(
        statuses=[dg.DagsterRunStatus.FAILURE],
        created_after=datetime.fromtimestamp(written_at, UTC),
    )
    assert not instance.get_runs_count(failed)
