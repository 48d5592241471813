"""The call centre's API: one moment of all sources, to the cent, for those who may ask."""

from __future__ import annotations

import gzip
import json
import logging
import multiprocessing
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from jsonschema import Draft4Validator, FormatChecker
from schemathesis.checks import not_a_server_error
from support.callers import (
    NOW,
    OLD,
    POSTPAID,
    PREPAID,
    SOURCES,
    call,
    call_centre,
    charge,
    insert,
    load,
    score,
    sources,
)
from support.databases import database
from support.ingestion import query, run
from support.totals import limits, rows_at_source
from typer.testing import CliRunner
from werkzeug.test import TestResponse

from softcart_assets import cli
from softcart_assets.connections import MySQLConnection, PostgresConnection
from softcart_assets.ingestion.capture import stream
from softcart_assets.serving import tokens
from softcart_assets.serving.app import create_app
from softcart_assets.serving.asking import Asking, ready
from softcart_assets.serving.telecom import DESK
from softcart_assets.serving.telecom.standard import ACCOUNT, BALANCE, USAGE
from softcart_assets.stack import Stack
from softcart_assets.web.limits import Limits

READ, SEARCH = tokens.SCOPES
DATA = Path(__file__).parents[1] / "data"
CALLER = "/v1/caller"
CONTACT = "contact.contactMedium.characteristic.phoneNumber"


@pytest.fixture(scope="module")
def at_source(stack: Stack) -> Iterator[dict[str, MySQLConnection]]:
    with sources(MySQLConnection.from_env("SOFTCART_TEST_MYSQL")) as found:
        yield found


@pytest.fixture(scope="module")
def lake_of_callers(tmp_path_factory: pytest.TempPathFactory) -> str:
    return (tmp_path_factory.mktemp("callers") / "lake").as_uri()


@pytest.fixture(scope="module")
def warehouse(
    stack: Stack, at_source: dict[str, MySQLConnection], lake_of_callers: str
) -> Iterator[PostgresConnection]:
    with database() as postgres:
        load(at_source, postgres, lake_of_callers)
        ready(postgres, DESK)
        yield postgres


@pytest.fixture(scope="module")
def app(warehouse: PostgresConnection) -> Iterator[Any]:
    asking = Asking(warehouse, DESK)
    yield create_app(asking, Limits(), b"secret" * 8)
    asking.close()


@pytest.fixture(scope="module")
def token(warehouse: PostgresConnection) -> str:
    return tokens.create(warehouse, "test", [*tokens.SCOPES], "testing", 1_000_000)


@pytest.fixture
def ask(app: Any, token: str):  # type: ignore[no-untyped-def]
    """Ask with a valid token, or another. Only our own resource takes parameters by POST."""

    def sent(path: str, shown: str | None = token, **parameters: object) -> TestResponse:
        headers = {"Authorization": f"Bearer {shown}"} if shown else {}
        client = app.test_client()
        if path == CALLER:
            return client.post(path, json=parameters, headers=headers)
        return client.get(path, query_string=parameters, headers=headers)

    return sent


def problem(response: TestResponse, status: int) -> dict[str, Any]:
    """The body of an error. All errors are problem details."""
    assert (response.status_code, response.mimetype) == (status, "application/problem+json")
    body = response.get_json()
    assert {"type", "title", "status", "detail", "instance"} <= body.keys()
    assert body["status"] == status
    return body


def money(*pairs: str) -> list[dict[str, str]]:
    return [{"amount": amount, "currency": "EUR"} for amount in pairs]


