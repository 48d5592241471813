"""Every personal column has a route: it is known how a person is found, and where the values go."""

from __future__ import annotations

from dataclasses import replace

import pytest

from softcart_assets.assembly import LINES, Lines, assemble
from softcart_assets.lines.model import NONE, PII, SENSITIVE, Column, Line, Published, Source, Table
from softcart_assets.privacy.handles import Handles, personal
from softcart_assets.privacy.made import Lineage, Tracing
from softcart_assets.privacy.routes import problems, routes
from softcart_assets.serving import desk

GUESTS = Table(
    "guests",
    "One row per guest.",
    ("id",),
    "snapshot",
    (Column("id", NONE), Column("mail", PII), Column("valid_from", PII)),
    history=True,
    person={"id": "customer", "mail": "email"},
)
STAYS = Table(
    "stays",
    "One row per stay.",
    ("id",),
    "snapshot",
    (Column("id", NONE), Column("guest", PII), Column("diet", SENSITIVE)),
    person={"guest": "inn.guests.id"},
)
BILLS = Table(
    "bills",
    "One row per bill.",
    ("id",),
    "snapshot",
    (Column("id", NONE), Column("stay", NONE), Column("card", PII)),
    person={"stay": "inn.stays.id"},
)
INN = Line(
    "inn",
    "An inn.",
    "team:inn",
    (Source("inn", "mysql", "The desk.", (GUESTS, STAYS, BILLS)),),
    published=(Published("fct_counted", not_pii={"diet": "It is a group of many."}),),
)
BATHERS = Table(
    "bathers",
    "One row per bather.",
    ("id",),
    "snapshot",
    (Column("id", NONE), Column("ill", SENSITIVE)),
    person={"id": "customer"},
)
SPA = Line("spa", "A spa.", "team:spa", (Source("spa", "mysql", "The baths.", (BATHERS,)),))
LINEAGE: Lineage = {
    ("staging", "stg_stays"): {
        "stay_id": [("raw_inn", "stays", "id")],
        "guest_id": [("raw_inn", "stays", "guest")],
        "diet": [("raw_inn", "stays", "diet")],
    },
    ("warehouse", "fct_stays"): {
        "stay_key": [("staging", "stg_stays", "stay_id")],
        "guest_id": [("staging", "stg_stays", "guest_id")],
        "guest_count": [("staging", "stg_stays", "guest_id")],
        "diet": [("staging", "stg_stays", "diet")],
    },
}


def inn(**changes: object) -> Lines:
    """The inn, with the table of stays declared otherwise."""
    stays = replace(STAYS, **changes)  # type: ignore[arg-type]
    return assemble(
        [replace(INN, sources=(replace(INN.sources[0], tables=(GUESTS, stays, BILLS)),))]
    )


def test_every_personal_column_of_the_project_has_a_route() -> None:
    assert list(problems(LINES, {})) == []
    found = {route.column: route for route in routes(LINES, {})}
    declared = [
        f"{source.name}.{table.name}.{column}"
        for source, table in LINES.tables()
        for column in personal(table)
    ]
    assert list(found) == declared
    assert [name for name, route in found.items() if not route.way] == []


def test_a_personal_column_without_a_route_is_found() -> None:
    alone = replace(BILLS, person={})
    table = replace(INN.sources[0], tables=(GUESTS, STAYS, alone))
    (told,) = problems(assemble([replace(INN, sources=(table,))]), {})
    assert "table inn.bills has the personal columns card, and does not say how" in told


def test_every_source_with_personal_columns_says_what_they_are_for() -> None:
    silent = [
        source.name
        for source in LINES.sources
        if any(map(personal, source.tables)) and not source.purpose
    ]
    assert silent == []


def test_what_a_desk_notes_about_people_leads_to_them() -> None:
    subject = desk.find([line.name for line in LINES]).subject
    handles = Handles(LINES)
    known = [handles.own(source.name, table) for source, table in LINES.tables()]
    assert subject in [handle for each in known for handle in each.values()]


def test_a_way_leads_to_the_customer() -> None:
    lines = inn()
    handles = Handles(lines)
    assert handles.of("inn", STAYS) == {"guest": "customer inn"}
    assert handles.own("inn", STAYS) == {"id": "inn.stays.id"}
    assert handles.of("inn", BILLS) == {"stay": "inn.stays.id"}
    (card,) = [route for route in routes(lines, {}) if route.column == "inn.bills.card"]
    assert card.way == ("stay = inn.stays.id, guest = inn.guests.id, id, the customer of inn")


