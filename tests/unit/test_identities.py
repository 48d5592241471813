"""Which customers are one person: what is believed, what is refused, and ids that stay."""

from __future__ import annotations

import json
import random
import uuid
from collections import Counter
from datetime import UTC, date, datetime
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from softcart_assets.identities.compare import MODEL, SCHEMA, compare
from softcart_assets.identities.people import Customer, Decision, Pair, People, alone, people, prior
from softcart_assets.identities.train import settings

ANNA: dict[str, Any] = {
    "full_name": "Anna Müller",
    "email": "anna.mueller@mail.example",
    "phone": "+49 171 2345678",
    "birth_date": date(1980, 5, 17),
    "city": "Köln",
    "country_code": "DE",
    "postal_code": "50667",
}
STRANGER = {
    "full_name": "Jean Dupont",
    "email": "jean@mail.example",
    "phone": "+33 171 9999999",
    "birth_date": date(1955, 1, 2),
    "city": "Lyon",
    "country_code": "FR",
    "postal_code": "69001",
}


def decide(births: dict[Customer, date | None], *given: Any, **named: Any) -> People:
    """Who is who among all customers."""
    largest = max(Counter(each.line for each in births).values())
    return people(births, *given, prior=prior(largest), **named)


def records(*rows: tuple[str, int, dict[str, Any]], changed: bool = True) -> pa.Table:
    """Customers: line, id, attributes."""
    return pa.Table.from_pylist(
        [
            {"is_changed": changed, **row, "line": line, "customer_id": number}
            for line, number, row in rows
        ],
        schema=SCHEMA,
    )


def together(*rows: tuple[str, int, dict[str, Any]], **given: Any) -> set[frozenset[Customer]]:
    """The people who have several customers."""
    found = decide(
        {Customer(line, number): row["birth_date"] for line, number, row in rows},
        compare(records(*rows)),
        **given,
    )
    groups: dict[uuid.UUID, set[Customer]] = {}
    for customer, person in found.person_of.items():
        groups.setdefault(person, set()).add(customer)
    return {frozenset(each) for each in groups.values() if len(each) > 1}


ONE = frozenset({Customer("a", 1), Customer("b", 7)})


@pytest.mark.parametrize(
    "other",
    [
        {"email": "ANNA.MUELLER@mail.example ", "phone": None, "full_name": "Anna Schmidt"},
        {"email": None, "phone": "0049171-2345678", "full_name": "MÜLLER, Anna"},
        {"email": None, "phone": "(+49) 0171/2345678 ext. 3", "full_name": "A. Müller"},
        {"email": "x@y.example", "phone": None, "full_name": "Muller, Anna"},
        {"email": None, "phone": "0171 2345678", "birth_date": None},
    ],
    ids=["e-mail", "phone", "phone with an extension", "likeness", "no date of birth"],
)
def test_one_person_spelled_in_two_ways_is_one(other: dict[str, Any]) -> None:
    assert together(("a", 1, ANNA), ("b", 7, ANNA | other), ("b", 8, STRANGER)) == {ONE}


@pytest.mark.parametrize(
    "other",
    [
        {"birth_date": date(2010, 5, 17), "full_name": "Lena Müller"},
        {"birth_date": date(2010, 5, 17)},
        {"birth_date": None, "full_name": "Eva Müller"},
        {"birth_date": None, "full_name": "Müller"},
        {"full_name": "Peter Schmidt", "birth_date": None, "phone": None},
        {"email": None, "phone": None, "birth_date": None, "full_name": "Karl Müller"},
        {"email": "n/a", "phone": "unknown", "full_name": "Eva Lang", "birth_date": None},
        {"email": "p@mail.example", "full_name": "Peter Schmidt", "birth_date": None},
        {"email": "p@mail.example", "full_name": "Anna Schmidt", "birth_date": date(1990, 1, 1)},
    ],
    ids=[
        "child",
        "same name, other date",
        "spouse",
        "family name",
        "address alone",
        "same house",
        "placeholders",
        "number of a stranger",
        "number of somebody with the same first name",
    ],
)
def test_a_family_stays_several_people(other: dict[str, Any]) -> None:
    assert together(("a", 1, ANNA), ("b", 7, ANNA | other)) == set()


def test_an_address_that_several_customers_of_a_line_have_identifies_nobody() -> None:
    office = {"email": "office@mail.example", "phone": None, "birth_date": None}
    rows = [
        ("a", 1, ANNA | office),
        ("a", 2, STRANGER | office),
        ("b", 7, ANNA | office | {"city": None, "postal_code": None}),
    ]
    assert {pair.rank for pair in compare(records(*rows))} <= {3}


