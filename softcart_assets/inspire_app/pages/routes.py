"""The addresses of the pages."""

from __future__ import annotations

from flask import Blueprint, Response, request

from softcart_assets.inspire_app.imports import MOST_BYTES
from softcart_assets.inspire_app.pages.apps import Apps
from softcart_assets.inspire_app.pages.entry import Entry
from softcart_assets.inspire_app.pages.factor import SecondFactor
from softcart_assets.inspire_app.pages.live import Live
from softcart_assets.inspire_app.pages.own import Own
from softcart_assets.inspire_app.pages.safety import Safety
from softcart_assets.inspire_app.pages.training import Training
from softcart_assets.inspire_app.site import Site


def blueprint(site: Site) -> Blueprint:
    """All pages."""
    pages = Blueprint(
        "pages", __name__, template_folder="templates", static_folder="static", static_url_path="/s"
    )
    entry, training, own, safety = Entry(site), Training(site), Own(site), Safety(site)
    apps, factor, live = Apps(site), SecondFactor(site), Live(site)
    get, post, both = ["GET"], ["POST"], ["GET", "POST"]
    for rule, view, methods in (
        ("/", training.today, get),
        ("/start", entry.ask, both),
        ("/finish/<secret>", entry.finish, both),
        ("/sign-in", entry.sign_in, both),
        ("/sign-in/code", entry.code, both),
        ("/sign-out", entry.sign_out, post),
        ("/sign-out-everywhere", entry.sign_out_everywhere, post),
        ("/log", training.choose, get),
        ("/log/<activity>", training.log, both),
        ("/import", training.take_in, both),
        ("/history", training.history, get),
        ("/history/<month>", training.history, get),
        ("/workouts/<id>", training.workout, get),
        ("/workouts/<id>/delete", training.remove, post),
        ("/goals", training.goals, both),
        ("/clubs", training.clubs, both),
        ("/settings", own.settings, get),
        ("/settings/profile", own.profile, post),
        ("/settings/training", own.training, post),
        ("/settings/messages", own.messages, post),
        ("/password", safety.password, both),
        ("/second-factor", factor.second_factor, both),
        ("/phone", safety.phone, both),
        ("/sessions", safety.sessions, both),
        ("/apps", apps.apps, both),
        ("/live", live.live, get),
        ("/live/events", live.live_events, get),
        ("/export", own.export, post),
        ("/delete", own.delete, both),
    ):
        pages.add_url_rule(rule, view.__name__, view, methods=methods)
    pages.url_value_preprocessor(_allow_files)
    pages.before_app_request(entry.begin)
    pages.after_request(_private)
    pages.add_app_template_filter(_amount, "amount")
    # As a form takes it.
    pages.add_app_template_filter(lambda n: f"{n.normalize():f}", "exact")
    pages.add_app_template_filter(lambda name: f"pages.{name}", "prefixed")
    pages.add_app_template_global(zip, "zip")
    return pages


def _amount(number: float, places: int = 1) -> str:
    """A number for people to read, with at most so many places."""
    return f"{number:,.{places}f}".rstrip("0").rstrip(".")


def _allow_files(endpoint: str | None, _: object) -> None:
    """Let a file of a workout be larger than a form. Before anything reads the form."""
    if endpoint == "pages.take_in":
        request.max_content_length = MOST_BYTES + 10_000


def _private(response: Response) -> Response:
    """Pages are not kept by what stands between."""
    if request.endpoint != "pages.static":
        response.headers["Cache-Control"] = "no-store"
    return response