def test_the_lineage_tells_where_values_go_and_whose_a_row_is() -> None:
    lines = inn()
    made = Tracing(lines, LINEAGE).made()["warehouse", "fct_stays"]
    # A number of guests is nobody's key, and a hash is no value.
    assert made.rows == {"guest_id": {"customer inn"}}
    assert made.keys == {}
    assert set(made.personal) == {"guest_id", "guest_count", "diet"}
    views = {("staging", "stg_stays")}
    (diet,) = [each for each in routes(lines, LINEAGE, views) if each.column == "inn.stays.diet"]
    assert diet.stores == (
        *("inn", "raw_inn.stays", "ingestion.quarantine", "changes/inn/stays"),
        *("lake_inn.stays", "warehouse.fct_stays"),
    )


def test_the_key_of_a_row_is_a_way_where_no_better_one_is() -> None:
    lineage = {
        **LINEAGE,
        ("warehouse", "fct_stays"): {"stay_id": LINEAGE["staging", "stg_stays"]["stay_id"]},
    }
    made = Tracing(inn(), lineage).made()["warehouse", "fct_stays"]
    assert made.found_by == {"stay_id": {"inn.stays.id"}}


@pytest.mark.parametrize(
    ("column", "is_found"),
    [("diet", True), ("guest_count", True), ("valid_from", False), ("guest_key", False)],
)
def test_a_made_table_without_a_way_is_found(column: str, is_found: bool) -> None:
    origin = (
        ("raw_inn", "guests", "mail") if column == "valid_from" else ("raw_inn", "stays", "diet")
    )
    told = list(problems(inn(), {("warehouse", "fct_new"): {column: [origin]}}))
    assert bool(told) == is_found
    if told:
        assert told[0].startswith(f"warehouse.fct_new: {column} have values of inn.stays.diet")


def test_a_view_keeps_no_rows() -> None:
    lineage = {("warehouse", "int_diets"): {"diet": [("raw_inn", "stays", "diet")]}}
    assert list(problems(inn(), lineage))
    assert list(problems(inn(), lineage, [("warehouse", "int_diets")])) == []


def test_what_is_declared_not_to_be_personal_needs_no_way() -> None:
    lineage = {
        ("production", "fct_counted"): {"diet": [("raw_inn", "stays", "diet")]},
        ("aggregates", "agg_more"): {"diet": [("production", "fct_counted", "diet")]},
    }
    assert list(problems(inn(), lineage)) == []


def test_figures_for_people_need_no_way() -> None:
    lineage = {("extracts", "ext_diets"): {"diets": [("raw_inn", "stays", "diet")]}}
    assert list(problems(inn(), lineage)) == []


def test_customers_of_several_lines_without_the_line_are_found() -> None:
    guest, bather = ("raw_inn", "guests", "id"), ("raw_spa", "bathers", "id")
    lines = assemble([INN, SPA])
    # Guest 7 and bather 7 are two people. That no column is personal makes no difference.
    (told,) = problems(lines, {("aggregates", "agg_visits"): {"customer_id": [guest, bather]}})
    assert told == (
        "aggregates.agg_visits: customer_id has customers of several lines, and no column tells of "
        "which. Add line_of_business."
    )
    with_line = {"customer_id": [guest, bather], "line_of_business": []}
    of_one = {"customer_id": [guest], "bath_count": [bather]}
    for columns in (with_line, of_one):
        assert list(problems(lines, {("aggregates", "agg_visits"): columns})) == []


def test_a_field_of_a_document_is_found_by_its_name() -> None:
    preferences = Table(
        "wishes",
        "One document per guest.",
        ("_id",),
        "cdc",
        (Column("_id", PII), Column("mood", SENSITIVE), Column("colour", NONE)),
        person={"_id": "customer"},
    )
    line = Line("spa", "A spa.", "team:spa", (Source("spa", "mongodb", "", (preferences,)),))
    document = ("raw_spa", "wishes", "document")
    made = Tracing(
        assemble([line]),
        {
            ("staging", "stg_wishes"): {
                "mood": [document],
                "colour": [document],
                "guest_id": [document],
            }
        },
    ).made()["staging", "stg_wishes"]
    assert made.personal["mood"] == {"spa.wishes.mood"}
    assert "colour" not in made.personal
    # No field has this name, so it may be any of them.
    assert made.rows == {"guest_id": {"customer spa"}}
