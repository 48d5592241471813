"""The models of the mobile operator on a real PostgreSQL, with hand-made rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from random import Random
from typing import Any

import pytest
from support.dbt_builds import Raw, Warehouse
from support.lines import TELECOM, project_of

from softcart_assets import warehouse_state
from softcart_assets.assembly import LINES
from softcart_assets.connections import staging

DATABASE, BUILT = "test_telecom", "test_telecom_built"
FACTS = {
    "fct_calls": "call_key",
    "fct_charges": "charge_key",
    "fct_roaming": "roaming_key",
    "fct_invoices": "invoice_line_key",
    "fct_crm_interactions": "interaction_key",
}
DIMENSIONS = ("dim_customer", "dim_subscriber", "dim_plan", "dim_agent")
DAY_1 = datetime(2026, 3, 10, 12, tzinfo=UTC)
START = "2026-03-01 00:00"


def at(text: str) -> datetime:
    """A time as raw tables hold it: UTC without a zone."""
    return datetime.fromisoformat(text)


def customer(number: int, name: str, updated: str = START) -> dict[str, Any]:
    return {"id": number, "full_name": name, "kind": "private", "country_code": "LV"} | {
        "marketing_consent": 1,
        "created_at": at(START),
        "updated_at": at(updated),
    }


def subscriber(number: int, of: int, msisdn: str, updated: str = START, **more) -> dict[str, Any]:
    return {
        "id": number,
        "customer_id": of,
        "account_id": of + 100,
        "msisdn": msisdn,
        "imsi": f"262{number}",
        "kind": "postpaid",
        "state": "active",
        "plan_id": 1,
        "region": "Riga",
        "time_zone": "Europe/Riga",
        "activated_at": at(START),
        "updated_at": at(updated),
    } | more


def plan(number: int, fee: str, updated: str = START) -> dict[str, Any]:
    return {
        "id": number,
        "code": f"P{number}",
        "name": f"Plan {number}",
        "kind": "postpaid",
        "currency": "EUR",
        "monthly_fee": Decimal(fee),
        "included_minutes": 10,
        "included_sms": 0,
        "included_mb": 0,
        "is_on_sale": 1,
        "created_at": at(START),
        "updated_at": at(updated),
    }


def subscription(number: int, of: int, plan_id: int, started: str) -> dict[str, Any]:
    return {
        "id": number,
        "subscriber_id": of,
        "plan_id": plan_id,
        "started_at": at(started),
        "updated_at": at(started),
    }


def call(number: int, event: str, of: int, started: str, seconds: int, **more) -> dict[str, Any]:
    return {
        "id": number,
        "event_id": event,
        "subscriber_id": of,
        "msisdn": "37120000001",
        "direction": "out",
        "started_at": at(started),
        "duration_seconds": seconds,
        "termination": "normal",
        "cell_id": 1,
        "region": "Riga",
        "recorded_at": at(started) + timedelta(hours=3),
    } | more


def charge(number: int, of: int, moment: str, amount: str, **more) -> dict[str, Any]:
    return {
        "id": number,
        "subscriber_id": of,
        "event_id": f"C{number}",
        "kind": "voice",
        "quantity": Decimal(1),
        "amount": Decimal(amount),
        "currency": "EUR",
        "event_at": at(moment),
        "recorded_at": at(moment),
    } | more


def abroad(number: int, of: int, moment: str, amount: str, **more) -> dict[str, Any]:
    return {
        "operator": "CHETB",
        "record_id": number,
        "subscriber_id": of,
        "msisdn": "37120000001",
        "kind": "voice",
        "started_at": at(moment).replace(tzinfo=UTC),
        "duration_seconds": 60,
        "quantity": Decimal(1),
        "amount": Decimal(amount),
        "currency": "CHF",
        "recorded_at": at(moment).replace(tzinfo=UTC) + timedelta(hours=1),
        "_file": 1,
        "_line": number + 1,
    } | more


def invoice(number: int, state: str = "open", total: str = "11.90") -> dict[str, Any]:
    net = (Decimal(total) / Decimal("1.19")).quantize(Decimal("0.01"))
    return {
        "id": number,
        "account_id": 101,
        "number": f"R{number}",
        "currency": "EUR",
        "period_start": at("2026-02-05").date(),
        "period_end": at("2026-03-05").date(),
        "issued_on": at("2026-03-08").date(),
        "due_on": at("2026-03-22").date(),
        "net_amount": net,
        "tax_amount": Decimal(total) - net,
        "total_amount": Decimal(total),
        "state": state,
        "updated_at": at("2026-03-08"),
    }


def invoice_line(number: int, of: int, net: str, tax: str, kind: str = "usage") -> dict[str, Any]:
    return {
        "id": number,
        "invoice_id": of,
        "account_id": 101,
        "subscriber_id": 1,
        "kind": kind,
        "description": kind,
        "quantity": Decimal(1),
        "net_amount": Decimal(net),
        "tax_amount": Decimal(tax),
        "updated_at": at("2026-03-08"),
    }


def interaction(number: int, of: int, moment: str) -> dict[str, Any]:
    return {
        "id": number,
        "customer_id": of,
        "subscriber_id": of,
        "agent_id": 1,
        "channel": "phone",
        "topic": "network",
        "outcome": "solved",
        "started_at": at(moment),
        "duration_seconds": 60,
        "updated_at": at(moment),
    }


def complaint(number: int, interaction_id: int, state: str = "open") -> dict[str, Any]:
    return {
        "id": number,
        "customer_id": 1,
        "subscriber_id": 1,
        "interaction_id": interaction_id,
        "category": "network",
        "state": state,
        "opened_at": at("2026-03-06 10:00"),
        "updated_at": at("2026-03-06 10:00"),
    }


def load_first_day(raw: Raw) -> None:
    """Two subscribers. A call is recorded twice, and one has no subscriber yet."""
    raw.put("customers", customer(1, "Ann"), customer(2, "Bob"))
    raw.put("subscribers", subscriber(1, 1, "37120000001"), subscriber(2, 2, "37120000002"))
    raw.put("plans", plan(1, "9.99"), plan(2, "19.99"))
    raw.put("subscriptions", subscription(1, 1, 1, START), subscription(2, 2, 1, START))
    raw.put("agents", {"id": 1, "full_name": "Eve", "email": "e@x", "team": "service"})
    raw.put(
        "call_records",
        call(1, "A", 1, "2026-03-05 10:00", 100),
        call(2, "A", 1, "2026-03-05 10:00", 100),
        call(3, "A", 2, "2026-03-05 10:00", 100, direction="in"),
        call(4, "B", 1, "2026-03-06 23:59:59", 7, termination="dropped"),
        call(5, "C", 9, "2026-03-07 10:00", 50),
    )
    raw.put(
        "charges",
        charge(1, 1, "2026-03-05 10:00", "0.18"),
        charge(2, 1, "2026-03-05 00:00", "9.99", kind="fee", event_id=None),
        charge(3, 2, "2026-03-05 10:00", "1.00"),
    )
    raw.put(
        "records",
        abroad(1, 1, "2026-03-05 10:00", "0.3500"),
        abroad(1, 1, "2026-03-05 10:00", "0.0035", operator="AUTTA", currency="EUR"),
        abroad(2, 9, "2026-03-07 10:00", "0.0060", kind="sms"),
    )
    raw.put("invoices", invoice(1))
    raw.put("invoice_lines", invoice_line(1, 1, "9.99", "1.90", "fee"))
    raw.put("invoice_lines", invoice_line(2, 1, "0.01", "0.00"), invoice_line(3, 2, "5.00", "0.95"))
    raw.put("interactions", interaction(1, 1, "2026-03-06 10:00"))
    raw.put("complaints", complaint(1, 1))


def load_second_day(raw: Raw) -> None:
    """Late and moved records, a correction, a ported number, a change of plan, deletions."""
    raw.loaded_at = DAY_1 + timedelta(days=1)
    raw.put("customers", customer(9, "Cid"), customer(1, "Ann Lee", "2026-03-06 00:00"))
    raw.put(
        "subscribers",
        # The number of the second subscriber moves to the first.
        subscriber(2, 2, "37120000002", "2026-03-06 00:00", state="cancelled"),
        subscriber(1, 1, "37120000002", "2026-03-06 00:00", plan_id=2),
        subscriber(9, 9, "37120000009"),
    )
    raw.put("subscriptions", subscription(3, 1, 2, "2026-03-06 00:00"))
    raw.put(
        "call_records",
        call(6, "D", 1, "2026-03-04 08:00", 30),  # late
        call(7, "B", 1, "2026-03-06 23:59:59", 7, termination="dropped"),  # a copy
        call(1, "E", 1, "2026-03-05 11:00", 100),  # the record that counted has another event
    )
    raw.put("call_records", call(3, "A", 2, "2026-03-05 10:00", 100, direction="in"), deleted=True)
    raw.put(
        "charges",
        charge(4, 1, "2026-03-05 10:00", "-0.18", quantity=Decimal(-1), reverses_id=1),
        charge(5, 1, "2026-03-05 10:00", "0.09", reverses_id=1),
    )
    raw.put("charges", charge(3, 2, "2026-03-05 10:00", "1.00"), deleted=True)
    # A corrected file: another amount, a record less. And one that comes late.
    raw.put("records", abroad(1, 1, "2026-03-05 10:00", "0.0350", _file=2))
    raw.put("records", abroad(2, 9, "2026-03-07 10:00", "0.0060", kind="sms"), deleted=True)
    raw.put("records", abroad(3, 1, "2026-03-06 12:00", "0.0700", _file=3))
    raw.put("invoices", invoice(1, "paid"), invoice(2, "open", "5.95"))
    raw.put("complaints", complaint(1, 1, "resolved"))


@pytest.fixture(scope="module")
def warehouse(stack, tmp_path_factory) -> Iterator[Warehouse]:
    """Built on two days; `incremental` and `refreshed` hold the facts after each."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOFTCART_STAGING_DATABASE", DATABASE)
        folder = tmp_path_factory.mktemp("telecom")
        it = Warehouse(staging(), folder, project_of(TELECOM, folder), FACTS)
        it.create(DATABASE, "template0")
        with it.server.connect(autocommit=True) as session:
            raw = Raw(session, LINES.line("telecom"), DAY_1)
            raw.create()
            load_first_day(raw)
            warehouse_state.prepare(session, "dbt_state")
            warehouse_state.prepare(session, "identities")
            it.dbt("run")
            it.note_facts()
            load_second_day(raw)
            it.build()
            again = it.dbt("run", "--select", *FACTS)
            it.written_again = [
                again[fact].adapter_response["rows_affected"]
                for fact in FACTS
                if fact != "fct_crm_interactions"
            ]
            it.note_facts()
        it.create(BUILT, DATABASE)
        yield it
        with replace(it.server, database="postgres").connect(autocommit=True) as admin:
            for name in (DATABASE, BUILT):
                admin.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


