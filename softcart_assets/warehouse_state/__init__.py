"""What the steps over the staging warehouse keep there about their own last run, as migrations.

`aggregates` holds what each aggregate was built from. `dbt_state` holds how far each incremental
model has seen the changes that it follows.
"""

from pathlib import Path
from typing import Literal

import psycopg

from softcart_assets.migrations import migrate


def prepare(connection: psycopg.Connection, schema: Literal["aggregates", "dbt_state"]) -> None:
    """Bring one of the schemas to this release. Safe at any time."""
    migrate(connection, schema, Path(__file__).parent / schema)
