"""Every audit passes on a sound warehouse, and fails when just that is broken that it asks
about.
"""

from collections.abc import Iterator

import psycopg
import pytest
from support import published as declared
from support.databases import database, fingerprints
from support.lines import SHOP
from support.published import AUDITS
from support.warehouse import create_warehouse

from softcart_assets.audits.model import AnyAudit, Audit, AuditResult, Equality, Measured, Volume
from softcart_assets.connections import PostgresConnection
from softcart_assets.publishing.publish import AuditFailed, PublishError, publish
from softcart_assets.publishing.tables import Reference

SCHEMAS = ("warehouse", "aggregates")
TABLES = {table.name: table for table in declared.TABLES}
VIEWS = [f"production.{name}" for name in TABLES]
UNKNOWN = "'00000000-0000-0000-0000-000000000000'"


def nobody(reference: Reference) -> str:
    """A key that its dimension does not have, as SQL."""
    others = {"dim_date": "'1850-01-01'", "dim_time_of_day": "9999"}
    return others.get(reference.dimension, "'ffffffff-0000-0000-0000-000000000000'")


def breakage(audit: AnyAudit) -> str:
    """SQL that breaks what the audit asks about, with the tables of staging on the search path."""
    table = TABLES[audit.table]
    name = table.name
    question = audit.name.removeprefix(f"{name}_")
    column, _, kind = question.rpartition("_")
    references = {reference.column: reference for reference in table.references}
    some = f"ctid IN (SELECT ctid FROM {name} LIMIT 1)"
    many = f"ctid IN (SELECT ctid FROM {name} ORDER BY random() LIMIT (SELECT {{}} FROM {name}))"
    match question:
        case "key_unique":
            return f"INSERT INTO {name} SELECT * FROM {name} LIMIT 1"
        case "not_empty":
            return f"DELETE FROM {name}"
        case "volume":
            return f"DELETE FROM {name} WHERE " + many.format(
                f"floor(count(*) * {table.declared.max_drop.value}) + 1"
            )
        case "growth":
            copies = int(table.declared.max_growth.value)
            return f"INSERT INTO {name} SELECT t.* FROM {name} t, generate_series(1, {copies})"
        case "intervals":
            return (
                f"UPDATE {name} SET valid_to = valid_to - interval '1 microsecond' "
                f"WHERE ctid IN (SELECT ctid FROM {name} WHERE NOT is_current LIMIT 1)"
            )
        case "totals":
            last = table.declared.totals[-1]
            return f"UPDATE {name} SET {last} = {last} + 1 WHERE {some}"
        case "latest_day":
            day = f"{table.declared.latest}::date"
            return f"DELETE FROM {name} WHERE {day} = (SELECT max({day}) FROM {name})"
    if sums := [
        each for each in table.declared.adds_up if question.startswith(f"{each.column}_agrees")
    ]:
        return f"UPDATE {name} SET {sums[0].column} = {sums[0].column} + 0.01 WHERE {some}"
    reference = references[column]
    if kind == "known":
        return f"UPDATE {name} SET {column} = {reference.unknown} WHERE " + many.format(
            f"ceil(count(*) * {reference.max_unknown.value}) + 1"
        )
    assert kind == "resolves", f"nothing breaks {audit.name}"
    return f"UPDATE {name} SET {column} = {nobody(reference)} WHERE {some}"


@pytest.fixture(scope="module")
def warehouse(stack) -> Iterator[PostgresConnection]:
    with database() as connection:
        create_warehouse(connection, orders=600)
        yield connection


@pytest.fixture(scope="module")
def published(warehouse) -> Iterator[tuple[PostgresConnection, PostgresConnection]]:
    """Staging, and production with its first version."""
    with database() as production:
        publish(warehouse, production, declared.TABLES, AUDITS)
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


@pytest.mark.parametrize(
    "audit",
    # A publication compares the rows itself: see the tests of what copying spoils.
    [audit for audit in AUDITS if not isinstance(audit, Equality)],
    ids=lambda audit: audit.name,
)
def test_fails_when_broken(audit, candidate, reference):
    def ask() -> AuditResult:
        if isinstance(audit, Audit | Measured):
            return audit.run(candidate, *SCHEMAS)
        if isinstance(audit, Volume):
            count = f"SELECT count(*) FROM {TABLES[audit.table].schema}.{audit.table}".encode()
            (rows,), (live,) = (each.execute(count).fetchone() for each in (candidate, reference))
            return audit.compare(rows, live, live)
        return audit.compare((candidate, SCHEMAS), (reference, SCHEMAS))

    assert ask().passed, ask().details
    with candidate.transaction(force_rollback=True):
        candidate.execute(breakage(audit).encode())
        result = ask()
    assert not result.passed, result.details
    assert (result.name, result.table) == (audit.name, audit.table)


def test_every_kind_of_audit_is_derived_from_some_table():
    """So that each kind is among those that were seen to fail."""
    kinds = {
        *("key_unique", "not_empty", "equals_staging", "volume", "intervals", "resolves", "known"),
        *("growth", "totals", "latest_day", "agrees_with"),
    }
    missing = {kind for kind in kinds if not any(f"_{kind}" in audit.name for audit in AUDITS)}
    assert not missing


def test_names_are_unique_and_serve_as_check_names():
    assert len({audit.name for audit in AUDITS}) == len(AUDITS)
    assert all(audit.name.isidentifier() and audit.table in TABLES for audit in AUDITS)