def test_a_prepaid_caller(ask) -> None:
    answer = ask(CALLER, msisdn=PREPAID)
    assert answer.status_code == 200
    body = answer.get_json()
    caller = body["caller"]
    # Not the one who had the number before.
    assert caller["subscriber"]["id"] == 7
    assert caller["subscriber"]["number"] == PREPAID
    assert (caller["customer"]["name"], caller["plan"]["code"]) == ("Ada Lovelace", "PRE")
    totals = {
        name: [window[each] for each in ("calls", "call_seconds", "sms", "megabytes", "charged")]
        for name, window in caller["totals"].items()
    }
    # A duplicate counts once, an incoming call not at all.
    now = [1, 60, 1, "1.500", money("0.10")]
    assert totals == {"day": now, "cycle": now, "life": [2, 90, 1, "1.501", money("9.09")]}
    assert caller["balance"]["amount"] == "12.30"
    assert caller["balance"]["last_top_up"]["amount"] == "1.39"
    assert (caller["account"], caller["bill"]) == (None, None)
    assert [call["direction"] for call in caller["last_calls"]] == ["out", "in", "out"]
    assert caller["last_calls"][0]["other"] == "…432"
    assert caller["open_complaints"] == 0
    states = {each["source"]: each["state"] for each in body["sources"]}
    assert states == dict.fromkeys(SOURCES, "live")
    assert all(each["position"] for each in body["sources"])
    oldest = min(each["complete_at"] for each in body["sources"])
    assert body["as_of"] == oldest
    age = datetime.now(UTC) - datetime.fromisoformat(body["as_of"])
    assert timedelta() <= age - timedelta(milliseconds=body["age_ms"]) < timedelta(seconds=5)
    assert answer.headers["Cache-Control"] == "no-store"


def test_a_postpaid_caller(ask) -> None:
    caller = ask(CALLER, msisdn=POSTPAID).get_json()["caller"]
    account = caller["account"]
    # The limit is the account's: what its other subscriber has used counts, too.
    assert [account[each] for each in ("limit", "used", "left")] == ["100.00", "35.00", "65.00"]
    assert (account["unpaid"], account["unpaid_invoices"]) == ("23.80", 1)
    assert caller["balance"] is None
    assert (caller["bill"]["number"], caller["bill"]["amount"]) == ("B-2", "23.80")
    assert caller["open_complaints"] == 1
    assert {each["state"] for each in caller["complaints"]} == {"open", "resolved"}
    assert caller["totals"]["life"]["calls"] == 0


def test_another_day_of_the_bill_cycle_changes_what_is_used(
    ask, at_source: dict[str, MySQLConnection], warehouse: PostgresConnection, lake_of_callers: str
) -> None:
    """Exact to the cent against a recount of the charges, on the account's own days."""
    charging, billing = at_source["charging"], at_source["billing"]
    earlier = [NOW - timedelta(days=days) for days in (1, 4, 9, 16, 25)]
    added = [charge(8, f"{n}.01", at, kind="roaming") for n, at in enumerate(earlier, 1)]
    insert(charging, "charges", *added)
    try:
        for day in (1, 10, 20, 28):
            run(billing, f"UPDATE bill_cycles SET cycle_day = {day}")
            load(at_source, warehouse, lake_of_callers, "billing", "charging")
            account = ask(CALLER, msisdn=POSTPAID).get_json()["caller"]["account"]
            starts, ends = limits(day, "UTC", datetime.now(UTC))["cycle"]
            used = sum(
                row["amount"]
                for row in rows_at_source(charging, "charges")
                if row["subscriber_id"] in (8, 9)
                and starts <= row["event_at"].replace(tzinfo=UTC) < ends
            )
            assert [account["used"], account["left"]] == [str(used), str(100 - used)], day
    finally:
        run(charging, "DELETE FROM charges WHERE kind = 'roaming'")
        run(billing, "UPDATE bill_cycles SET cycle_day = 1")
        load(at_source, warehouse, lake_of_callers, "billing", "charging")


def test_the_standard_forms_have_all_digits(ask) -> None:
    def exact(path: str, name: str, number: str) -> list[dict[str, Any]]:
        answer = ask(path, **{name: number})
        assert answer.status_code == 200
        return json.loads(answer.text, parse_float=str)

    number = "logicalResource.id"
    [found] = exact(USAGE, number, PREPAID)
    assert found["@type"] == "QueryUsageConsumption"
    used = {part["name"]: part for part in found["usageConsumption"]}
    assert [*used] == ["day", "cycle", "life"]
    counters = {
        bucket["usageType"]: bucket["bucketCounter"][0]["value"]
        for bucket in used["life"]["bucketRefOrValue"]
    }
    assert counters == {
        "voice": {"amount": 90, "units": "seconds"},
        "sms": {"amount": 1, "units": "messages"},
        "data": {"amount": "1.501", "units": "megabytes"},
    }
    [bucket] = exact(BALANCE, number, PREPAID)
    assert bucket["remainingValue"] == {"amount": "12.30", "units": "EUR"}
    assert exact(BALANCE, number, POSTPAID) == []
    [account] = exact(ACCOUNT, CONTACT, POSTPAID)
    amounts = {each["balanceType"]: each["amount"]["value"] for each in account["accountBalance"]}
    assert amounts == {"leftOfLimit": "65.00", "usedInCycle": "35.00", "unpaid": "23.80"}
    assert account["creditLimit"] == {"unit": "EUR", "value": "100.00"}
    assert exact(ACCOUNT, CONTACT, PREPAID) == []


