"""The people behind the customers of three lines, in a staging warehouse: what a run compares, what
it writes, and what it refuses.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import date
from typing import Any

import dagster as dg
import pytest
from support.databases import name_server
from support.ingestion import query

from softcart_assets.assembly import LINES, Lines
from softcart_assets.components.identities import people
from softcart_assets.components.keys import people_key
from softcart_assets.connections import PostgresConnection
from softcart_assets.identities import build as module
from softcart_assets.identities.build import PROMISES, Built, build
from softcart_assets.identities.people import Customer, alone
from softcart_assets.lines.model import Line
from softcart_assets.resources import PostgresResource

NAMES = ("cafe", "gym", "news")
ANNA = {
    "full_name": "Anna Müller",
    "email": "anna@mail.example",
    "phone": "+49 171 2345678",
    "birth_date": date(1980, 5, 17),
    "city": "Köln",
    "country_code": "DE",
    "postal_code": "50667",
}
ZOE = {
    "full_name": "Zoë Brew",
    "email": "zoe@mail.example",
    "phone": "+371 2987 6543",
    "birth_date": date(1991, 2, 3),
    "city": "Riga",
    "country_code": "LV",
    "postal_code": "1010",
}


@pytest.fixture
def staging(postgres: PostgresConnection, monkeypatch: pytest.MonkeyPatch) -> PostgresConnection:
    """A warehouse with the customers of three lines, as dbt's views give them."""
    name_server(monkeypatch, postgres)
    with postgres.connect() as session:
        session.execute("CREATE SCHEMA warehouse")
        for line in NAMES:
            session.execute(
                f"CREATE TABLE warehouse.int_{line}__customer_versions (customer_id bigint,"
                " full_name text, email text, phone text, birth_date date, city text,"
                " country_code text, postal_code text, is_current boolean DEFAULT true,"
                " is_deleted boolean DEFAULT false)"
            )
    put(postgres, "cafe", 1, ANNA)
    put(postgres, "cafe", 2, ZOE)
    put(postgres, "gym", 7, ANNA | {"full_name": "MÜLLER, Anna", "email": None})
    return postgres


