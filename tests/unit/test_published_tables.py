"""What a publication is told of each table comes from its declaration and from dbt's manifest."""

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from softcart_assets.assembly import LINES
from softcart_assets.dbt import read_manifest
from softcart_assets.lines.model import (
    NONE,
    PII,
    SENSITIVE,
    AddsUp,
    Classifier,
    Column,
    Feature,
    Job,
    Limit,
    Line,
    Published,
    Source,
    Table,
)
from softcart_assets.publishing import personal
from softcart_assets.publishing.suite import audits_of
from softcart_assets.publishing.tables import (
    UNKNOWN,
    PublishedTable,
    Reference,
    UnexplainedLimit,
    UnknownColumn,
    UnknownTable,
    published_tables,
)
from spark.jobs import JOBS


def manifest(*models: tuple[str, str, list[tuple[str, dict[str, Any]]]]) -> dict[str, Any]:
    """A manifest with models of schema `warehouse`, their columns, and their generic tests with
    arguments.
    """
    nodes: dict[str, Any] = {}
    for model, columns, tests in models:
        nodes[f"model.p.{model}"] = {
            "resource_type": "model",
            "name": model,
            "schema": "warehouse",
            "columns": {name: {"name": name} for name in columns.split()},
        }
        for number, (name, arguments) in enumerate(tests):
            nodes[f"test.p.{name}_{model}_{number}"] = {
                "resource_type": "test",
                "attached_node": f"model.p.{model}",
                "name": f"{name}_{model}",
                "original_file_path": "models/warehouse/cafe/_models.yml",
                "test_metadata": {"name": name, "kwargs": arguments},
            }
    return {"nodes": nodes}


REFERENCES = [
    {
        "references": {
            "member_key": {
                "to": "ref('dim_member')",
                "max_unknown_pct": 0.5,
                "where": "amount > 0",
                "reason": "Members pay.",
            }
        }
    },
    # A second test of the same kind, written in another way.
    {
        "references": {
            "day": {
                "to": 'ref( "dim_member" )',
                "key": "first_day",
                "unknown": "date '1900-01-01'",
                "max_unknown_pct": 100,
            }
        }
    },
]
MANIFEST = manifest(
    (
        "dim_member",
        "member_key member_id",
        [
            ("primary_key", {"columns": ["member_key"]}),
            ("scd2_intervals", {"natural_key": ["member_id"]}),
        ],
    ),
    (
        "fct_visits",
        "id member_key day amount visited_at",
        [
            ("primary_key", {"columns": ["id"]}),
            *(("references_resolved", each) for each in REFERENCES),
        ],
    ),
    ("stg_visits", "id", []),
)


def line(*tables: Published, jobs: tuple[Job, ...] = ()) -> Line:
    return Line("cafe", "A café.", owner="team:cafe", published=tables, jobs=jobs)


def test_keys_references_and_versions_come_from_dbt_and_from_jobs():
    declared = line(
        Published("fct_visits", totals=("amount",), latest="visited_at"),
        Published("dim_member"),
        Published(
            "agg_visits", may_be_empty=True, adds_up=(AddsUp("amount", "fct_visits", "amount"),)
        ),
        jobs=(Job("agg_visits", ("cafe.visits",), key=("drink", "month")),),
    )
    visits, member, aggregate = published_tables([declared], MANIFEST, {})
    assert (visits.schema, visits.key, visits.line) == ("warehouse", ("id",), "cafe")
    assert visits.references == (
        Reference(
            "member_key",
            "dim_member",
            "member_key",
            UNKNOWN,
            Limit(Decimal("0.005"), "Members pay."),
            "amount > 0",
        ),
        Reference(
            "day",
            "dim_member",
            "first_day",
            "date '1900-01-01'",
            Limit(Decimal(1), "Any number is right."),
        ),
    )
    assert visits.references[0].max_unknown.declared_at == (
        "dbt_project/models/warehouse/cafe/_models.yml: references_resolved_fct_visits, "
        "max_unknown_pct of member_key"
    )
    assert member.versions_of == ("member_id",)
    assert (aggregate.schema, aggregate.key) == ("aggregates", ("drink", "month"))
    audits = {audit.name: audit for audit in audits_of([visits, member, aggregate])}
    always = ("key_unique", "equals_staging", "volume", "growth")
    assert audits.keys() == {
        *(
            f"{name}_{kind}"
            for name in ("fct_visits", "dim_member", "agg_visits")
            for kind in always
        ),
        *("fct_visits_not_empty", "dim_member_not_empty", "dim_member_intervals"),
        *("fct_visits_member_key_resolves", "fct_visits_day_resolves"),
        # All rows may have the unknown day: there is nothing to ask.
        "fct_visits_member_key_known",
        *("fct_visits_totals", "fct_visits_latest_day"),
        "agg_visits_amount_agrees_with_fct_visits",
    }


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        (
            ("stg_visits",),
            "stg_visits is neither a Spark job nor the scores of a model, nor a dbt model",
        ),
        (("fct_nothing",), "fct_nothing is neither a Spark job nor the scores of a model"),
        (("fct_visits",), "fct_visits refers to dim_member, which no line publishes. Publish it"),
    ],
)
def test_an_error_names_the_file_the_table_and_what_to_do(tables, message):
    declared = line(*map(Published, tables))
    with pytest.raises(UnknownTable, match=rf"test_published_tables\.py:\d+: {message}"):
        published_tables([declared], MANIFEST, {})


