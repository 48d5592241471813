"""The staging views and the star schema: dbt models as assets, dbt tests as asset checks."""

from collections.abc import Iterator, Mapping
from typing import Any

import dagster as dg
from dagster_dbt import DagsterDbtTranslator, DbtCliResource, DbtProject, dbt_assets

from softcart_assets.dbt import DBT, MANIFEST, PROJECT_DIR
from softcart_assets.defs.automation.conditions import FOLLOWS_UPSTREAM, POOL
from softcart_assets.resources import PostgresResource

if not MANIFEST.exists():
    raise FileNotFoundError(
        "dbt_project/target/manifest.json is missing: the definitions are made from it. "
        "`make up` builds it, and so does `dbt parse` in dbt_project/."
    )

PROJECT = DbtProject(project_dir=PROJECT_DIR, profiles_dir=PROJECT_DIR)


class SoftCartTranslator(DagsterDbtTranslator):
    """dbt's names are ours already; group, owner and automation are added."""

    def get_group_name(self, dbt_resource_props: Mapping[str, Any]) -> str | None:
        """The layer, which is the schema."""
        return dbt_resource_props["schema"]

    def get_owners(self, dbt_resource_props: Mapping[str, Any]) -> list[str]:
        """The team that a model names in its `meta`, otherwise the shop's."""
        return [dbt_resource_props.get("config", {}).get("meta", {}).get("owner", "team:shop")]

    def get_automation_condition(self, dbt_resource_props: Mapping[str, Any]) -> dg.AutomationCondition:
        """Models follow what they read."""
        return FOLLOWS_UPSTREAM


@dbt_assets(
    manifest=MANIFEST, project=PROJECT, dagster_dbt_translator=SoftCartTranslator(), name="dbt_models", pool=POOL
)
def dbt_models(context: dg.AssetExecutionContext, dbt: DbtCliResource, staging: PostgresResource) -> Iterator[Any]:
    """`dbt build` of what is selected, in one process; unit tests run in the test suite instead.

    Loads are held off meanwhile, so that the models and the tests that compare them see one state of the raw tables.
    """
    with staging.raw_tables_locked("steady", context.log):
        yield from (
            dbt.cli(["build", "--exclude-resource-type", "unit_test"], context=context)
            .stream()
            .fetch_row_counts()
            .fetch_column_metadata()
        )


@dg.definitions
def dbt() -> dg.Definitions:
    """The dbt models and the command line that runs them."""
    return dg.Definitions(
        assets=[dbt_models],
        resources={"dbt": DbtCliResource(project_dir=PROJECT, profiles_dir=str(PROJECT_DIR), dbt_executable=str(DBT))},
    )