@pytest.mark.parametrize(
    ("standard", "definition", "path", "parameter", "number"),
    [
        ("TMF677", "QueryUsageConsumption", USAGE, "logicalResource.id", PREPAID),
        ("TMF654", "Bucket", BALANCE, "logicalResource.id", PREPAID),
        ("TMF666", "BillingAccount", ACCOUNT, CONTACT, POSTPAID),
    ],
)
def test_the_standard_forms_are_as_published(
    ask, standard: str, definition: str, path: str, parameter: str, number: str
) -> None:
    """`tests/data/README.md` says where the definitions are from."""
    files = json.loads(gzip.decompress((DATA / "tmf-v4.json.gz").read_bytes()))
    [definitions] = [found for name, found in files.items() if name.startswith(standard)]
    for each in definitions.values():
        if "properties" in each:
            # Nothing that the standard does not name.
            each["additionalProperties"] = False
    schema = {"$ref": f"#/definitions/{definition}", "definitions": definitions}
    validator = Draft4Validator(schema, format_checker=FormatChecker())
    [found] = ask(path, **{parameter: number}).get_json()
    assert list(validator.iter_errors(found)) == []
    assert list(validator.iter_errors(found | {"relatedParty": "Ada", "wrong": 1})) != []


def test_names_are_found_by_an_index_of_their_words(
    app: Any, warehouse: PostgresConnection, token: str
) -> None:
    asking = Asking(warehouse, DESK)
    who = next(each for each in tokens.every(warehouse) if each.id in token)

    def found(wanted: str) -> list[str]:
        return [row[1] for row in asking.named(wanted, who, "test")]

    # A row for each subscriber.
    ada, grace = ["Ada Lovelace"] * 2, ["Grace <b>O'Hara</b>"] * 2
    for wanted in ("lovel", "LOVELACE", "love ad", "Ada-Love"):
        assert found(wanted) == ada
    assert found("o'hara") == found("gra HAR") == grace
    for wanted in ("ovel", "ada grace", "---", "%", "\\'", "':*", "lovelace | grace", "! ada"):
        assert (found(wanted) == ada) is (wanted == "! ada")
    asking.close()
    text = DESK.names.replace("%(wanted)s", "$1")
    with warehouse.connect() as session:
        for table, more in (
            ("customers", "'full_name', 'Person ' || n || repeat(' x', 60)"),
            ("subscribers", "'customer_id', 1000 + n"),
        ):
            session.execute(
                f"INSERT INTO raw_crm.{table} SELECT (q.r).* FROM (SELECT jsonb_populate_record(c,"
                f" jsonb_build_object('id', 1000 + n, {more})) AS r"
                f" FROM raw_crm.{table} AS c, generate_series(1, 3000) AS n"
                " WHERE c.id IN (1, 7) OFFSET 0) AS q".encode()
            )
        session.execute("ANALYZE raw_crm.subscribers")
        session.execute("ANALYZE raw_crm.customers")
        session.execute("SET LOCAL plan_cache_mode = force_generic_plan")
        session.execute(f"PREPARE by_name (text) AS {text} LIMIT 20".encode())
        plan = session.execute("EXPLAIN EXECUTE by_name ('lovel')").fetchall()
        assert "desk_customers_by_name" in str(plan)
        assert "Seq Scan on customers" not in str(plan)
        session.execute("DEALLOCATE by_name")
        session.rollback()