@pytest.mark.parametrize(
    ("declared", "unknown"),
    [
        (Published("fct_visits", totals=("amount", "amuont")), "fct_visits.amuont"),
        (Published("fct_visits", latest="visit_at"), "fct_visits.visit_at"),
        (Published("fct_visits", indexes=(("day", "drink"),)), "fct_visits.drink"),
        (
            Published("fct_visits", adds_up=(AddsUp("sum", "dim_member", "n"),)),
            "fct_visits.sum, dim_member.n",
        ),
    ],
)
def test_a_column_that_the_model_does_not_have_is_refused(declared, unknown):
    together = line(declared, Published("dim_member"))
    with pytest.raises(
        UnknownColumn,
        match=rf"test_published_tables\.py:\d+: fct_visits names .* {unknown}\. Correct",
    ):
        published_tables([together], MANIFEST, {})


@pytest.mark.parametrize(
    ("limit", "message"),
    [
        ({"max_unknown_pct": 5}, "max_unknown_pct of member_key is 5 without a reason. Write"),
        ({"max_unknown_pct": 0, "reason": " "}, "max_unknown_pct of member_key is 0 without a"),
        ({"max_unknown_pct": 99.9, "reason": None}, "max_unknown_pct of member_key is 99.9 with"),
        ({}, "member_key has no max_unknown_pct. Write how many percent"),
    ],
)
def test_a_limit_without_a_reason_is_refused_by_file_and_column(limit, message):
    """A line was held, and the message could only say that no reason is declared."""
    references = {"member_key": {"to": "ref('dim_member')", **limit}}
    written = manifest(
        ("dim_member", "member_key", [("primary_key", {"columns": ["member_key"]})]),
        (
            "fct_visits",
            "id member_key",
            [
                ("primary_key", {"columns": ["id"]}),
                ("references_resolved", {"references": references}),
            ],
        ),
    )
    declared = line(Published("fct_visits"), Published("dim_member"))
    with pytest.raises(UnexplainedLimit) as caught:
        published_tables([declared], written, {})
    assert str(caught.value).startswith(
        "dbt_project/models/warehouse/cafe/_models.yml: references_resolved_fct_visits: " + message
    )


def _made_from_orders() -> tuple[Line, dict[str, Any]]:
    columns = tuple(
        Column(name, privacy)
        for name, privacy in (("id", NONE), ("email", PII), ("town", PII), ("pay", SENSITIVE))
    )
    guests = Table("guests", "Guests.", key=("id",), strategy="cdc", columns=columns, history=True)
    others = replace(guests, name="others", columns=(Column("name", PII),))
    source = Source("cafe", "mysql", "The café.", tables=(guests, others))
    nodes = manifest(
        (
            "dim_guest",
            "id mail email town pay name",
            [("primary_key", {"columns": ["id"]})],
        ),
        ("stg_guests", "id", []),
    )
    nodes["nodes"]["model.p.dim_guest"]["depends_on"] = {"nodes": ["model.p.stg_guests"]}
    nodes["nodes"]["model.p.stg_guests"]["depends_on"] = {"nodes": ["source.p.guests_history"]}
    nodes["sources"] = {"source.p.guests_history": {"schema": "raw_cafe", "name": "guests_history"}}
    return replace(line(), sources=(source,)), nodes


def test_a_column_is_personal_as_it_is_at_the_source():
    cafe, nodes = _made_from_orders()
    declared = Published("dim_guest", pii=("mail",), not_pii={"town": "Nobody lives there."})
    [guest] = published_tables([replace(cafe, published=(declared,))], nodes, {})
    # `name` is personal in a table that this one is not made from.
    assert (guest.pii, guest.sensitive) == (("email", "mail"), ("pay",))


def test_an_aggregate_has_the_personal_columns_of_its_inputs():
    cafe, nodes = _made_from_orders()
    jobs = (Job("agg_guests", ("cafe.others", "cafe.guests"), ("name",)),)
    agg = Published("agg_guests", not_pii={"towns": "A number.", "email": "Left out."})
    lineage = {
        "agg_guests": {
            "reached_at": ("cafe.guests.id", "cafe.guests.email"),
            "earned": ("cafe.guests.pay",),
            "towns": ("cafe.guests.town",),
            "visits": ("cafe.guests.id",),
        },
        "agg_other": {"visits": ("cafe.guests.email",)},
    }
    [guests] = published_tables([replace(cafe, published=(agg,), jobs=jobs)], nodes, lineage)
    # Those of their names, and those that the job computes from them under other names.
    assert (guests.pii, guests.sensitive) == (("name", "reached_at", "town"), ("earned", "pay"))


