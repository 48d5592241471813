"""The mobile operator: customer relations, billing, charging, and records of usage."""

from softcart_assets.lines.model import Line
from softcart_assets.lines.telecom.dashboards import DASHBOARDS
from softcart_assets.lines.telecom.extracts import EXTRACTS
from softcart_assets.lines.telecom.jobs import JOBS
from softcart_assets.lines.telecom.models import MODELS
from softcart_assets.lines.telecom.published import PUBLISHED
from softcart_assets.lines.telecom.sources import BILLING, CHARGING, CRM, ROAMING, SIGNALING

LINE = Line(
    "telecom",
    "The mobile operator: subscribers, bills, charges and calls.",
    owner="team:telecom",
    sources=(CRM, BILLING, CHARGING, SIGNALING, ROAMING),
    published=PUBLISHED,
    jobs=JOBS,
    extracts=EXTRACTS,
    dashboards=DASHBOARDS,
    models=MODELS,
)