@pytest.fixture
def raw(warehouse: Warehouse) -> Iterator[Raw]:
    """The database after both days, to be changed."""
    warehouse.create(DATABASE, BUILT)
    with warehouse.server.connect(autocommit=True) as session:
        yield Raw(session, LINES.line("telecom"), DAY_1 + timedelta(days=2))


def test_incremental_runs_make_the_same_facts_as_a_full_refresh(warehouse: Warehouse) -> None:
    assert warehouse.incremental == warehouse.refreshed
    assert warehouse.incremental[0] != warehouse.incremental[1]
    assert warehouse.written_again == [0, 0, 0, 0]


def test_records_of_one_call_count_once_and_the_first_one_counts(warehouse: Warehouse) -> None:
    first, second = (
        {(row["event_id"], row["direction"]): row["call_record_id"] for row in facts["fct_calls"]}
        for facts in warehouse.incremental
    )
    assert first == {
        ("A", "out"): 1,
        ("A", "in"): 3,
        ("B", "out"): 4,
        ("C", "out"): 5,
    }
    # Record 1 has another event now, so the copy counts. The other direction was deleted.
    assert second == {
        ("A", "out"): 2,
        ("B", "out"): 4,
        ("C", "out"): 5,
        ("D", "out"): 6,
        ("E", "out"): 1,
    }