def test_placeholders_are_not_compared() -> None:
    unknown = {"email": "n/a", "phone": "unknown", "birth_date": None, "postal_code": None}
    assert compare(records(("a", 1, ANNA | unknown), ("b", 7, STRANGER | unknown))) == []


def test_only_pairs_with_a_changed_customer_are_compared() -> None:
    still = records(("a", 1, ANNA), ("b", 7, ANNA), changed=False)
    assert compare(still) == []
    moved = records(("b", 8, ANNA | {"email": None}))
    pairs = compare(pa.concat_tables([still, moved]))
    assert {(pair.left, pair.right) for pair in pairs} == {(Customer("a", 1), Customer("b", 8))}


def test_the_weight_of_a_pair_does_not_depend_on_other_customers() -> None:
    alone = compare(records(("a", 1, ANNA), ("b", 7, ANNA)))
    rows = [("b", 100 + n, STRANGER | {"full_name": f"Anna {n}"}) for n in range(50)]
    assert alone[0] in compare(records(("a", 1, ANNA), ("b", 7, ANNA), *rows))


def test_a_line_without_another_has_no_pairs() -> None:
    assert compare(records(("a", 1, ANNA), ("a", 2, ANNA))) == []
    assert compare(records()) == []


def test_the_parameters_belong_to_the_model() -> None:
    """Whoever changes what is compared trains again."""
    kept = json.loads(MODEL.read_text())
    declared = settings("link_only")
    rules = "blocking_rules_to_generate_predictions"
    assert [each["blocking_rule"] for each in kept[rules]] == [
        each["blocking_rule"] for each in declared[rules]
    ]
    for one, two in zip(kept["comparisons"], declared["comparisons"], strict=True):
        assert [level["sql_condition"] for level in one["comparison_levels"]] == [
            level["sql_condition"] for level in two["comparison_levels"]
        ]
        assert all(
            {"m_probability", "u_probability"} <= level.keys()
            for level in one["comparison_levels"]
            if not level.get("is_null_level")
        )


A1, A2, B1, B2, C1 = (
    Customer(*each) for each in [("a", 1), ("a", 2), ("b", 1), ("b", 2), ("c", 1)]
)
SURE = 99.0


def group(found: People, customer: Customer) -> set[Customer]:
    """The customers who are the same person as this one."""
    return {each for each, who in found.person_of.items() if who == found.person_of[customer]}


def test_a_chain_never_joins_two_dates_of_birth() -> None:
    """Each pair alone is fine, as the customer in the middle has no date."""
    births = {A1: date(1950, 1, 1), B1: None, C1: date(1980, 1, 1)}
    found = decide(births, [Pair(A1, B1, 1, SURE), Pair(B1, C1, 2, SURE)])
    assert group(found, B1) == {A1, B1}
    assert [why for _, why in found.refused] == ["different dates of birth"]


def test_a_person_has_one_customer_of_each_line() -> None:
    found = decide(dict.fromkeys([A1, A2, B1]), [Pair(A1, B1, 1, SURE), Pair(A2, B1, 2, SURE)])
    assert group(found, B1) == {A1, B1}
    assert [why for _, why in found.refused] == ["two customers of one line"]


def test_twins_are_refused_both() -> None:
    pairs = [Pair(A1, B1, 3, 40.0), Pair(A1, B2, 3, 39.0)]
    found = decide(dict.fromkeys([A1, B1, B2]), pairs)
    assert len(set(found.person_of.values())) == 3
    assert len(found.refused) == 2


def test_more_customers_take_more_evidence() -> None:
    pair, few = Pair(A1, B1, 3, 15.0), dict.fromkeys([A1, B1])
    assert group(decide(few, [pair]), A1) == {A1, B1}
    many = few | {Customer("a", n): None for n in range(2, 1_000)}
    assert group(decide(many, [pair]), A1) == {A1}


def test_believed_pairs_say_how_many_of_them_are_right() -> None:
    """Evidence of 3 bits between two customers: 8 to 1."""
    found = decide(dict.fromkeys([A1, B1]), [Pair(A1, B1, 1, 3.0)])
    assert [pair.weight for pair in found.believed] == [3.0]
    assert found.expected_precision == pytest.approx(8 / 9)
    # Nobody knows which of two it is, but for the rule.
    assert decide({A1: None, A2: None, B1: None}, [Pair(A1, B1, 1, 1.0)]).expected_precision == 0.5


def test_every_pair_has_its_weight() -> None:
    (pair,) = compare(records(("a", 1, ANNA), ("b", 7, ANNA)))
    assert (pair.rank, pair.weight > 50) == (1, True)