def test_reasons_to_keep_a_caller(ask, warehouse: PostgresConnection) -> None:
    def churn(number: str = PREPAID) -> dict[str, Any] | None:
        return ask(CALLER, msisdn=number).get_json()["caller"]["churn"]

    # Before the first model there is no table.
    assert churn() is None
    for probability in ("6.4321", "7.0000"):
        # Each scoring makes the table anew.
        score(warehouse, 7, probability)
        assert churn() == {
            "month": "2026-12-01",
            "probability_pct": probability,
            "decile": 1,
            "reasons": ["Dropped calls: 5", "Prepaid"],
            "cut_off_date": "2026-11-01",
            "model_version": 3,
        }
    assert churn(POSTPAID) is None


def test_an_answer_that_is_too_old_is_none(ask) -> None:
    assert ask(CALLER, msisdn=PREPAID, max_age_ms=86_400_000).status_code == 200
    answer = ask(CALLER, msisdn=PREPAID, max_age_ms=0)
    body = problem(answer, 503)
    assert body["age_ms"] > 0
    assert body["as_of"]
    assert answer.headers["Retry-After"] == "1"
    assert "Ada" not in answer.text


@contextmanager
def _changed(warehouse: PostgresConnection, do: str, undo: str) -> Iterator[None]:
    with warehouse.connect(autocommit=True) as session:
        session.execute(do.encode())
        try:
            yield
        finally:
            session.execute(undo.encode())


def test_nobody_knows_the_age_of_what_was_never_complete(
    ask, warehouse: PostgresConnection
) -> None:
    with _changed(
        warehouse,
        "CREATE TABLE kept AS SELECT source, complete_at FROM ingestion.streams;"
        "UPDATE ingestion.streams SET complete_at = NULL WHERE source = 'crm'",
        "UPDATE ingestion.streams s SET complete_at = k.complete_at FROM kept k"
        " WHERE k.source = s.source; DROP TABLE kept",
    ):
        body = ask(CALLER, msisdn=PREPAID).get_json()
        assert (body["as_of"], body["age_ms"]) == (None, None)
        problem(ask(CALLER, msisdn=PREPAID, max_age_ms=86_400_000), 503)


def test_nobody_knows_the_age_of_what_may_miss_changes(ask, warehouse: PostgresConnection) -> None:
    """The stream goes on, but the log does not tell all changes of one table."""
    table = " WHERE source = 'billing' AND table_name = 'invoices'"
    with _changed(
        warehouse,
        f"UPDATE ingestion.captures SET stale_since = position{table}",
        f"UPDATE ingestion.captures SET stale_since = NULL{table}",
    ):
        body = ask(CALLER, msisdn=POSTPAID).get_json()
        assert (body["as_of"], body["age_ms"]) == (None, None)
        states = {each["source"]: each["state"] for each in body["sources"]}
        assert states == dict.fromkeys(SOURCES, "live") | {"billing": "stale"}
        problem(ask(CALLER, msisdn=POSTPAID, max_age_ms=86_400_000), 503)
        standard = {CONTACT: POSTPAID}
        problem(ask(ACCOUNT, **standard, max_age_ms=86_400_000), 503)
        assert "As-Of" not in ask(ACCOUNT, **standard).headers
        total = "SELECT state, complete_at FROM ods.positions WHERE name = 'unpaid'"
        assert query(warehouse, total) == [("stale", None)]
        # Of a source whose tables differ, nobody can name one position.
        with _changed(
            warehouse,
            "UPDATE ingestion.captures SET state = 'stopped', reason = position, position = 'x:9'"
            f"{table}",
            "UPDATE ingestion.captures SET state = 'live', position = reason, reason = NULL"
            f"{table}",
        ):
            body = ask(CALLER, msisdn=POSTPAID).get_json()
            [billing] = [each for each in body["sources"] if each["source"] == "billing"]
            assert (billing["state"], billing["position"]) == ("stopped", None)
            assert (billing["complete_at"], body["age_ms"]) == (None, None)


def test_nothing_is_younger_than_now(ask, warehouse: PostgresConnection) -> None:
    """The clock of a source or of the stream may be ahead of the warehouse's."""
    with _changed(
        warehouse,
        "CREATE TABLE kept AS SELECT source, complete_at FROM ingestion.streams;"
        "UPDATE ingestion.streams SET complete_at = clock_timestamp() + interval '1 minute'",
        "UPDATE ingestion.streams s SET complete_at = k.complete_at FROM kept k"
        " WHERE k.source = s.source; DROP TABLE kept",
    ):
        assert ask("/v1/caller", msisdn=PREPAID).get_json()["age_ms"] == 0


