"""The code location: everything under `defs/`, nothing else."""

from pathlib import Path

import dagster as dg

from softcart_assets.dagster_private import fork_runs

fork_runs("softcart_assets.preloaded")


@dg.definitions
def defs() -> dg.Definitions:
    """All definitions of the project. Loading them opens no connection.

    So the code location loads even if a server is down or not configured.
    """
    return dg.load_from_defs_folder(path_within_project=Path(__file__).parent)