def test_facts_meet_the_versions_of_their_time(warehouse: Warehouse) -> None:
    warehouse.create(DATABASE, BUILT)
    assert warehouse.query("""
        SELECT call.event_id, subscriber.msisdn, customer.full_name, plan.plan_code
        FROM warehouse.fct_calls AS call
        JOIN warehouse.dim_subscriber AS subscriber USING (subscriber_key)
        JOIN warehouse.dim_customer AS customer USING (customer_key)
        JOIN warehouse.dim_plan AS plan USING (plan_key)
        ORDER BY call.event_id
    """) == [
        ("A", "37120000001", "Ann", "P1"),
        # After the number was ported, and the plan was changed.
        ("B", "37120000002", "Ann Lee", "P2"),
        # The subscriber came later than the call.
        ("C", "37120000009", "Cid", "P1"),
        ("D", "37120000001", "Ann", "P1"),
        ("E", "37120000001", "Ann", "P1"),
    ]


def test_corrections_and_invoices_add_up(warehouse: Warehouse) -> None:
    charges = warehouse.incremental[1]["fct_charges"]
    assert sum(row["amount"] for row in charges) == Decimal("10.08")
    assert {row["charge_id"] for row in charges if row["is_correction"]} == {4, 5}
    first, second = (facts["fct_invoices"] for facts in warehouse.incremental)
    states = [{row["invoice_line_id"]: row["invoice_state"] for row in f} for f in (first, second)]
    assert states == [
        {1: "open", 2: "open", 3: "unknown"},
        {1: "paid", 2: "paid", 3: "open"},
    ]
    assert sum(row["net_amount"] for row in second) == Decimal("15.00")


