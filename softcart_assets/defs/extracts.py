"""The extracts and the dashboards of every line."""

import dagster as dg

from softcart_assets.assembly import LINES
from softcart_assets.components.extracts import dashboard_page, extract_files


@dg.definitions
def extracts() -> dg.Definitions:
    """One op per line writes its extracts. One op per dashboard writes its page."""
    return dg.Definitions(
        assets=[
            *(extract_files(LINES, line) for line in LINES if line.extracts),
            *(dashboard_page(LINES, line, each) for line in LINES for each in line.dashboards),
        ]
    )
