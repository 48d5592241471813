"""The pages of the mobile operator."""

from softcart_assets.lines.model import Dashboard
from softcart_assets.lines.telecom.pages import OPERATOR_PAGE

DASHBOARDS = (
    Dashboard(
        "operator",
        "One report over customer relations, billing and the network: revenue, usage and ARPU by "
        "plan, region and month, complaints against dropped calls, unbilled charges, disputes.",
        page=OPERATOR_PAGE,
    ),
)