def put(staging: PostgresConnection, line: str, number: int, values: Mapping[str, Any]) -> None:
    """Give a customer this version, in place of any other."""
    row = {**values, "customer_id": number}
    places = ", ".join(f"%({name})s" for name in row)
    table = f"warehouse.int_{line}__customer_versions"
    with staging.connect() as session:
        session.execute(f"UPDATE {table} SET is_current = false WHERE customer_id = {number}")
        session.execute(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({places})", row)


def do(staging: PostgresConnection, statement: str) -> None:
    with staging.connect() as session:
        session.execute(statement)


def who(staging: PostgresConnection) -> dict[tuple[str, int], uuid.UUID]:
    rows = query(staging, "SELECT line_of_business, customer_id, person_id FROM identities.people")
    return {(line, number): person for line, number, person in rows}


def found(staging: PostgresConnection) -> Built:
    built = build(staging, NAMES)
    assert built.broken == {}
    return built


def test_people_are_found_and_a_run_compares_what_changed_only(
    staging: PostgresConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = found(staging)
    assert (first.customers, first.people, first.changed) == (3, 2, 3)
    anna, zoe = alone(Customer("cafe", 1)), alone(Customer("cafe", 2))
    assert who(staging) == {("cafe", 1): anna, ("gym", 7): anna, ("cafe", 2): zoe}
    assert query(
        staging,
        "SELECT left_line, left_id, right_line, right_id, reason, verdict, probability_pct > 99"
        " FROM identities.pairs",
    ) == [("cafe", 1, "gym", 7, "phone", "believed", True)]

    again = found(staging)
    assert (again.changed, again.content) == (0, first.content)

    # Zoë has nothing in common with whom it is about. Her keys are not even asked for.
    put(staging, "news", 5, ANNA | {"phone": None})
    later = found(staging)
    assert (later.changed, later.people, later.customers) == (2, 2, 4)
    assert who(staging)[("news", 5)] == anna
    assert later.content != first.content

    # Another model compares everybody. Nobody gets another id for that.
    before = who(staging)
    monkeypatch.setattr(module, "code_version", lambda: "another")
    assert found(staging).changed == 4
    assert who(staging) == before


def test_what_is_done_in_parts_is_what_is_done_at_once(staging: PostgresConnection) -> None:
    found(staging)
    family = {"email": "home@mail.example", "phone": None}
    put(staging, "gym", 8, ZOE | family)
    put(staging, "news", 3, ZOE | {"email": "other@mail.example", "phone": None})
    found(staging)
    put(staging, "cafe", 2, ZOE | family)
    put(staging, "gym", 9, ANNA | family | {"birth_date": date(2010, 1, 1)})
    found(staging)
    # The number belongs to somebody else now.
    put(staging, "gym", 7, ANNA | {"phone": None, "email": None, "birth_date": date(1970, 1, 1)})
    put(staging, "news", 4, ZOE | {"full_name": "Karl Lang", "birth_date": None} | family)
    found(staging)
    in_parts = groups(staging)
    pairs = query(staging, "SELECT * FROM identities.pairs ORDER BY 1, 2, 3, 4")
    do(staging, "DROP SCHEMA identities CASCADE")
    found(staging)
    assert groups(staging) == in_parts
    assert query(staging, "SELECT * FROM identities.pairs ORDER BY 1, 2, 3, 4") == pairs
    assert frozenset({("cafe", 2), ("gym", 8), ("news", 3)}) in in_parts


def groups(staging: PostgresConnection) -> set[frozenset[tuple[str, int]]]:
    people_found: dict[uuid.UUID, set[tuple[str, int]]] = {}
    for customer, person in who(staging).items():
        people_found.setdefault(person, set()).add(customer)
    return {frozenset(each) for each in people_found.values()}


def test_ids_stay_when_people_join_part_and_leave(staging: PostgresConnection) -> None:
    apart = ANNA | {"email": None, "phone": None, "birth_date": None, "full_name": "A. M."}
    put(staging, "gym", 7, apart)
    found(staging)
    before = who(staging)
    assert before["gym", 7] != before["cafe", 1]
    put(staging, "news", 5, ANNA)
    found(staging)
    # The news know her by one id and the gym by another: the older one stays.
    do(staging, "UPDATE identities.people SET person_since = '2020-01-01' WHERE customer_id = 7")
    put(staging, "gym", 7, ANNA)
    joined = found(staging)
    assert set(who(staging).values()) == {before["gym", 7], before["cafe", 2]}
    assert joined.joined == 1
    assert query(staging, "SELECT kind, was, now FROM identities.changes") == [
        ("joined", before["cafe", 1], before["gym", 7])
    ]
    # A customer who left keeps the last answer, and the others stay together.
    do(staging, "UPDATE warehouse.int_gym__customer_versions SET is_deleted = true")
    left = found(staging)
    assert (left.customers, left.people) == (3, 2)
    assert who(staging)["gym", 7] == who(staging)["cafe", 1] == before["gym", 7]
    # She moves away and gets another number at one of them, and at the other one her own name back.
    put(staging, "news", 5, ZOE | {"email": "n@mail.example", "phone": None, "birth_date": None})
    put(staging, "news", 5, apart)
    assert found(staging).split == 1
    assert who(staging)["news", 5] != who(staging)["cafe", 1]


def test_a_decision_has_the_last_word(staging: PostgresConnection) -> None:
    found(staging)
    do(
        staging,
        "INSERT INTO identities.decisions (left_line, left_id, right_line, right_id, is_same,"
        " because) VALUES ('cafe', 1, 'gym', 7, false, 'Two sisters.'),"
        " ('cafe', 2, 'gym', 7, true, 'She said so.')",
    )
    assert found(staging).split == 1
    assert groups(staging) == {
        frozenset({("cafe", 1)}),
        frozenset({("cafe", 2), ("gym", 7)}),
    }
    assert found(staging).changed == 0
    # It is changed. Then it is taken back, though both were born on other days.
    do(staging, "UPDATE identities.decisions SET is_same = NOT is_same")
    found(staging)
    assert groups(staging) == {frozenset({("cafe", 1), ("gym", 7)}), frozenset({("cafe", 2)})}
    do(staging, "UPDATE identities.decisions SET is_same = NOT is_same")
    found(staging)
    do(staging, "DELETE FROM identities.decisions")
    found(staging)
    assert groups(staging) == {frozenset({("cafe", 1), ("gym", 7)}), frozenset({("cafe", 2)})}
    assert found(staging).changed == 0


_GIVE = "UPDATE identities.people SET person_id = '{}' WHERE line_of_business = '{}'"
BREACHES = {
    "complete": ("DELETE FROM identities.people WHERE customer_id = 2", ["complete"]),
    "one_birth_date": (_GIVE.format(alone(Customer("cafe", 2)), "gym"), ["one_birth_date"]),
    # They were not born on one day either.
    "one_customer_per_line": (
        _GIVE.format(alone(Customer("cafe", 1)), "cafe"),
        ["one_customer_per_line", "one_birth_date"],
    ),
}


def test_each_promise_is_checked_and_a_breach_blocks(staging: PostgresConnection) -> None:
    assert BREACHES.keys() == PROMISES.keys()
    lines = Lines([LINES.conformed, *(Line(name, name, "team:x") for name in NAMES)])
    manifest = {
        "nodes": {
            name: {"name": f"int_{name}__customer_versions", "resource_type": "model"}
            for name in ("cafe", "gym")
        }
    }
    asset = people(lines, manifest)
    assert asset.asset_deps[people_key()] == {
        dg.AssetKey(["warehouse", f"int_{name}__customer_versions"]) for name in ("cafe", "gym")
    }
    sound = dict.fromkeys(("matched", *PROMISES), True)
    assert run(asset) == (True, sound)
    for statement, broken in BREACHES.values():
        do(staging, statement)
        assert run(asset) == (False, sound | dict.fromkeys(broken, False))
        do(staging, "DELETE FROM identities.people; DELETE FROM identities.records")
        assert run(asset) == (True, sound)

    # Without the customers nothing can be compared. Then people stay, and nothing is held.
    before = who(staging)
    do(staging, "DROP TABLE warehouse.int_gym__customer_versions")
    # Nothing was judged, so nothing is told to be sound.
    assert run(asset) == (True, dict.fromkeys(sound, False))
    assert who(staging) == before


def run(asset: dg.AssetsDefinition) -> tuple[bool, dict[str, bool]]:
    """Materialise people. Returns whether what follows may go on, and the checks."""

    @dg.asset(deps=[people_key()])
    def dim_customer() -> None:
        """What reads people."""

    resources = {"staging": PostgresResource(prefix="SOFTCART_STAGING")}
    done = dg.materialize([asset, dim_customer], resources=resources, raise_on_error=False)
    built = {event.asset_key for event in done.get_asset_materialization_events()}
    return dim_customer.key in built, {
        each.check_name: each.passed for each in done.get_asset_check_evaluations()
    }
