"""Every audit passes on a sound warehouse, and fails when just that is broken that it asks about."""

from collections.abc import Iterator

import psycopg
import pytest
from support.databases import database, fingerprints
from support.warehouse import create_warehouse

from softcart_assets.audits.model import Audit, Comparison
from softcart_assets.audits.suite import AUDITS
from softcart_assets.connections import PostgresConnection
from softcart_assets.lines.shop.published import PUBLISHED
from softcart_assets.publishing.publish import AuditFailed, publish

SCHEMAS = ("warehouse", "aggregates")
TABLES = {table.name: table for table in PUBLISHED}
VIEWS = [f"production.{name}" for name in TABLES]
NOBODY = "'ffffffff-0000-0000-0000-000000000000'"
UNKNOWN = "'00000000-0000-0000-0000-000000000000'"


def breakage(audit: Audit | Comparison) -> str:
    """SQL that breaks what the audit asks about, with the tables of staging on the search path."""
    table = TABLES[audit.table]
    question = audit.name.removeprefix(f"{table.name}_")
    column = question.rpartition("_")[0]
    some = f"ctid IN (SELECT ctid FROM {table.name} LIMIT 1)"
    match question:
        case "key_unique":
            return f"INSERT INTO {table.name} SELECT * FROM {table.name} LIMIT 1"
        case "not_empty":
            return f"DELETE FROM {table.name}"
        case "row_count":
            return f"DELETE FROM {table.name} WHERE {some}"
        case "volume":
            return (
                f"DELETE FROM {table.name} WHERE ctid IN (SELECT ctid FROM {table.name} ORDER BY random() LIMIT "
                + (f"(SELECT floor(count(*) * {table.max_drop}) + 1 FROM {table.name}))")
            )
        case "intervals":
            return (
                f"UPDATE {table.name} SET valid_to = valid_to - interval '1 microsecond' WHERE NOT is_current AND "
                f"ctid IN (SELECT ctid FROM {table.name} WHERE NOT is_current LIMIT 1)"
            )
        case "totals" if table.name == "fct_inventory_daily":
            return f"UPDATE {table.name} SET closing_quantity = closing_quantity + 1 WHERE {some}"
        case "totals" if table.name == "fct_payments":
            return f"UPDATE {table.name} SET captured_amount = captured_amount + 0.01 WHERE {some}"
        case "totals":
            return f"UPDATE {table.name} SET refund_amount = refund_amount + 0.01 WHERE {some}"
        case "latest_day":
            time = {"fct_order_lines": "ordered_at", "fct_payments": "paid_at"}.get(
                table.name, "inventory_date"
            )
            return f"DELETE FROM {table.name} WHERE {time}::date = (SELECT max({time})::date FROM {table.name})"
        case "agrees_with_facts":
            return f"UPDATE {table.name} SET net_amount = net_amount + 0.01 WHERE {some}"
        case _ if question.endswith("_known"):
            share = audit.max_share
            return (
                f"UPDATE {table.name} SET {column} = {UNKNOWN} WHERE ctid IN (SELECT ctid FROM {table.name} LIMIT "
                + (f"(SELECT ceil(count(*) * {share}) + 1 FROM {table.name}))")
            )
        case _ if column.endswith("_date"):
            return f"UPDATE {table.name} SET {column} = '1850-01-01' WHERE {some}"
        case _ if column == "time_of_day_key":
            return f"UPDATE {table.name} SET {column} = 9999 WHERE {some}"
        case _ if question.endswith("_resolves"):
            return f"UPDATE {table.name} SET {column} = {NOBODY} WHERE {some}"
    raise AssertionError(f"nothing breaks {audit.name}")


@pytest.fixture(scope="module")
def warehouse(stack) -> Iterator[PostgresConnection]:
    with database() as connection:
        create_warehouse(connection, orders=600)
        yield connection


@pytest.fixture(scope="module")
def published(warehouse) -> Iterator[tuple[PostgresConnection, PostgresConnection]]:
    """Staging, and production with its first version."""
    with database() as production:
        publish(warehouse, production)
        yield warehouse, production


@pytest.fixture(scope="module")
def reference(warehouse) -> Iterator[psycopg.Connection]:
    with database(template=warehouse) as connection, connection.connect() as session:
        yield session


@pytest.fixture(scope="module")
def candidate(warehouse, reference) -> Iterator[psycopg.Connection]:
    with database(template=warehouse) as connection, connection.connect(autocommit=True) as session:
        session.execute("SET search_path TO warehouse, aggregates")
        yield session


