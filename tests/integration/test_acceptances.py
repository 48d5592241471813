"""A limit holds a line of business. A person sees why, corrects or accepts it once, and goes on."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from decimal import Decimal

import psycopg
import pytest
from psycopg.types.json import Jsonb
from support.databases import database
from support.ingestion import query
from support.published import AUDITS, TABLES
from support.two_lines import TABLES as LEFT_AND_RIGHT
from support.two_lines import change, create
from support.warehouse import create_warehouse
from typer.testing import CliRunner, Result

from softcart_assets import cli
from softcart_assets.audits.model import Volume
from softcart_assets.connections import PostgresConnection
from softcart_assets.lines.model import AddsUp, Limit, Published
from softcart_assets.publishing import slots
from softcart_assets.publishing.publish import AuditFailed, Publication, publish
from softcart_assets.publishing.slots import PublishError
from softcart_assets.publishing.suite import audits_of
from softcart_assets.publishing.tables import PublishedTable, Reference

MEMBERS, LEFT, RIGHT = LEFT_AND_RIGHT
KNOWN = replace(
    LEFT,
    references=(
        Reference(
            "member",
            "dim_member",
            "member",
            "0",
            Limit(Decimal("0.1"), "Guests are few.", "_models.yml: max_unknown_pct of member"),
            "amount > 0",
        ),
    ),
)
FEW = PublishedTable(
    Published("few", max_drop=Limit(Decimal("0.1"), "It only grows.")), "warehouse", ("id",), "few"
)

Softcart = Callable[..., Result]


@pytest.fixture
def staging(stack: object) -> Iterator[PostgresConnection]:
    with database() as connection:
        create(connection)
        yield connection


@pytest.fixture
def production(stack: object) -> Iterator[PostgresConnection]:
    with database() as connection:
        yield connection


@pytest.fixture
def softcart(production: PostgresConnection, monkeypatch: pytest.MonkeyPatch) -> Softcart:
    """The command line, with that production database."""
    monkeypatch.setattr(cli.settings, "apply", lambda start: None)
    monkeypatch.setattr("softcart_assets.connections.production", lambda: production)
    return lambda *arguments: CliRunner().invoke(cli.app, arguments)


def _publish(
    staging: PostgresConnection,
    production: PostgresConnection,
    *tables: PublishedTable,
    told: list[str] | None = None,
) -> Publication:
    log = told if told is not None else []
    return publish(staging, production, tables, audits_of(tables), on_progress=log.append)


def _refused(
    staging: PostgresConnection, production: PostgresConnection, *tables: PublishedTable
) -> str:
    with pytest.raises(AuditFailed) as caught:
        _publish(staging, production, *tables)
    return str(caught.value)


def test_a_corrected_order_can_be_published(stack: object) -> None:
    """rilldata/rill#685: a date far ahead made a table three times as long. Its correction is no
    loss, because a usual version has as few rows.
    """
    months_ahead = """
      INSERT INTO aggregates.agg_sales_by_category_month
        (category_id, category_name, department_name, currency, month, order_count, units_count,
         net_amount, margin_amount)
      SELECT c.category_id, 'x', 'y', 'EUR', m::date, 0, 0, 0, 0
      FROM (SELECT DISTINCT category_id FROM aggregates.agg_sales_by_category_month) c,
        generate_series(timestamp '2027-01-01', timestamp '2029-12-01', interval '1 month') m
    """
    with database() as warehouse, database() as production:
        create_warehouse(warehouse, orders=500)
        first = publish(warehouse, production, TABLES, AUDITS)
        with warehouse.connect() as session:
            session.execute(months_ahead.encode())
        wrong = publish(warehouse, production, TABLES, AUDITS)
        table = "agg_sales_by_category_month"
        assert wrong.row_counts[table] > 1.5 * first.row_counts[table]
        with warehouse.connect() as session:
            session.execute(f"DELETE FROM aggregates.{table} WHERE month > '2026-12-31'".encode())
        right = publish(warehouse, production, TABLES, AUDITS)
        assert right.row_counts == first.row_counts
        assert right.accepted == {}


@pytest.mark.parametrize(
    ("before", "rows", "passed"),
    [
        # A grown table loses rows, also if it has still more than long ago, or as many.
        ([100] * 11 + [1000] * 9, 200, False),
        ([100] * 11 + [1000] * 9, 100, False),
        ([100] * 4 + [1000] * 2, 200, False),
        ([100, 1000], 200, False),
        # The correction of a mistake in one or two versions, and another one that loses too much.
        ([1000] * 5 + [3294], 1040, True),
        ([1000] * 5 + [3294, 3300], 1040, True),
        ([1000] * 5 + [3294, 3300], 880, False),
        ([1000, 3294], 1000, True),
        # After a loss that a person accepted, and after steady growth.
        ([1000] * 5 + [400], 400, True),
        ([1000] * 5 + [400], 300, False),
        ([100, 200, 400, 800, 1600], 1500, True),
        ([100, 200, 400, 800, 1600], 500, False),
    ],
)
def test_a_grown_table_loses_rows_and_a_mistake_does_not(
    production: PostgresConnection,
    before: list[int],
    rows: int,
    passed: bool,
) -> None:
    """The median of many versions was the measure, and a table of 1,000 rows could lose 800."""
    with production.connect() as session:
        slots.set_up(session)
        for number, count in enumerate(before, start=1):
            session.execute(
                "INSERT INTO production_meta.versions VALUES (%s, now(), %s)",
                [number, Jsonb({"few": count})],
            )
        usual = slots.read_usual(session)["few"]
    [volume] = [audit for audit in audits_of([FEW]) if audit.name == "few_volume"]
    assert isinstance(volume, Volume)
    result = volume.compare(rows, before[-1], usual)
    assert result.passed == passed, result.message


def test_a_loss_is_seen_accepted_once_and_no_second_time(
    staging: PostgresConnection, production: PostgresConnection, softcart: Softcart
) -> None:
    """GSA/site-scanning#1920 and #1921: rows were removed on purpose, and the count was below the
    limit again and again.
    """
    change(staging, "CREATE TABLE few AS SELECT i AS id FROM generate_series(1, 100) i")
    _publish(staging, production, FEW)
    change(staging, "DELETE FROM few WHERE id > 40")
    told = _refused(staging, production, FEW)
    # The figure, the limit, why it is there, where to change it, and what else to do.
    assert re.search(
        r"few_volume: 60\.00% of the rows of few are gone: 40 instead of 100\. The limit is"
        r" 10\.00%: It only grows\. It is declared at tests/integration/test_acceptances\.py:\d+\."
        r"\n.*run softcart accept few_volume --reason",
        told,
    )
    listed = softcart("accept").output
    assert "few_volume: 60.00% of the rows of few are gone" in listed
    assert listed.endswith("1 limit(s) hold a line.\n")

    assert softcart("accept", "few_volume").exit_code == 2
    assert softcart("accept", "few_volume", "--reason", " ").exit_code == 2
    done = softcart("accept", "few_volume", "--reason", "Old rows were purged, ticket 7")
    assert done.exit_code == 0, done.output
    log: list[str] = []
    published = _publish(staging, production, FEW, told=log)
    assert published.row_counts == {"few": 40}
    acceptance = published.accepted["few_volume"]
    assert acceptance.reason == "Old rows were purged, ticket 7"
    assert [line for line in log if "Accepted once: Old rows were purged, ticket 7 (" in line]
    [result] = [audit for audit in published.audits if audit.name == "few_volume"]
    assert not result.passed
    kept = "SELECT audit, share, reason, accepted_by, used_by FROM production_meta.acceptances"
    assert query(production, kept) == [
        ("few_volume", Decimal("0.6"), acceptance.reason, acceptance.accepted_by, 2)
    ]
    assert softcart("accept").output == "0 limit(s) hold a line.\n"
    # What was accepted is the measure from now on. It lets no other loss pass.
    assert _publish(staging, production, FEW).accepted == {}
    change(staging, "DELETE FROM few WHERE id > 16")
    assert "few_volume: 60.00%" in _refused(staging, production, FEW)


def test_a_growth_is_seen_accepted_once_and_no_second_time(
    staging: PostgresConnection, production: PostgresConnection, softcart: Softcart
) -> None:
    """rilldata/rill#685: one date far ahead made a table three times as long, and nothing said so.

    The first version has nothing to compare with, and an empty table may get any number of rows.
    """
    declared = replace(
        FEW.declared, may_be_empty=True, max_growth=Limit(Decimal(3), "Weeks are alike.")
    )
    few = replace(FEW, declared=declared)
    change(staging, "CREATE TABLE few (id int)")
    _publish(staging, production, few)
    change(staging, "INSERT INTO few SELECT generate_series(1, 100)")
    _publish(staging, production, few)
    change(staging, "INSERT INTO few SELECT generate_series(101, 317)")
    told = _refused(staging, production, few)
    assert re.search(
        r"few_growth: 317\.00% of the rows that few had: 317 instead of 100\. The limit is"
        r" 300\.00%: Weeks are alike\. It is declared at tests/integration/test_acceptances\.py:",
        told,
    )
    done = softcart("accept", "few_growth", "--reason", "A second shop was bought")
    assert done.exit_code == 0, done.output
    published = _publish(staging, production, few)
    assert published.accepted["few_growth"].reason == "A second shop was bought"
    # It is the measure from now on, and lets no other growth pass.
    change(staging, "INSERT INTO few SELECT generate_series(318, 952)")
    assert "few_growth: 300.32%" in _refused(staging, production, few)
    change(staging, "DELETE FROM few WHERE id > 951")
    assert _publish(staging, production, few).accepted == {}


def test_a_table_that_gets_its_rows_back_has_not_grown(
    staging: PostgresConnection, production: PostgresConnection, softcart: Softcart
) -> None:
    change(staging, "CREATE TABLE few AS SELECT i AS id FROM generate_series(1, 100) i")
    for _ in range(2):
        _publish(staging, production, FEW)
    change(staging, "DELETE FROM few WHERE id > 5")
    _refused(staging, production, FEW)
    softcart("accept", "few_volume", "--reason", "A mistake.")
    _publish(staging, production, FEW)
    change(staging, "INSERT INTO few SELECT generate_series(6, 100)")
    assert _publish(staging, production, FEW).row_counts == {"few": 100}


def test_a_loss_that_grew_after_it_was_accepted_is_not_published(
    staging: PostgresConnection, production: PostgresConnection, softcart: Softcart
) -> None:
    change(staging, "CREATE TABLE few AS SELECT i AS id FROM generate_series(1, 1000) i")
    _publish(staging, production, FEW)
    change(staging, "DELETE FROM few WHERE id > 800")
    _refused(staging, production, FEW)
    softcart("accept", "few_volume", "--reason", "Purged.")
    change(staging, "DELETE FROM few WHERE id > 789")
    assert "few_volume: 21.10%" in _refused(staging, production, FEW)
    change(staging, "INSERT INTO few VALUES (800)")
    # Data change between the two, so a point more is the same deviation.
    assert _publish(staging, production, FEW).row_counts == {"few": 790}


def test_an_acceptance_that_was_not_needed_is_used_up(
    staging: PostgresConnection, production: PostgresConnection, softcart: Softcart
) -> None:
    change(staging, "CREATE TABLE few AS SELECT i AS id FROM generate_series(1, 100) i")
    _publish(staging, production, FEW)
    change(staging, "CREATE TABLE kept AS TABLE few; DELETE FROM few WHERE id > 40")
    _refused(staging, production, FEW)
    softcart("accept", "few_volume", "--reason", "Purged.")
    change(staging, "TRUNCATE few; INSERT INTO few TABLE kept")
    assert _publish(staging, production, FEW).accepted == {}
    change(staging, "DELETE FROM few WHERE id > 40")
    _refused(staging, production, FEW)


def test_a_switch_that_fails_does_not_use_an_acceptance_up(
    staging: PostgresConnection,
    production: PostgresConnection,
    softcart: Softcart,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    change(staging, "CREATE TABLE few AS SELECT i AS id FROM generate_series(1, 100) i")
    _publish(staging, production, FEW)
    change(staging, "DELETE FROM few WHERE id > 40")
    _refused(staging, production, FEW)
    softcart("accept", "few_volume", "--reason", "Purged.")

    def fail(*_: object) -> None:
        raise psycopg.OperationalError("the connection is lost")

    with monkeypatch.context() as patch:
        patch.setattr(slots, "_record_lines", fail)
        with pytest.raises(PublishError, match="the connection is lost"):
            _publish(staging, production, FEW)
    assert "few_volume" in _publish(staging, production, FEW).accepted


def test_unknown_members_are_seen_corrected_or_accepted(
    staging: PostgresConnection, production: PostgresConnection, softcart: Softcart
) -> None:
    tables = (MEMBERS, KNOWN, RIGHT)
    change(staging, "UPDATE fct_left SET member = 0 WHERE id <= 25")
    done = _publish(staging, production, *tables)
    assert not done.lines["left"].passed
    [failed] = done.lines["left"].failed
    assert failed.message == (
        "fct_left_member_known: 25.00% of the rows of fct_left with amount > 0 have the unknown "
        "member as member. The limit is 10.00%: Guests are few. It is declared at _models.yml: "
        "max_unknown_pct of member."
    )
    # Accepted, and held for another reason: the acceptance stays for the publication that needs it.
    softcart("accept", "fct_left_member_known", "--reason", "A fair without a till.")
    change(staging, "INSERT INTO fct_left SELECT * FROM fct_left WHERE id = 1")
    assert not _publish(staging, production, *tables).lines["left"].passed
    change(staging, "DELETE FROM fct_left WHERE id = 1")
    done = _publish(staging, production, *tables)
    assert done.lines["left"].passed
    assert done.accepted["fct_left_member_known"].reason == "A fair without a till."
    # The next time it is corrected.
    assert not _publish(staging, production, *tables).lines["left"].passed
    change(staging, "UPDATE fct_left SET member = 1")
    assert _publish(staging, production, *tables).lines["left"].passed
    # Rows that the source gives no member are not counted.
    change(staging, "UPDATE fct_left SET member = 0, amount = 0 WHERE id <= 90")
    assert _publish(staging, production, *tables).lines["left"].passed


@pytest.mark.parametrize("where", ["amuont > 0", "amount >", "amount > 'none'", "amount / 0 > 1"])
def test_a_typing_error_in_a_condition_holds_its_own_line(
    staging: PostgresConnection, production: PostgresConnection, where: str
) -> None:
    """The publication of all lines stopped, each time."""
    known = replace(KNOWN, references=(replace(KNOWN.references[0], where=where),))
    for _ in range(2):
        done = _publish(staging, production, MEMBERS, known, RIGHT)
        assert {line: each.passed for line, each in done.lines.items()} == {
            "conformed": True,
            "left": False,
            "right": True,
        }
        [failed] = done.lines["left"].failed
        assert failed.message.startswith(
            "fct_left_member_known: {'note': 'The query of the audit is refused: "
        ) or failed.message.startswith(
            "fct_left_member_known: {'note': \"The query of the audit is refused: "
        )
        assert "It is declared at _models.yml: max_unknown_pct of member." in failed.message


@pytest.mark.parametrize("where", ["amuont > 0", "amount >", "amount > 'none'"])
def test_a_typing_error_in_a_sum_holds_the_line_that_declares_it(
    staging: PostgresConnection, production: PostgresConnection, where: str
) -> None:
    _publish(staging, production, *LEFT_AND_RIGHT)
    sums = AddsUp("amount", "fct_left", "amount", where)
    right = replace(RIGHT, declared=replace(RIGHT.declared, adds_up=(sums,)))
    done = _publish(staging, production, MEMBERS, LEFT, right)
    assert {line: each.version for line, each in done.lines.items()} == {
        "conformed": 2,
        "left": 2,
        "right": 1,
    }


def test_an_empty_table_is_seen_filled_or_accepted_or_declared(
    staging: PostgresConnection, production: PostgresConnection, softcart: Softcart
) -> None:
    change(staging, "CREATE TABLE few (id int)")
    told = _refused(staging, production, FEW)
    assert (
        "few_not_empty: 100.00% of the expected rows of few are missing: it is empty. The limit is "
        "0.00%: Only a table that is declared as may_be_empty may have no rows." in told
    )
    assert f"It is declared at {FEW.declared.declared_at}." in told
    softcart("accept", "few_not_empty", "--reason", "The shop opens on Monday.")
    assert _publish(staging, production, FEW).row_counts == {"few": 0}
    assert "few_not_empty" in _refused(staging, production, FEW)
    allowed = replace(FEW, declared=replace(FEW.declared, may_be_empty=True))
    assert _publish(staging, production, allowed).row_counts == {"few": 0}
    change(staging, "INSERT INTO few VALUES (1)")
    assert _publish(staging, production, FEW).row_counts == {"few": 1}


def test_what_is_no_limit_cannot_be_accepted(
    staging: PostgresConnection, production: PostgresConnection, softcart: Softcart
) -> None:
    change(staging, "CREATE TABLE few AS SELECT 1 AS id FROM generate_series(1, 2)")
    assert "softcart accept" not in _refused(staging, production, FEW)
    refused = softcart("accept", "few_key_unique", "--reason", "Twice is fine.")
    assert refused.exit_code == 1
    assert "'few_key_unique' is no limit that held a line" in refused.output
    assert "Correct the tables in staging instead" in refused.output
