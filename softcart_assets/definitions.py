"""The code location: everything under `defs/`, nothing else."""

import os
from pathlib import Path

import dagster as dg

from softcart_assets.connections import SettingError
from softcart_assets.dagster_private import fork_runs, is_served_by_dev

# Without settings, a Dagster of another home would start runs that reach no server.
if is_served_by_dev() and not os.environ.get("SOFTCART_DAGSTER_HOST"):
    raise SettingError(
        "Run `softcart ui`, or `softcart run -- dagster dev`: it brings the settings."
    )

fork_runs("softcart_assets.preloaded")


@dg.definitions
def defs() -> dg.Definitions:
    """All definitions of the project. Loading them opens no connection.

    So the code location loads even if a server is down or not configured.
    """
    return dg.load_from_defs_folder(path_within_project=Path(__file__).parent)