BROKEN = {
    "INSERT INTO warehouse.dim_vendor SELECT * FROM warehouse.dim_vendor WHERE vendor_id = 1": {
        "shop": {"dim_vendor_key_unique"}
    },
    "UPDATE aggregates.agg_rfm_by_customer SET customer_id = NULL WHERE frequency_score = 1": {
        "shop": {"agg_rfm_by_customer_key_unique"}
    },
    "DELETE FROM warehouse.dim_employee": {
        "shop": {
            "dim_employee_not_empty",
            "dim_employee_volume",
            "fct_order_lines_employee_key_resolves",
        }
    },
    "DELETE FROM warehouse.fct_payments WHERE payment_id % 2 = 0": {
        "shop": {"fct_payments_volume"}
    },
    "UPDATE warehouse.dim_store SET valid_from = valid_from - interval '1 day' "
    "WHERE version_number = 2": {"shop": {"dim_store_intervals"}},
    # The shop's facts refer to the locations that stay live.
    "DELETE FROM warehouse.dim_location WHERE region = 'Utrecht'": {
        "conformed": {"dim_location_volume"}
    },
    # Neither new facts nor those that are live may lose a device.
    "UPDATE warehouse.dim_device SET device_key = gen_random_uuid() WHERE device = 'tablet'": {
        "shop": {"fct_order_lines_device_key_resolves", "fct_payments_device_key_resolves"},
        "conformed": {"fct_order_lines_device_key_resolves", "fct_payments_device_key_resolves"},
    },
    f"UPDATE warehouse.fct_order_lines SET product_key = {UNKNOWN}": {
        "shop": {"fct_order_lines_product_key_known"}
    },
    "UPDATE warehouse.fct_order_lines SET net_amount = net_amount + 0.01 "
    "WHERE NOT is_cancelled AND line_number = 4": {
        "shop": {
            "agg_sales_by_category_month_net_amount_agrees_with_fct_order_lines",
            "agg_orders_by_device_weekday_hour_net_amount_agrees_with_fct_order_lines",
        }
    },
}
"""What is broken in staging → the lines that are held, with the audits that fail, and no others."""


@pytest.mark.parametrize("broken", BROKEN)
def test_a_broken_line_is_held(published, broken):
    with database(published[0]) as staging, database(published[1]) as production:
        before = fingerprints(production, VIEWS)
        with staging.connect() as session:
            session.execute(broken.encode())
        if len(BROKEN[broken]) == len(SHOP):
            with pytest.raises(AuditFailed) as caught:
                publish(staging, production, declared.TABLES, AUDITS)
            expected = set().union(*BROKEN[broken].values())
            assert {result.name for result in caught.value.failed} == expected
        else:
            done = publish(staging, production, declared.TABLES, AUDITS)
            failed = {
                line: {result.name for result in outcome.failed}
                for line, outcome in done.lines.items()
                if not outcome.passed
            }
            assert failed == BROKEN[broken]
            assert {outcome.version for outcome in done.lines.values()} == {1, 2}
        # The lines that are not held have not changed in staging.
        assert fingerprints(production, VIEWS) == before


@pytest.mark.parametrize(
    ("trigger", "failing"),
    [
        ("NEW.refund_amount = NEW.refund_amount + 0.01; RETURN NEW;", "fct_order_lines_totals"),
        (
            "NEW.ordered_at = NEW.ordered_at - interval '1 day'; RETURN NEW;",
            "fct_order_lines_latest_day",
        ),
    ],
)
def test_what_copying_spoils_is_not_published(published, trigger, failing):
    """Production's own server changes rows as they are written: a trigger stands for whatever else
    might.
    """
    with database(published[1]) as production:
        before = fingerprints(production, ["production.fct_order_lines"])
        with production.connect() as session:
            # Production does not know any more what it has, so tables are copied again.
            session.execute("DELETE FROM production_meta.contents")
            session.execute(
                f"""
                CREATE FUNCTION public.spoil() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                  {trigger} END $$;
                CREATE TRIGGER spoil BEFORE INSERT ON production_slot_12.fct_order_lines
                  FOR EACH ROW EXECUTE FUNCTION public.spoil();
                """.encode()
            )
        told: list[str] = []
        # The line is held, but the copy of what it keeps is spoilt in the same way.
        with pytest.raises(PublishError, match="fct_order_lines: the copy of what is live"):
            publish(published[0], production, declared.TABLES, AUDITS, on_progress=told.append)
        names = f"fct_order_lines_equals_staging, {failing}"
        assert f"shop is held and keeps what is live: {names} failed" in told
        assert fingerprints(production, ["production.fct_order_lines"]) == before


def test_lost_rows_are_not_published(published):
    with database(published[1]) as production:
        before = fingerprints(production, VIEWS)
        with production.connect() as session:
            session.execute("DELETE FROM production_meta.contents")
            session.execute(
                """
                CREATE FUNCTION public.lose() RETURNS trigger LANGUAGE plpgsql AS
                  $$ BEGIN DELETE FROM production_slot_12.dim_date
                    WHERE year = 2024; RETURN NULL; END $$;
                CREATE TRIGGER lose AFTER INSERT ON production_slot_12.dim_date EXECUTE FUNCTION
                  public.lose();
                """
            )
        told: list[str] = []
        with pytest.raises(PublishError, match="dim_date: the copy of what is live"):
            publish(published[0], production, declared.TABLES, AUDITS, on_progress=told.append)
        names = "dim_date_equals_staging, dim_date_volume"
        assert f"conformed is held and keeps what is live: {names} failed" in told
        assert fingerprints(production, VIEWS) == before