def test_every_answer_is_of_one_moment(
    ask,
    at_source: dict[str, MySQLConnection],
    warehouse: PostgresConnection,
    lake_of_callers: str,
) -> None:
    """A charge and the balance change in one transaction at the source, while the stream runs."""
    stopped = threading.Event()

    def write() -> None:
        with at_source["charging"].connect() as session:
            while not stopped.is_set():
                session.query("UPDATE balances SET amount = amount - 0.01 WHERE subscriber_id = 7")
                session.query(
                    "INSERT INTO charges (subscriber_id, kind, quantity, amount, currency,"
                    " event_at, recorded_at) VALUES (7, 'sms', 1, 0.01, 'EUR', now(6), now(6))"
                )
                session.commit()
                time.sleep(0.001)

    process = multiprocessing.get_context("fork").Process(
        target=stream,
        args=(SOURCES["charging"], at_source["charging"], warehouse, lake_of_callers),
    )
    writer = threading.Thread(target=write)
    process.start()
    writer.start()
    try:
        seen, deadline = set(), time.monotonic() + 30
        while len(seen) < 10 and time.monotonic() < deadline:
            caller = ask(CALLER, msisdn=PREPAID).get_json()["caller"]
            balance = Decimal(caller["balance"]["amount"])
            [charged] = caller["totals"]["life"]["charged"]
            assert balance + Decimal(charged["amount"]) == Decimal("21.39")
            assert caller["totals"]["life"]["starts_at"] is None
            seen.add(balance)
        assert len(seen) == 10
    finally:
        stopped.set()
        writer.join()
        process.terminate()
        process.join()
        run(
            at_source["charging"],
            "DELETE FROM charges WHERE subscriber_id = 7 AND kind = 'sms'",
            "UPDATE balances SET amount = 12.30 WHERE subscriber_id = 7",
        )
        load(at_source, warehouse, lake_of_callers, "charging")


def test_who_may_ask(ask, app: Any, warehouse: PostgresConnection, token: str) -> None:
    path = CALLER
    answer = ask(path, None, msisdn=PREPAID)
    problem(answer, 401)
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    other = tokens.create(warehouse, "other", [SEARCH], "testing", 100)
    problem(ask(path, other, msisdn=PREPAID), 403)
    # An id that is right with a secret that is not.
    problem(ask(path, token.rpartition("_")[0] + "_" + "x" * 43, msisdn=PREPAID), 401)
    for shown in ("", "x", "softcart_000000000000_" + "x" * 43):
        problem(ask(path, shown, msisdn=PREPAID), 401)
    expired = tokens.create(
        warehouse, "late", [READ], "testing", 100, datetime.now(UTC) - timedelta(seconds=1)
    )
    problem(ask(path, expired, msisdn=PREPAID), 401)
    revoked = tokens.create(warehouse, "gone", [READ], "testing", 100)
    assert ask(path, revoked, msisdn=PREPAID).status_code == 200
    id = revoked.split("_")[1]
    tokens.revoke(warehouse, id)
    with pytest.raises(tokens.TokenError, match=id):
        tokens.revoke(warehouse, id)
    time.sleep(tokens.KEPT_SECONDS)
    problem(ask(path, revoked, msisdn=PREPAID), 401)
    with pytest.raises(tokens.TokenError, match="nothing:read"):
        tokens.create(warehouse, "x", ["nothing:read"], "", 1)


def test_tokens_on_the_command_line(
    ask, warehouse: PostgresConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli.settings, "apply", lambda start: None)
    monkeypatch.setattr("softcart_assets.connections.staging", lambda: warehouse)

    def told(*arguments: str) -> str:
        result = CliRunner().invoke(cli.app, ["tokens", *arguments])
        assert result.exit_code == 0, result.output
        return result.stdout

    made = told("create", "Agent 9", "--purpose", "calls", "--scope", READ, "--days", "1").strip()
    assert ask(CALLER, made, msisdn=PREPAID).status_code == 200
    id, secret = made.split("_", 2)[1:]
    [line] = [line for line in told("list").splitlines() if id in line]
    assert line.endswith(f"Agent 9: {READ}, for calls, 600/min")
    assert "valid" in line
    assert secret not in line
    told("revoke", id)
    assert f"{id}  revoked" in told("list")


