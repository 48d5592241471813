"""A line of business that is held, in Dagster: its outputs wait, those of other lines go on."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.definitions import freshness_evaluator
from dagster._core.definitions.freshness import FreshnessState
from dagster._core.loader import LoadingContextForTest
from support.databases import database
from support.pages import CALLS
from support.two_lines import AUDITS, TABLES, change, create

from softcart_assets.assembly import assemble
from softcart_assets.components.extracts import dashboard_page, extract_files
from softcart_assets.components.publication import published_assets
from softcart_assets.connections import PostgresConnection
from softcart_assets.lines.model import (
    NONE,
    PII,
    Column,
    Dashboard,
    Extract,
    Line,
    Published,
    Source,
    Table,
)
from softcart_assets.lines.page import Page
from softcart_assets.pages.kit import render
from softcart_assets.pages.kit.render import PageResult
from softcart_assets.publishing.acceptances import accept
from softcart_assets.resources import OutputResource, PostgresResource


def write_page(production: PostgresConnection, page: Page, path: Path) -> PageResult:
    """Write a page without reading what it shows."""
    path.write_text("page")
    picture = path.with_suffix(".png")
    picture.write_bytes(b"png" * 100_000)
    with production.connect() as session:
        (version,) = session.execute("SELECT version FROM production_meta.current").fetchone()
    return PageResult(path, 4, 0, version, None, {}, {"sales": picture})


def _page(fact: str) -> Page:
    joins = f"LEFT JOIN {fact} p USING (member)"
    return replace(CALLS, cube=replace(CALLS.cube, fact=fact, joins=joins))


BUYERS = Table(
    "buyers", "Buyers.", ("id",), "cdc", (Column("id", NONE, "Key."), Column("mail", PII, "Mail."))
)


def _line(name: str) -> Line:
    return Line(
        name,
        f"The line {name}.",
        owner=f"team:{name}",
        sources=(Source("till", "mysql", "The tills.", (BUYERS,)),) if name == "left" else (),
        published=(Published(f"fct_{name}"),),
        extracts=(
            Extract(
                f"ext_{name}",
                "Rows.",
                {"rows": "Their number."},
                f"SELECT count(*) AS rows FROM production.fct_{name} "
                "JOIN production.dim_member USING (member)",
            ),
        ),
        dashboards=(Dashboard(f"page_{name}", "A page.", _page(f"production.fct_{name}")),),
    )


LINES = assemble(
    [
        Line("conformed", "Shared.", owner="team:data", published=(Published("dim_member"),)),
        _line("left"),
        _line("right"),
    ]
)


class _Postgres(PostgresResource):
    """A warehouse in a database of the test's own."""

    database: str

    def connection(self) -> PostgresConnection:
        """The server of the settings, and that database."""
        return PostgresConnection(**{**asdict(super().connection()), "database": self.database})


@pytest.fixture
def databases(stack) -> Iterator[tuple[PostgresConnection, PostgresConnection]]:
    """Staging with both lines, and production."""
    with database() as staging, database() as production:
        create(staging)
        yield staging, production


