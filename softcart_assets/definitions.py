"""The code location: everything under `defs/`, nothing else."""

from pathlib import Path

import dagster as dg

from softcart_assets.assembly import LINES
from softcart_assets.components.conditions import hold_behind_failed_checks
from softcart_assets.components.publication import go_live_together


@dg.definitions
def defs() -> dg.Definitions:
    """All definitions of the project. Loading them opens no connection.

    So the code location loads even if a server is down or not configured.
    """
    found = dg.load_from_defs_folder(path_within_project=Path(__file__).parent)
    # Here, because only all definitions together show what is behind a check.
    return hold_behind_failed_checks(found, go_live_together(LINES))