def test_scores_have_the_classes_of_the_features_that_they_are_made_of():
    cafe, nodes = _made_from_orders()
    inputs = (Feature("is_ill", "Ill: {}"), Feature("visits", "Visits: {}"))
    model = Classifier(
        "thirst", "", "agg_thirst", "guest_id", "returns", inputs, Limit(Decimal("0.8"), "Chance.")
    )
    lineage = {
        "agg_thirst": {
            "guest_id": ("cafe.guests.email",),
            "is_ill": ("cafe.guests.pay",),
            "visits": ("cafe.guests.id",),
        }
    }
    line = replace(
        cafe,
        published=(Published("thirst_scores"),),
        jobs=(Job("agg_thirst", ("cafe.guests",), ("guest_id", "month")),),
        models=(model,),
    )
    [scores] = published_tables([line], nodes, lineage)
    assert {"guest_id"} < {*scores.pii}
    told = {"probability_pct", "decile", "reason_1", "reason_2", "reason_3", "contributions"}
    assert told < {*scores.sensitive}
    assert not {"month", "model_version", "data_position"} & {*scores.pii, *scores.sensitive}
    bare = Published("thirst_scores", not_pii=dict.fromkeys(told, "A number."))
    [scores] = published_tables([replace(line, published=(bare,))], nodes, lineage)
    assert not told & {*scores.sensitive}


@pytest.mark.parametrize("declared", [{"pii": ("odd",)}, {"not_pii": {"odd": "No."}}])
def test_a_class_of_a_column_that_is_not_there_is_refused(declared):
    cafe, nodes = _made_from_orders()
    with pytest.raises(UnknownColumn, match=r"dim_guest\.odd"):
        published_tables(
            [replace(cafe, published=(Published("dim_guest", **declared),))], nodes, {}
        )


def test_a_key_that_is_a_value_is_personal_as_what_it_is_made_of() -> None:
    """The minute of a day is a key, and tells when it was. A hash does not tell of what it is."""
    cafe, _ = _made_from_orders()
    references = [
        Reference("minute_key", "dim_minute", "minute_key", "-1", Limit(Decimal(1), "Any.")),
        Reference("guest_key", "dim_guest", "guest_key", UNKNOWN, Limit(Decimal(1), "Any.")),
    ]
    visits = PublishedTable(
        Published("fct_visits"), "warehouse", ("visit_key",), "cafe", references=tuple(references)
    )
    made_of = [("raw_cafe", "guests", "pay")]
    origins = {
        ("warehouse", "fct_visits"): {
            "minute_key": [("staging", "stg_guests", "minute_key")],
            **dict.fromkeys(("guest_key", "visit_key"), made_of),
        },
        ("staging", "stg_guests"): {"minute_key": made_of},
    }
    assert personal.unclassed([visits], [cafe], origins) == {
        "fct_visits": {"minute_key": made_of[0]}
    }


def test_no_view_tells_when_how_and_why_somebody_trains() -> None:
    tables = {each.name: each for each in published_tables(LINES, read_manifest(), {})}
    shown = {*read_manifest()["nodes"]["model.softcart.fct_activity"]["columns"]}
    shown -= {*tables["fct_activity"].sensitive}
    assert shown == {
        *("workout_key", "workout_id", "customer_key", "customer_id", "age_years"),
        *("region", "time_zone", "origin"),
    }


def test_aggregates_and_scores_of_the_demo_show_no_personal_value_without_a_class() -> None:
    """A publication would hold their line. It takes the lineage from the last builds."""
    origins: dict[tuple[str, str], dict[str, list[personal.Column]]] = {}
    for job in JOBS.values():
        split = {to: [each.split(".") for each in found] for to, found in job.lineage.items()}
        origins["aggregates", job.name] = {
            to: [(f"lake_{source}", table, column) for source, table, column in found]
            for to, found in split.items()
        }
    for model in (model for line in LINES for model in line.models):
        origins["ml", model.scores] = {
            column: [("aggregates", model.features, name) for name in names]
            for column, names in model.origins.items()
        }
    tables = published_tables(LINES, read_manifest(), {})
    assert personal.unclassed(tables, LINES, origins) == {}
    bare = [replace(each, pii=(), declared=replace(each.declared, not_pii={})) for each in tables]
    found = personal.unclassed(bare, LINES, origins)
    assert found["churn_scores"]["subscriber_id"] == ("lake_crm", "subscribers", "id")
    assert "probability_pct" in found["churn_scores"]
    assert found["agg_usage_by_plan_region_month"].keys() == {"subscriber_count"}