def test_a_corrected_file_about_roaming_corrects_the_cost(warehouse: Warehouse) -> None:
    found = [
        {
            (row["operator_code"], row["roaming_record_id"]): (
                str(row["cost_amount"]),
                row["customer_id"],
                row["plan_id"],
            )
            for row in facts["fct_roaming"]
        }
        for facts in warehouse.incremental
    ]
    assert found == [
        {
            ("CHETB", 1): ("0.3500", 1, 1),
            ("AUTTA", 1): ("0.0035", 1, 1),
            ("CHETB", 2): ("0.0060", None, None),
        },
        {
            ("CHETB", 1): ("0.0350", 1, 1),
            ("AUTTA", 1): ("0.0035", 1, 1),
            # After the change of the plan.
            ("CHETB", 3): ("0.0700", 1, 2),
        },
    ]
    # A cost is no revenue.
    assert sum(row["amount"] for row in warehouse.incremental[1]["fct_charges"]) == Decimal("10.08")


def test_complaints_stand_with_their_interaction(warehouse: Warehouse) -> None:
    first, second = (facts["fct_crm_interactions"] for facts in warehouse.incremental)
    assert [(row["complaint_count"], row["open_complaint_count"]) for row in first] == [(1, 1)]
    assert [(row["complaint_count"], row["open_complaint_count"]) for row in second] == [(1, 0)]