def test_no_secret_is_kept(warehouse: PostgresConnection) -> None:
    shown = tokens.create(warehouse, "hashed", [READ], "testing", 1)
    rows = query(warehouse, "SELECT t::text, encode(digest, 'escape') FROM serving.tokens t")
    assert not any(shown.split("_", 2)[2] in text for row in rows for text in row)
    names = {each.name: each for each in tokens.every(warehouse)}
    assert names["hashed"].is_valid


def test_every_look_up_is_noted(ask, warehouse: PostgresConnection) -> None:
    def notes() -> list[tuple[Any, ...]]:
        return query(
            warehouse,
            "SELECT token_name, resource, purpose, subjects FROM serving.look_ups ORDER BY id",
        )

    before = len(notes())
    ask(CALLER, msisdn=PREPAID)
    ask(CALLER, msisdn=POSTPAID, max_age_ms=0)
    problem(ask(CALLER, msisdn="4900000000"), 404)
    ask(BALANCE, **{"logicalResource.id": POSTPAID})
    who = "test", "caller", "testing"
    assert notes()[before:] == [
        (*who, [7]),
        (*who, [8]),
        (*who, []),
        ("test", "prepay_balance", "testing", [8]),
    ]
    for statement in (
        "UPDATE serving.look_ups SET purpose = 'none'",
        "DELETE FROM serving.look_ups",
        "TRUNCATE serving.look_ups",
    ):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            query(warehouse, statement)
    assert len(notes()) == before + 4
    with warehouse.connect() as session:
        # There are few rows here.
        session.execute("SET LOCAL enable_seqscan = off")
        plan = session.execute(
            "EXPLAIN SELECT at FROM serving.look_ups WHERE subjects @> ARRAY[42::bigint]"
        ).fetchall()
        assert "look_ups_by_subject" in str(plan)


def test_no_answer_without_its_note(ask, warehouse: PostgresConnection) -> None:
    with _changed(
        warehouse,
        "ALTER TABLE serving.look_ups ADD CONSTRAINT no CHECK (false) NOT VALID",
        "ALTER TABLE serving.look_ups DROP CONSTRAINT no",
    ):
        answer = ask(CALLER, msisdn=PREPAID)
        assert "23514" in problem(answer, 503)["detail"]
        assert "Ada" not in answer.text


def test_a_token_has_a_limit(ask, warehouse: PostgresConnection) -> None:
    few = tokens.create(warehouse, "few", [READ], "testing", 3)
    found = [ask(CALLER, few, msisdn=PREPAID) for _ in range(4)]
    assert [each.status_code for each in found[:3]] == [200] * 3
    problem(found[3], 429)
    assert 1 <= int(found[3].headers["Retry-After"]) <= 60


