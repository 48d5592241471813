"""What a page reads and shows is found in the SQL that it declares."""

from dataclasses import replace

import pytest
from support.pages import CALLS

from softcart_assets.assembly import LINES
from softcart_assets.components import extracts
from softcart_assets.dbt import read_manifest
from softcart_assets.extracts import kept
from softcart_assets.lineage import ForeignTable
from softcart_assets.lines.model import Dashboard, Extract
from softcart_assets.lines.page import Dimension, Level
from softcart_assets.pages import lineage
from spark.jobs import JOBS

PUBLISHED = {table.name for table in LINES.published}
PAGE = Dashboard("calls", "Calls.", CALLS)


@pytest.mark.parametrize("dashboard", LINES.dashboards, ids=lambda dashboard: dashboard.name)
def test_what_a_page_shows_comes_from_columns_that_exist(dashboard: Dashboard) -> None:
    columns = {
        node["name"]: {*node["columns"]}
        for node in read_manifest()["nodes"].values()
        if node["resource_type"] == "model"
    } | {name: {*job.columns} for name, job in JOBS.items()}
    shown = list(lineage.shown(dashboard.page))
    assert len({each.name for each in shown}) == len(shown)
    origins = {origin for each in shown for origin in each.origins}
    assert not {f"{table}.{name}" for table, name in origins if name not in columns[table]}
    # A number of rows comes from no column.
    assert {each.kind for each in shown if not each.origins} <= {"count"}
    # A table that only chooses rows is read, too.
    assert {table for table, _ in origins} <= {*lineage.tables(dashboard, PUBLISHED)}


def test_figures_lead_to_the_columns_of_their_sql() -> None:
    origins = {each.name: each.origins for each in lineage.shown(CALLS)}
    assert origins["minutes"] == (("fct_calls", "minutes"),)
    assert origins["each"] == (("fct_calls", "call_id"), ("fct_calls", "charge"))
    assert origins["plan.kind"] == (("dim_plan", "kind"),)
    assert origins["late.key"] == ()
    assert lineage.tables(PAGE, {"fct_calls", "dim_plan"}) == ("dim_plan", "fct_calls")


def test_a_name_of_a_key_counts() -> None:
    names = "SELECT n.leg, max(n.title) FROM production.dim_leg n GROUP BY n.leg"
    leg = Dimension("leg", "Leg", "Legs", (Level("leg", "f.leg", names=names),), grain="item")
    page = replace(CALLS, cube=replace(CALLS.cube, dimensions=(CALLS.cube.dimensions[0], leg)))
    origins = {each.name: each.origins for each in lineage.shown(page)}
    assert origins["leg.leg"] == (("dim_leg", "title"), ("fct_calls", "leg"))
    assert "dim_leg" in lineage.tables_read(replace(PAGE, page=page))


@pytest.mark.parametrize("cube", [{"fact": "warehouse.fct_calls"}, {"fact": "production.gone"}])
def test_a_page_reads_published_tables_only(cube: dict[str, str]) -> None:
    page = replace(PAGE, page=replace(CALLS, cube=replace(CALLS.cube, **cube)))
    with pytest.raises(ForeignTable, match=f"calls reads .*{cube['fact']}"):
        lineage.tables(page, {"fct_calls", "dim_plan"})


def test_a_page_that_names_the_time_is_always_made_anew() -> None:
    assert not lineage.may_change_by_itself(PAGE)
    young = replace(CALLS, cube=replace(CALLS.cube, where="f.call_date > current_date - 7"))
    assert lineage.may_change_by_itself(replace(PAGE, page=young))
    assert not any(map(lineage.may_change_by_itself, LINES.dashboards))


@pytest.mark.parametrize(
    "changed",
    [
        "softcart_assets.pages.kit",
        "softcart_assets.lines.page",
        "softcart_assets.lineage",
        "softcart_assets.pages.lineage",
        "softcart_assets.components.extracts",
    ],
)
def test_a_page_is_made_again_if_what_makes_it_changes(
    changed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With other code, the record of an old page also lacked what the new code tells of pages."""
    before, version = extracts.page_code_version(PAGE), kept.code_version
    monkeypatch.setattr(
        kept, "code_version", lambda name: f"{version(name)}{'!' * (name == changed)}"
    )
    assert extracts.page_code_version(PAGE) != before


def test_an_extract_is_written_again_if_a_description_or_its_code_changes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Dagster asks for it. Only the run that wrote it knew that it was another one."""
    extract = LINES.extracts[0]

    def version(extract: Extract) -> str | None:
        return extracts._spec(LINES, LINES[0], extract).code_version

    before = version(extract)
    others = dict.fromkeys(extract.columns, "Other.")
    assert version(replace(extract, columns=others)) != before
    assert version(replace(extract, description="Other.")) != before
    monkeypatch.setattr(kept, "code_version", lambda name: name)
    assert version(extract) != before