@pytest.mark.parametrize("audit", AUDITS, ids=lambda audit: audit.name)
def test_fails_when_broken(audit, candidate, reference):
    def ask():
        if isinstance(audit, Audit):
            return audit.run(candidate, *SCHEMAS)
        return audit.compare((candidate, SCHEMAS), (reference, SCHEMAS))

    assert ask().passed, ask().details
    with candidate.transaction(force_rollback=True):
        candidate.execute(breakage(audit).encode())
        result = ask()
    assert not result.passed, result.details
    assert (result.name, result.table) == (audit.name, audit.table)


def test_names_are_unique_and_serve_as_check_names():
    assert len({audit.name for audit in AUDITS}) == len(AUDITS)
    assert all(audit.name.isidentifier() and audit.table in TABLES for audit in AUDITS)


BROKEN = {
    "INSERT INTO warehouse.dim_vendor SELECT * FROM warehouse.dim_vendor WHERE vendor_id = 1": {
        "dim_vendor_key_unique"
    },
    "UPDATE aggregates.agg_rfm_by_customer SET customer_id = NULL WHERE frequency_score = 1": {
        "agg_rfm_by_customer_key_unique"
    },
    "DELETE FROM warehouse.dim_employee": {
        "dim_employee_not_empty",
        "dim_employee_volume",
        "fct_order_lines_employee_key_resolves",
    },
    "DELETE FROM warehouse.fct_payments WHERE payment_id % 2 = 0": {"fct_payments_volume"},
    "UPDATE warehouse.dim_store SET valid_from = valid_from - interval '1 day' WHERE version_number = 2": {
        "dim_store_intervals"
    },
    "DELETE FROM warehouse.dim_location WHERE region = 'Utrecht'": {
        "dim_location_volume",
        "fct_order_lines_location_key_resolves",
    },
    f"UPDATE warehouse.fct_order_lines SET vendor_key = {UNKNOWN}": {
        "fct_order_lines_vendor_key_known"
    },
    "UPDATE warehouse.fct_order_lines SET net_amount = net_amount + 0.01 WHERE NOT is_cancelled AND line_number = 4": {
        "agg_sales_by_category_month_agrees_with_facts",
        "agg_orders_by_device_weekday_hour_agrees_with_facts",
    },
}
"""What is broken in staging → the audits that fail, and no others."""


@pytest.mark.parametrize("broken", BROKEN)
def test_a_broken_warehouse_is_not_published(published, broken):
    with database(published[0]) as staging, database(published[1]) as production:
        before = fingerprints(production, VIEWS)
        with staging.connect() as session:
            session.execute(broken.encode())
        with pytest.raises(AuditFailed, match=min(BROKEN[broken])) as caught:
            publish(staging, production)
        assert {result.name for result in caught.value.failed} == BROKEN[broken]
        assert fingerprints(production, VIEWS) == before


@pytest.mark.parametrize(
    ("trigger", "failing"),
    [
        ("NEW.refund_amount = NEW.refund_amount + 0.01; RETURN NEW;", {"fct_order_lines_totals"}),
        (
            "NEW.ordered_at = NEW.ordered_at - interval '1 day'; RETURN NEW;",
            {"fct_order_lines_latest_day"},
        ),
    ],
)
def test_what_copying_spoils_is_not_published(published, trigger, failing):
    """Production's own server changes rows as they are written: a trigger stands for whatever else might."""
    with database(published[1]) as production:
        before = fingerprints(production, ["production.fct_order_lines"])
        with production.connect() as session:
            session.execute(
                f"""
                CREATE FUNCTION public.spoil() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {trigger} END $$;
                CREATE TRIGGER spoil BEFORE INSERT ON production_slot_12.fct_order_lines
                  FOR EACH ROW EXECUTE FUNCTION public.spoil();
                """.encode()
            )
        with pytest.raises(AuditFailed) as caught:
            publish(published[0], production)
        assert {result.name for result in caught.value.failed} == failing
        assert fingerprints(production, ["production.fct_order_lines"]) == before


def test_lost_rows_are_not_published(published):
    with database(published[1]) as production:
        with production.connect() as session:
            session.execute(
                """
                CREATE FUNCTION public.lose() RETURNS trigger LANGUAGE plpgsql AS
                  $$ BEGIN DELETE FROM production_slot_12.dim_date WHERE year = 2024; RETURN NULL; END $$;
                CREATE TRIGGER lose AFTER INSERT ON production_slot_12.dim_date EXECUTE FUNCTION public.lose();
                """
            )
        with pytest.raises(AuditFailed) as caught:
            publish(published[0], production)
        assert "dim_date_row_count" in {result.name for result in caught.value.failed}