def test_no_number_in_log_or_error(
    ask, caplog: pytest.LogCaptureFixture, app: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = logging.getLogger("softcart.requests")
    monkeypatch.setattr(log, "propagate", True)
    caplog.set_level(logging.DEBUG)
    wrong = f"{PREPAID}x"
    texts = [
        ask(CALLER, msisdn=wrong).text,
        ask(CALLER, msisdn=PREPAID, max_age_ms=PREPAID).text,
        ask(f"/nothing/{PREPAID}").text,
        ask(CALLER, msisdn="49" + "9" * 10).text,
        ask(CALLER, msisdn=PREPAID).status,
    ]
    monkeypatch.setattr(Asking, "about", lambda *_: 1 // 0)
    monkeypatch.setitem(app.config, "PROPAGATE_EXCEPTIONS", False)
    texts.append(ask(CALLER, msisdn=PREPAID).text)
    assert "ZeroDivisionError" in caplog.text
    assert "POST /v1/caller 200" in caplog.text
    # What addresses have, other logs may keep.
    assert problem(app.test_client().get(CALLER, query_string={"msisdn": PREPAID}), 405)
    for text in (*texts, caplog.text):
        assert PREPAID not in text
        assert "9" * 10 not in text


def test_a_warehouse_that_does_not_answer(token: str, stack: Stack) -> None:
    with database() as empty:
        asking = Asking(empty, DESK)
        try:
            client = create_app(asking, Limits(), b"x" * 32).test_client()
            headers = {"Authorization": f"Bearer {token}"}
            answer = client.post(CALLER, json={"msisdn": PREPAID}, headers=headers)
            assert "softcart load" in problem(answer, 503)["detail"]
        finally:
            asking.close()


@pytest.mark.parametrize("mode", schemathesis.GenerationMode)
def test_it_does_what_its_description_says(
    app: Any, token: str, mode: schemathesis.GenerationMode
) -> None:
    """Requests as the description allows them, and as it does not."""
    described = schemathesis.openapi.from_wsgi("/openapi.json", app)
    seen = set()

    def check(case: schemathesis.Case) -> None:
        # Whatever number is made up is nobody's, so a known one is asked for now and then.
        for sent, name in ((case.body, "msisdn"), (case.query, "logicalResource.id")):
            made = sent.get(name) if isinstance(sent, dict) else None
            if mode is schemathesis.GenerationMode.POSITIVE and made and len(made) % 2:
                sent[name] = PREPAID
        # An answer may be older than a made-up limit, which is no fault of the server.
        answer = case.call_and_validate(
            headers={"Authorization": f"Bearer {token}"}, excluded_checks=[not_a_server_error]
        )
        seen.add(answer.status_code)

    limits = settings(max_examples=20, suppress_health_check=list(HealthCheck), deadline=None)
    for found in described.get_all_operations():
        cases = found.ok().as_strategy(generation_mode=mode)
        limits(given(case=cases)(check))()
    expected = {200, 404} if mode is schemathesis.GenerationMode.POSITIVE else {422}
    assert expected <= seen <= {200, 400, 401, 404, 422, 503}


def test_the_server_as_a_process(warehouse: PostgresConnection, token: str) -> None:
    public = "calls.example.com"
    with call_centre(warehouse, SOFTCART_CALL_CENTRE_HOSTS=public) as (server, address):
        # As a proxy with TLS hands a request on.
        handed = {"Host": public, "X-Forwarded-Proto": "https"}
        login = urllib.request.Request(f"{address}/login", headers=handed)
        with urllib.request.urlopen(login, timeout=10) as page:
            assert "; Secure;" in page.headers["Set-Cookie"]
        for _ in range(5):
            request = urllib.request.Request(
                f"{address}{CALLER}",
                json.dumps({"msisdn": PREPAID}).encode(),
                {"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
            )
            with urllib.request.urlopen(request, timeout=10) as answer:
                assert json.load(answer)["caller"]["subscriber"]["id"] == 7
        server.terminate()
        assert server.wait(15) == 0
        told = server.stdout.read()
    assert "POST /v1/caller 200" in told
    assert PREPAID not in told


def test_charges_of_other_callers_stay_theirs(
    ask,
    at_source: dict[str, MySQLConnection],
    warehouse: PostgresConnection,
    lake_of_callers: str,
) -> None:
    insert(at_source["charging"], "charges", charge(9, "-4.50", NOW), charge(9, "4.00", OLD))
    load(at_source, warehouse, lake_of_callers, "charging")
    used = ask(CALLER, msisdn=POSTPAID).get_json()["caller"]
    assert used["account"]["used"] == "30.50"
    assert used["totals"]["life"]["charged"] == money("30.50")


def test_the_last_calls_are_five_however_often_they_are_recorded(
    ask,
    at_source: dict[str, MySQLConnection],
    warehouse: PostgresConnection,
    lake_of_callers: str,
) -> None:
    """A record that comes late may tell another time. The first one counts, as in the totals."""
    records = [call(7, f"late {n}", NOW + timedelta(seconds=n), n) for n in range(1, 7)]
    late = [each | {"started_at": NOW + timedelta(hours=1)} for each in records]
    insert(at_source["signaling"], "call_records", *records, *records, *late)
    load(at_source, warehouse, lake_of_callers, "signaling")
    caller = ask(CALLER, msisdn=PREPAID).get_json()["caller"]
    assert [each["seconds"] for each in caller["last_calls"]] == [6, 5, 4, 3, 2]