@pytest.fixture
def definitions(databases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dg.Definitions:
    monkeypatch.setattr(render, "build_page", write_page)
    monkeypatch.setenv("SOFTCART_EXTRACTS_DIR", str(tmp_path / "extracts"))
    staging, production = databases
    return dg.Definitions(
        assets=[
            published_assets(LINES, TABLES, AUDITS),
            *(extract_files(LINES, line) for line in LINES if line.extracts),
            *(dashboard_page(LINES, line, page) for line in LINES for page in line.dashboards),
        ],
        resources={
            "staging": _Postgres(prefix="SOFTCART_STAGING", database=staging.database),
            "production": _Postgres(prefix="SOFTCART_PRODUCTION", database=production.database),
            "output": OutputResource(),
        },
        executor=dg.in_process_executor,
    )


def run(
    definitions: dg.Definitions, *keys: str, instance: dg.DagsterInstance | None = None
) -> dg.ExecuteInProcessResult:
    job = definitions.resolve_implicit_global_asset_job_def()
    return job.execute_in_process(
        instance=instance or dg.DagsterInstance.ephemeral(),
        asset_selection=[dg.AssetKey(key.split("/")) for key in keys] or None,
        raise_on_error=False,
    )


def made(result: dg.ExecuteInProcessResult) -> set[str]:
    return {event.asset_key.to_user_string() for event in result.get_asset_materialization_events()}


def failed(result: dg.ExecuteInProcessResult) -> set[tuple[str, dg.AssetCheckSeverity]]:
    evaluations = result.get_asset_check_evaluations()
    return {(each.check_name, each.severity) for each in evaluations if not each.passed}


def of(line: str) -> set[str]:
    return {f"production/fct_{line}", f"extracts/ext_{line}", f"extracts/page_{line}"}


def test_what_reads_the_other_line_goes_on_in_the_same_run(databases, definitions):
    assert made(run(definitions)) == {"production/dim_member"} | of("left") | of("right")
    change(databases[0], "INSERT INTO fct_left SELECT * FROM fct_left LIMIT 1")
    result = run(definitions)
    assert made(result) == {"production/dim_member"} | of("right")
    assert failed(result) == {("fct_left_key_unique", dg.AssetCheckSeverity.ERROR)}
    assert result.success
    skipped = {
        event.step_key for event in result.filter_events(lambda event: event.is_step_skipped)
    }
    assert skipped == {"write_left_extracts", "extracts__page_left"}
    # An audit that passes with what the line keeps is one that failed, all the same.
    change(
        databases[0], "DELETE FROM fct_left WHERE id = 1; INSERT INTO fct_left VALUES (1, 99, 1)"
    )
    assert failed(run(definitions)) == {("fct_left_member_resolves", dg.AssetCheckSeverity.ERROR)}


def test_a_line_is_held_with_a_failed_check_if_staging_lacks_its_table(databases, definitions):
    change(databases[0], "DROP TABLE fct_left")
    result = run(definitions)
    assert made(result) == {"production/dim_member"} | of("right")
    assert failed(result) == {
        ("fct_left_equals_staging", dg.AssetCheckSeverity.ERROR),
        ("fct_left_totals", dg.AssetCheckSeverity.ERROR),
    }


@pytest.mark.parametrize("classes", [{}, {"pii": ("amount",)}, {"sensitive": ("amount",)}])
def test_a_line_is_held_if_a_column_is_personal_and_its_name_does_not_say_so(
    databases, definitions, classes
):
    """`select mail as amount` in a model: everybody could read it."""
    instance = dg.DagsterInstance.ephemeral()
    built = {
        "warehouse/fct_left": {"amount": ("staging/stg_till__buyers", "contact"), "id": None},
        "staging/stg_till__buyers": {"contact": ("raw_till/buyers", "mail")},
    }
    for key, columns in built.items():
        origins = {
            name: [dg.TableColumnDep(dg.AssetKey(origin[0].split("/")), origin[1])]
            if origin
            else []
            for name, origin in columns.items()
        }
        instance.report_runless_asset_event(
            dg.AssetMaterialization(
                dg.AssetKey(key.split("/")),
                metadata={"dagster/column_lineage": dg.TableColumnLineage(origins)},
            )
        )
    tables = [replace(each, **classes) if each.name == "fct_left" else each for each in TABLES]
    others = [each for each in definitions.assets or () if each.op.name != "publication"]
    defined = dg.Definitions(
        assets=[published_assets(LINES, tables, AUDITS), *others],
        resources=definitions.resources,
        executor=definitions.executor,
    )
    result = run(defined, instance=instance)
    assert made(result) == {"production/dim_member"} | of("right") | (
        of("left") if classes else set()
    )
    notes = {
        each.check_name: str(each.metadata["note"].value)
        for each in result.get_asset_check_evaluations()
        if not each.passed
    }
    assert notes.keys() == (set() if classes else {"fct_left_equals_staging", "fct_left_totals"})
    for note in notes.values():
        assert note.startswith("amount has values of raw_till.buyers.mail, which is personal, and")
        assert "tests/support/two_lines.py:" in note


def test_the_step_fails_if_nothing_goes_live(databases, definitions):
    for name in ("fct_left", "fct_right", "dim_member"):
        change(databases[0], f"INSERT INTO {name} SELECT * FROM {name} LIMIT 1")
    result = run(definitions)
    assert not result.success
    assert made(result) == set()
    assert {"fct_left_key_unique", "fct_right_key_unique", "dim_member_key_unique"} <= {
        name for name, _ in failed(result)
    }


def test_a_selection_publishes_its_lines_and_what_they_share(databases, definitions):
    run(definitions)
    change(databases[0], "UPDATE fct_right SET amount = 2; INSERT INTO dim_member VALUES (11)")
    result = run(definitions, "production/fct_left")
    # A table that is recorded without the results of its checks would hold back what reads it.
    assert made(result) == {"production/fct_left"}
    assert {check.asset_key.path[-1] for check in result.get_asset_check_evaluations()} == {
        "fct_left"
    }
    with databases[1].connect() as session:
        row = session.execute(
            "SELECT (SELECT max(amount) FROM production.fct_right), "
            "(SELECT max(member) FROM production.dim_member)"
        ).fetchone()
    assert row == (1, 11)


def test_a_limit_and_its_acceptance_are_shown(databases, definitions):
    run(definitions)
    change(databases[0], "DELETE FROM fct_left WHERE id > 40")
    [shown] = [each for each in run(definitions).get_asset_check_evaluations() if not each.passed]
    message = "fct_left_volume: 60.00% of the rows of fct_left are gone: 40 instead of 100."
    assert (shown.description or "").startswith(message)
    assert shown.metadata["limit"].value == "0.1"
    assert "tests/support/two_lines.py:" in shown.metadata["limit declared at"].value

    accept(databases[1], "fct_left_volume", "A branch was closed.", "ann")
    result = run(definitions)
    assert result.success
    assert failed(result) == {("fct_left_volume", dg.AssetCheckSeverity.WARN)}
    [metadata] = [
        event.step_materialization_data.materialization.metadata
        for event in result.get_asset_materialization_events()
        if event.asset_key == dg.AssetKey(["production", "fct_left"])
    ]
    accepted = str(metadata["accepted fct_left_volume"].value)
    assert accepted.startswith(message)
    assert "Accepted: A branch was closed. (ann, " in accepted
    assert failed(run(definitions)) == set()


def test_the_event_of_a_page_names_its_pictures_and_does_not_contain_them(definitions, tmp_path):
    """They made an event of 1.5 MB in each run."""
    [event] = [
        event
        for event in run(definitions).get_asset_materialization_events()
        if event.asset_key.path[-1] == "page_left"
    ]
    shown = event.step_materialization_data.materialization.metadata["chart: sales"]
    assert shown == dg.MetadataValue.path(str(tmp_path / "extracts" / "page_left.png"))
    assert len(dg.serialize_value(event)) < 10_000


def test_outputs_whose_tables_are_the_same_are_not_written_again(databases, definitions, tmp_path):
    def told(*keys: str) -> dict[str, tuple[str, str]]:
        """What was told of each output: its state and its data version."""
        return {
            event.asset_key.path[-1]: (
                event.step_materialization_data.materialization.metadata["state"].value,
                event.step_materialization_data.materialization.tags["dagster/data_version"],
            )
            for event in run(definitions, *keys).get_asset_materialization_events()
            if event.asset_key.path[0] == "extracts"
        }

    names = {f"{kind}_{line}" for kind in ("ext", "page") for line in ("left", "right")}
    first = told()
    assert {name: state for name, (state, _) in first.items()} == dict.fromkeys(names, "written")
    pages = tmp_path / "extracts"
    (pages / "page_left.html").write_text("damaged")
    change(databases[0], "UPDATE fct_right SET amount = 2 WHERE id = 1")
    second = told()
    assert {name: state for name, (state, _) in second.items()} == {
        "ext_left": "unchanged since production version 1",
        "page_left": "written",
        "ext_right": "written",
        "page_right": "written",
    }
    assert (pages / "page_left.html").read_text() == "page"
    changed = {name for name in names if first[name][1] != second[name][1]}
    assert changed == {"ext_right", "page_right"}
    third = told("extracts/page_left", "extracts/page_right")
    assert {state for state, _ in third.values()} == {"unchanged since production version 2"}


def test_what_nobody_confirmed_for_a_day_is_stale(
    definitions: dg.Definitions, monkeypatch: pytest.MonkeyPatch
) -> None:
    instance = dg.DagsterInstance.ephemeral()
    graph = definitions.resolve_asset_graph()
    nodes = [node for node in graph.asset_nodes if node.is_materializable]
    began = time.time()

    def states(hours: float) -> set[FreshnessState]:
        """Of all tables, extracts and pages, so long after the test began."""
        now = began + hours * 3600
        monkeypatch.setattr(freshness_evaluator, "get_current_timestamp", lambda: now)
        evaluator = freshness_evaluator.TimeWindowFreshnessPolicyEvaluator()

        async def all_of_them() -> list[FreshnessState]:
            context = LoadingContextForTest(instance)
            evaluated = (evaluator.evaluate_freshness(context, each) for each in nodes)
            return await asyncio.gather(*evaluated)

        return set(asyncio.run(all_of_them()))

    assert states(0) == {FreshnessState.UNKNOWN}
    everything = made(run(definitions, instance=instance))
    assert states(25.9) == {FreshnessState.PASS}
    assert states(26.5) == {FreshnessState.WARN}
    assert states(27.5) == {FreshnessState.FAIL}
    # What did not change is not written again, but it is confirmed.
    assert made(run(definitions, instance=instance)) == everything
    assert len(everything) == len(nodes)