def test_a_decision_undoes_a_join_and_the_id_stays_with_one_part() -> None:
    births, pairs = dict.fromkeys([A1, B1, C1]), [Pair(A1, B1, 1, SURE), Pair(A1, C1, 1, SURE)]
    before = decide(births, pairs)
    after = decide(births, pairs, [Decision(A1, B1, is_same=False)], before.person_of)
    assert group(after, A1) == {A1, C1}
    assert after.person_of[A1] == before.person_of[A1]
    assert after.split == [(before.person_of[B1], after.person_of[B1])]
    # It is taken back.
    again = decide(births, pairs, [], after.person_of)
    assert set(again.person_of.values()) == {before.person_of[A1]}
    assert again.joined == [(before.person_of[A1], after.person_of[B1])]


def test_of_two_people_who_are_one_the_older_id_stays() -> None:
    births: dict[Customer, date | None] = dict.fromkeys([A1, B1, C1])
    younger, older = uuid.uuid4(), uuid.uuid4()
    since = {younger: datetime(2026, 2, 1, tzinfo=UTC), older: datetime(2026, 1, 1, tzinfo=UTC)}
    known = {A1: younger, B1: younger, C1: older}
    pairs = [Pair(A1, B1, 1, SURE), Pair(B1, C1, 1, SURE)]
    found = decide(births, pairs, known=known, since=since)
    assert set(found.person_of.values()) == {older}
    assert found.joined == [(older, younger)]


def test_who_lost_the_id_that_a_customer_named_gets_another_one() -> None:
    """The two others keep the id of the customer who leaves them."""
    births: dict[Customer, date | None] = dict.fromkeys([A1, B1, C1])
    before = decide(births, [Pair(A1, B1, 1, SURE), Pair(B1, C1, 1, SURE)])
    assert before.person_of[A1] == alone(A1)
    after = decide(births, [Pair(B1, C1, 1, SURE)], known=before.person_of)
    assert after.person_of[B1] == after.person_of[C1] == alone(A1)
    assert after.person_of[A1] not in before.person_of.values()
    # The same if nothing is decided about the others.
    apart = decide({A1: None}, [], taken=[alone(A1)])
    assert apart.person_of[A1] != alone(A1)


def test_a_decision_may_overrule_a_date_of_birth() -> None:
    births = {A1: date(1950, 1, 1), B1: date(1980, 1, 1)}
    found = decide(births, [], [Decision(A1, B1, is_same=True)])
    assert group(found, A1) == {A1, B1}


def test_a_decision_about_an_erased_customer_does_nothing() -> None:
    found = decide({A1: None}, [], [Decision(A1, B1, is_same=True), Decision(B1, A1, False)])
    assert set(found.person_of) == {A1}


CUSTOMERS = [Customer(line, number) for line in "abc" for number in range(6)]
PAIRS = st.lists(
    st.builds(
        Pair,
        st.sampled_from(CUSTOMERS),
        st.sampled_from(CUSTOMERS),
        st.integers(1, 3),
        st.integers(0, 40).map(float),
    ).filter(lambda pair: pair.left.line < pair.right.line),
    max_size=25,
    unique_by=lambda pair: (pair.left, pair.right),
)
BIRTHS = st.fixed_dictionaries(
    {each: st.sampled_from([None, date(1950, 1, 1), date(1980, 1, 1)]) for each in CUSTOMERS}
)


@given(BIRTHS, PAIRS, PAIRS, st.randoms(use_true_random=False))
def test_people_are_whole_and_their_ids_stay(
    births: dict[Customer, date | None], first: list[Pair], then: list[Pair], dice: random.Random
) -> None:
    before = decide(births, first)
    shuffled = dice.sample(first, len(first))
    assert decide(dict(dice.sample(list(births.items()), len(births))), shuffled).person_of == (
        before.person_of
    )
    # Nothing changes if nothing changed.
    same = decide(births, first, known=before.person_of)
    assert (same.person_of, same.joined, same.split) == (before.person_of, [], [])
    after = decide(births, then, known=before.person_of)
    for found in (before, after):
        assert found.person_of.keys() == births.keys()
        for who in set(found.person_of.values()):
            members = [each for each, person in found.person_of.items() if person == who]
            assert len({each.line for each in members}) == len(members)
            assert len({births[each] for each in members} - {None}) <= 1
    # Each change of an id is told, and an id never moves to people of whom none had it.
    told = set(after.split) | {(was, now) for now, was in after.joined}
    for customer, was in before.person_of.items():
        assert after.person_of[customer] == was or (was, after.person_of[customer]) in told
    for who in set(after.person_of.values()) & set(before.person_of.values()):
        assert any(
            before.person_of[each] == who for each, now in after.person_of.items() if now == who
        )
