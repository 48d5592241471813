"""The pages of the fitness application."""

from softcart_assets.lines.inspire.pages import INSPIRE_PAGE
from softcart_assets.lines.model import Dashboard

DASHBOARDS = (
    Dashboard(
        "inspire",
        "Who trains when and where, with five insights: regions, seasons, segments of shopping and "
        "goals, ages, and peak hours. Each has a picture, a sentence, an interval and what to do.",
        page=INSPIRE_PAGE,
    ),
)