def change(raw: Raw, chance: Random) -> None:
    """Load, change or delete a row of any table that a fact follows."""
    number, other = chance.randint(1, 4), chance.randint(1, 3)
    moment = f"2026-03-0{chance.choice((1, 3, 5, 9))} 1{chance.randint(0, 9)}:00"
    rows = {
        "customers": customer(other, chance.choice(("Ann", "Bob")), moment),
        "subscribers": subscriber(
            other, chance.randint(1, 3), chance.choice(("1", "2")), moment, plan_id=number
        ),
        "plans": plan(number, chance.choice(("9.99", "5.00")), moment),
        "subscriptions": subscription(number, other, chance.randint(1, 4), moment),
        "call_records": call(
            chance.randint(1, 9),
            chance.choice("ABCD"),
            other,
            moment,
            chance.randint(0, 9),
            direction=chance.choice(("out", "in")),
        ),
        "charges": charge(number, other, moment, "0.01"),
        "records": abroad(number, other, moment, chance.choice(("0.01", "0.0001"))),
        "invoices": invoice(number, chance.choice(("open", "paid"))),
        "invoice_lines": invoice_line(chance.randint(1, 9), number, "1.00", "0.19"),
        "interactions": interaction(number, other, moment),
        "complaints": complaint(number, other),
    }
    raw.loaded_at += timedelta(hours=chance.randint(-5, 20))
    table = chance.choice(sorted(rows))
    raw.put(table, rows[table], deleted=chance.random() < 0.25)


def test_any_order_of_partial_builds_makes_the_facts_of_a_full_refresh(
    warehouse: Warehouse, raw: Raw
) -> None:
    # With this seed, lines and subscriptions move, too.
    chance = Random(3)
    for _ in range(4):
        for _ in range(chance.randint(3, 9)):
            change(raw, chance)
        models = chance.sample((*DIMENSIONS, *FACTS), chance.randint(1, 4))
        results = warehouse.dbt("run", "--select", *models)
        assert {result.status for result in results.values()} == {"success"}
    warehouse.dbt("run")
    grown = warehouse.facts()
    warehouse.dbt("run", "--full-refresh", "--select", *FACTS)
    assert grown == warehouse.facts()
    results = warehouse.dbt("test", "--select", *(f"{fact}_match_source" for fact in FACTS))
    assert [result.status for result in results.values()] == ["pass"] * len(FACTS)


MOVES = {
    "a line to an invoice that is not there yet": (
        "fct_invoices",
        "invoice_lines",
        invoice_line(2, 4, "0.01", "0.00"),
    ),
    "the only line of an invoice": (
        "fct_invoices",
        "invoice_lines",
        invoice_line(3, 1, "5.00", "0.95"),
    ),
    "the second record of a call": (
        "fct_calls",
        "call_records",
        call(7, "F", 1, "2026-03-06 23:59:59", 7),
    ),
}


@pytest.mark.parametrize("case", MOVES)
def test_a_row_that_moves_alone_leaves_nothing_behind(
    warehouse: Warehouse, raw: Raw, case: str
) -> None:
    """Nothing else changes that would have its old place looked at."""
    fact, table, row = MOVES[case]
    raw.put(table, row)
    assert is_as_refreshed(warehouse, fact)


@pytest.mark.parametrize("is_deleted", [False, True])
def test_a_subscription_that_moves_takes_its_plan_along(
    warehouse: Warehouse, raw: Raw, is_deleted: bool
) -> None:
    """The first plan was written to a wrong contract. What the second one covers now is its own."""
    moved = subscription(1, 3, 1, START)
    raw.put("subscriptions", moved)
    raw.put("subscriptions", moved, deleted=is_deleted)
    facts = [fact for fact in FACTS if fact != "fct_crm_interactions"]
    assert is_as_refreshed(warehouse, *facts)
    for fact in facts:
        plans = {row["plan_id"] for row in warehouse.facts()[fact] if row["subscriber_id"] == 1}
        assert plans == {2}, fact


