"""The fitness application: people, their workouts, and the messages that keep them going."""

from softcart_assets.lines.inspire.dashboards import DASHBOARDS
from softcart_assets.lines.inspire.extracts import EXTRACTS
from softcart_assets.lines.inspire.jobs import AGGREGATES, JOBS
from softcart_assets.lines.inspire.models import MODELS, SCORES
from softcart_assets.lines.inspire.published import PUBLISHED
from softcart_assets.lines.inspire.settings import SETTINGS
from softcart_assets.lines.inspire.sources import INSPIRE, INSPIRE_DOCS, INSPIRE_SESSIONS
from softcart_assets.lines.model import Line

LINE = Line(
    "inspire",
    "The fitness application: workouts, goals and messages.",
    owner="team:inspire",
    sources=(INSPIRE, INSPIRE_DOCS, INSPIRE_SESSIONS),
    published=(*PUBLISHED, *AGGREGATES, *SCORES),
    jobs=JOBS,
    models=MODELS,
    extracts=EXTRACTS,
    dashboards=DASHBOARDS,
    settings=SETTINGS,
)
