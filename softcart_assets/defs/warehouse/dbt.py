"""The staging views and the star schema: dbt models as assets, dbt tests as asset checks."""

from collections.abc import Iterator, Mapping
from typing import Any

import dagster as dg
import psycopg
from dagster_dbt import DagsterDbtTranslator, DbtCliResource, DbtProject, dbt_assets
from psycopg import sql

from softcart_assets import warehouse_state
from softcart_assets.components.conditions import FOLLOWS_UPSTREAM, POOL
from softcart_assets.dbt import DBT, MANIFEST, PROJECT_DIR
from softcart_assets.ingestion.raw_tables import raw_tables_held
from softcart_assets.resources import PostgresResource

if not MANIFEST.exists():
    raise FileNotFoundError(
        "dbt_project/target/manifest.json is missing: the definitions are made from it. "
        "`make up` builds it, and so does `dbt parse` in dbt_project/."
    )

PROJECT = DbtProject(project_dir=PROJECT_DIR, profiles_dir=PROJECT_DIR)


class SoftCartTranslator(DagsterDbtTranslator):
    """dbt's names, descriptions and owners are ours already; group and automation are added."""

    def get_group_name(self, dbt_resource_props: Mapping[str, Any]) -> str | None:
        """The layer, which is the schema."""
        return dbt_resource_props["schema"]

    def get_automation_condition(
        self, dbt_resource_props: Mapping[str, Any]
    ) -> dg.AutomationCondition:
        """Models follow what they read."""
        return FOLLOWS_UPSTREAM


def _with_row_count(session: psycopg.Connection, event: Any) -> Any:
    """Give a view's materialisation the row count that dagster-dbt gives to tables only."""
    if not isinstance(event, dg.Output) or "dagster/row_count" in event.metadata:
        return event
    view = sql.Identifier(*event.output_name.split("__", 1))
    row = session.execute(sql.SQL("SELECT count(*) FROM {}").format(view)).fetchone()
    return event.with_metadata({**event.metadata, "dagster/row_count": row[0] if row else 0})


@dbt_assets(
    manifest=MANIFEST,
    project=PROJECT,
    dagster_dbt_translator=SoftCartTranslator(),
    name="dbt_models",
    pool=POOL,
)
def dbt_models(
    context: dg.AssetExecutionContext, dbt: DbtCliResource, staging: PostgresResource
) -> Iterator[Any]:
    """`dbt build` of what is selected, in one process; unit tests run in the test suite instead.

    Checks alone are run by `dbt test`: `dbt build` would skip those of a model after one that failed another.
    Loads are held off meanwhile, so that the models and the tests that compare them see one state of the raw tables.
    """
    command = "build" if context.selected_asset_keys else "test"
    with (
        raw_tables_held(staging.connection(), still=True, tell=context.log.info),
        staging.connection().connect(autocommit=True) as session,
    ):
        warehouse_state.prepare(session, "dbt_state")
        invocation = dbt.cli([command, "--exclude-resource-type", "unit_test"], context=context)
        for event in invocation.stream().fetch_row_counts().fetch_column_metadata():
            yield _with_row_count(session, event)


@dg.definitions
def dbt() -> dg.Definitions:
    """The dbt models and the command line that runs them."""
    return dg.Definitions(
        assets=[dbt_models],
        resources={
            "dbt": DbtCliResource(
                project_dir=PROJECT, profiles_dir=str(PROJECT_DIR), dbt_executable=str(DBT)
            )
        },
    )