def is_as_refreshed(warehouse: Warehouse, *facts: str) -> bool:
    """Build these facts. Returns whether they are what a full refresh makes, and sound."""
    before = warehouse.facts()
    results = [*warehouse.dbt("run", "--select", *facts).values()]
    grown = warehouse.facts()
    assert all(grown[fact] != before[fact] for fact in facts)
    warehouse.dbt("run", "--full-refresh", "--select", *facts)
    tests = [
        name for fact in facts for name in (f"{fact}_match_source", f"plan_of_its_time_{fact}")
    ]
    results += warehouse.dbt("test", "--select", *tests).values()
    assert {result.status for result in results} <= {"success", "pass"}
    return grown == warehouse.facts()


def test_rows_without_a_kind_or_currency_are_compared(warehouse: Warehouse, raw: Raw) -> None:
    raw.put("call_records", call(9, "N", 1, "2026-03-06 10:00", 5, direction=None))
    raw.put("charges", charge(9, 1, "2026-03-06 10:00", "0.10", kind=None, currency=None))
    raw.put("records", abroad(9, 1, "2026-03-06 10:00", "0.10", kind=None, currency=None))
    raw.put("invoice_lines", invoice_line(9, 1, "0.10", "0.02") | {"kind": None})
    warehouse.dbt("run", "--select", *FACTS)
    tests = [f"{fact}_match_source" for fact in FACTS if fact != "fct_crm_interactions"]
    told = warehouse.dbt("test", "--select", *tests)
    assert [told[test].status for test in tests] == ["pass"] * 4
    raw.session.execute("""
        DELETE FROM warehouse.fct_calls WHERE direction IS NULL;
        DELETE FROM warehouse.fct_charges WHERE currency IS NULL;
        DELETE FROM warehouse.fct_roaming WHERE currency IS NULL;
        DELETE FROM warehouse.fct_invoices WHERE invoice_line_kind IS NULL;
    """)
    told = warehouse.dbt("test", "--select", *tests)
    assert [told[test].status for test in tests] == ["fail"] * 4


BREAKS = [
    ("fct_calls_match_source", "UPDATE warehouse.fct_calls SET duration_seconds = 1"),
    ("fct_charges_match_source", "UPDATE raw_charging.charges SET amount = amount + 0.01"),
    ("fct_roaming_match_source", "UPDATE warehouse.fct_roaming SET cost_amount = 0.0001"),
    ("fct_roaming_match_source", "DELETE FROM raw_roaming.records WHERE operator = 'AUTTA'"),
    ("fct_invoices_match_source", "DELETE FROM warehouse.fct_invoices WHERE invoice_id = 2"),
    ("fct_invoices_match_source", "UPDATE raw_billing.invoices SET currency = 'USD'"),
    ("fct_crm_interactions_match_source", "DELETE FROM raw_crm.complaints"),
    ("plan_of_its_time_fct_charges", "UPDATE raw_crm.subscriptions SET subscriber_id = 3"),
    ("plan_of_its_time_fct_calls", "UPDATE warehouse.fct_calls SET plan_id = plan_id + 1"),
    ("dim_customer_matches_crm", "UPDATE raw_crm.customers SET _deleted = true WHERE id = 1"),
    ("invoice_totals_match_lines", "UPDATE raw_billing.invoices SET total_amount = 1"),
]


@pytest.mark.parametrize(("test", "statement"), BREAKS)
def test_broken_data_fails_its_test(
    warehouse: Warehouse, raw: Raw, test: str, statement: str
) -> None:
    assert warehouse.dbt("test", "--select", test)[test].status == "pass"
    raw.session.execute(statement)
    expected = "warn" if test == "invoice_totals_match_lines" else "fail"
    assert warehouse.dbt("test", "--select", test)[test].status == expected
