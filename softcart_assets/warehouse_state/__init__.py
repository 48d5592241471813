"""Tables in the staging warehouse about the last run of a step, made by migrations.

`aggregates` records the inputs of each aggregate, and `ml` those of scores. `dbt_state` records how
far each incremental model has read the changes that it follows. `identities` has the people, too:
they are brought up to date, and never made anew.
"""

from pathlib import Path
from typing import Literal

import psycopg

from softcart_assets.migrations import migrate


def prepare(
    connection: psycopg.Connection, schema: Literal["aggregates", "dbt_state", "identities", "ml"]
) -> None:
    """Upgrade one of the schemas to this release. It may be called at any time."""
    migrate(connection, schema, Path(__file__).parent / schema)
