"""The staging views and the star schema: dbt models as assets, dbt tests as asset checks."""

import dagster as dg
from dagster_dbt import DbtCliResource

from softcart_assets.assembly import LINES
from softcart_assets.components.dbt_models import dbt_models
from softcart_assets.dbt import DBT, PROJECT_DIR, read_manifest
from softcart_assets.resources import settled


@dg.definitions
def warehouse() -> dg.Definitions:
    """The dbt models of all lines, and the resource that runs dbt."""
    return dg.Definitions(
        assets=dbt_models(LINES, read_manifest()),
        resources={
            "dbt": settled(
                DbtCliResource(
                    project_dir=str(PROJECT_DIR),
                    profiles_dir=str(PROJECT_DIR),
                    dbt_executable=str(DBT),
                )
            )
        },
    )
