"""The routes of the API."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, replace
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from hashlib import sha256
from typing import Any, Final
from zoneinfo import ZoneInfo

import simplejson
from apiflask import APIBlueprint, HTTPTokenAuth
from flask import Response, g, request

from softcart_assets.inspire_app import goals as weeks
from softcart_assets.inspire_app import imports, tokens
from softcart_assets.inspire_app.api import schemas
from softcart_assets.inspire_app.hours import QuietHours
from softcart_assets.inspire_app.preferences import Notifications, Preferences
from softcart_assets.inspire_app.site import Site
from softcart_assets.inspire_app.storage.logs import BadCursor, Exists, Log, Logs, UsedKey
from softcart_assets.inspire_app.storage.mysql import Person
from softcart_assets.inspire_app.storage.tokens import Tokens
from softcart_assets.inspire_app.streaks import Streak, streak
from softcart_assets.inspire_app.taking import note_done, take
from softcart_assets.inspire_app.today import todays_choice
from softcart_assets.inspire_app.tokens import Token
from softcart_assets.inspire_app.workouts import NUMBERS, Origin, Set, Workout
from softcart_assets.web.problems import Problem, problem, refuse

PER_MINUTE: Final = 300
"""Requests of a token."""
_UNKNOWN_PER_MINUTE: Final = 60
"""Tokens from one address that nobody knows."""
_IMPORTS_PER_MINUTE: Final = 10

_TOLD: Final = {
    400: "The request cannot be read.",
    404: "There is nothing here.",
    409: "There is such a workout already. `Location` says where.",
    412: "It has another version now. Read it again.",
    429: "Too many requests. `Retry-After` says how many seconds to wait.",
}
_RESPONSES: Final[dict[int | str, dict[str, Any]]] = {
    status: {"description": told, "content": {"application/json": {"schema": Problem}}}
    for status, told in _TOLD.items()
}


def routes(site: Site) -> APIBlueprint:
    """Make the routes."""
    api = APIBlueprint("api", __name__, url_prefix="/api/v1", tag="Inspire")
    auth = _auth(site)
    views = _Views(site, auth)
    api.url_value_preprocessor(_accept_files)
    api.after_request(_private)

    def route(
        method: str,
        rule: str,
        view: Any,
        scope: str,
        output: Any,
        *inputs: tuple[Any, str, str],
        status: int = 200,
        headers: Any = None,
    ) -> None:
        """Register a view. `inputs`: schema, location and the argument's name."""
        for schema, location, name in reversed(inputs):
            view = api.input(schema, location=location, arg_name=name)(view)
        view = api.output(output, status_code=status, headers=headers)(view)
        view = api.auth_required(auth, roles=[scope])(view)
        summary, _, more = view.__doc__.partition("\n\n")
        view = api.doc(
            summary=summary.rstrip("."),
            description=f"{' '.join(more.split())} Needs the scope `{scope}`.".strip(),
            responses=_RESPONSES,
        )(view)
        api.add_url_rule(rule, view_func=view, methods=[method])

    read, write, one = "workouts:read", "workouts:write", "/workouts/<string:id>"
    body = (schemas.WorkoutIn, "json", "asked")
    match = (schemas.IfMatch, "headers", "match")
    key = (schemas.IdempotencyKey, "headers", "sent")
    version = schemas.Version
    route(
        *("GET", "/workouts", views.workouts, read, schemas.Page),
        (schemas.PageQuery, "query", "asked"),
    )
    route(
        *("POST", "/workouts", views.add, write, schemas.WorkoutOut, key, body),
        status=201,
        headers=version,
    )
    route("GET", one, views.workout, read, schemas.WorkoutOut, headers=version)
    route("PUT", one, views.change, write, schemas.WorkoutOut, match, body, headers=version)
    route("DELETE", one, views.remove, write, {}, match, status=204)
    route(
        *("POST", "/imports", views.take, write, schemas.Imported),
        (schemas.Upload, "form_and_files", "sent"),
    )
    route("GET", "/today", views.today, read, schemas.Today)
    route(
        *("GET", "/history", views.history, read, schemas.History),
        (schemas.HistoryQuery, "query", "asked"),
    )
    route("GET", "/streak", views.streak, read, schemas.Streak)
    route("GET", "/goals", views.goals, "profile:read", schemas.GoalOut(many=True))
    route(
        *("PUT", "/goals", views.set_goals, "profile:write", schemas.GoalOut(many=True)),
        (schemas.Goals, "json", "asked"),
    )
    route("GET", "/settings", views.settings, "profile:read", schemas.SettingsOut, headers=version)
    route(
        *("PUT", "/settings", views.set_settings, "profile:write", schemas.SettingsOut),
        match,
        (schemas.Settings, "json", "asked"),
        headers=version,
    )
    return api


def _auth(site: Site) -> HTTPTokenAuth:
    """Finds out whose token is shown, and counts."""
    told = " ".join(f"`{name}`: {text}" for name, text in tokens.SCOPES.items())
    auth = HTTPTokenAuth(description=f"People make tokens on their page. Scopes: {told}")

    def verified(text: str) -> Token | None:
        digest, found = tokens.digest(text), None
        if digest:
            with site.tables() as tables:
                found = Tokens(tables).of(digest, site.clock())
                g.me = tables.person(found.user_id) if found else None
        if found and g.me:
            g.token_id = found.id
            _count(site, f"token {found.id}", PER_MINUTE)
            return found
        _count(site, f"unknown token {request.remote_addr}", _UNKNOWN_PER_MINUTE)
        return None

    auth.verify_token(verified)
    auth.get_user_roles(lambda token: [*token.scopes])
    auth.error_processor(problem)
    return auth


def _count(site: Site, key: str, per_minute: int) -> None:
    if seconds := site.limits.hit(key, per_minute):
        raise refuse(
            429,
            f"At most {per_minute} requests a minute. Try again after `Retry-After` seconds.",
            headers={"Retry-After": str(seconds)},
        )


def _accept_files(endpoint: str | None, _: object) -> None:
    """Files are larger than anything else that is sent here. Before anything reads the body."""
    if endpoint == "api.take":
        request.max_content_length = imports.MOST_BYTES + 100_000


def _private(response: Response) -> Response:
    response.headers.setdefault("Cache-Control", "private, no-cache")
    return response


class _Views:
    """The views. `g.me` is the person whose token is shown."""

    def __init__(self, site: Site, auth: HTTPTokenAuth) -> None:
        self._site, self._auth = site, auth

    @property
    def _me(self) -> Person:
        me: Person = g.me
        return me

    @property
    def _logs(self) -> Logs:
        return Logs(self._site.documents, self._me.id)

    @property
    def _day(self) -> date:
        return self._site.clock().astimezone(ZoneInfo(self._me.time_zone)).date()

    def workouts(self, asked: dict[str, Any]) -> Any:
        """The workouts, the newest first.

        Ask for the next page with its cursor. What is logged meanwhile moves nothing.
        """
        try:
            found, more = self._logs.page(asked["limit"], asked.get("cursor"))
        except BadCursor:
            raise refuse(422, "The cursor is none of ours.") from None
        return {"items": [_shown(each) for each in found], "next": more}

    def add(self, sent: dict[str, Any], asked: dict[str, Any]) -> Any:
        """Log a workout.

        With an `Idempotency-Key`, it can be sent again: it is logged once. Without one, a second
        workout of this activity, minute and length is refused.
        """
        workout = self._workout(asked)
        try:
            log = self._logs.add(workout, self._site.clock(), sent.get("key"))
        except UsedKey:
            raise refuse(422, "This Idempotency-Key was used for another workout.") from None
        except Exists as there:
            raise _exists(there) from None
        # At each attempt: one before may have failed here.
        note_done(self._site, self._me, [workout])
        response = _versioned(_shown(log), log.etag, 201)
        response.headers["Location"] = f"/api/v1/workouts/{log.id}"
        return response

    def workout(self, id: str) -> Any:
        """One workout.

        With `If-None-Match`, the answer is empty if nothing has changed.
        """
        log = self._log(id)
        return _versioned(_shown(log), log.etag)

    def change(self, id: str, match: dict[str, Any], asked: dict[str, Any]) -> Any:
        """Change a workout, as a whole.

        Only the version that `If-Match` names is changed.
        """
        log, workout = self._matching(id), self._workout(asked)
        try:
            changed = self._logs.change(log, workout, self._site.clock())
        except Exists as there:
            raise _exists(there) from None
        if changed is None:
            raise refuse(412, _TOLD[412])
        return _versioned(_shown(changed), changed.etag)

    def remove(self, id: str, match: dict[str, Any]) -> Any:
        """Delete a workout.

        Only the version that `If-Match` names is deleted.
        """
        if not self._logs.remove(self._matching(id)):
            raise refuse(412, _TOLD[412])
        return Response(status=204)

    def take(self, sent: dict[str, Any]) -> Any:
        """Import the workouts of a file: GPX, TCX or FIT.

        It may be compressed with gzip. Workouts that are there already are left out.
        """
        _count(self._site, f"import {self._me.id}", _IMPORTS_PER_MINUTE)
        try:
            found = take(self._site, self._me, sent["file"].stream.read(), sent.get("activity"))
        except imports.NotReadable as error:
            raise _wrong({"file": str(error)}) from None
        return vars(found) | {"added": [each.id for each in found.added]}

    def today(self) -> Any:
        """The person's day: plan, quote, totals and streak."""
        site, me, day = self._site, self._me, self._day
        with site.tables() as tables:
            plan = todays_choice(tables, site.documents, site.scores, me.id, day, site.clock())
        week = [each.workout for each in site.documents.since(me.id, weeks.monday(day))]
        return {
            "date": day,
            "plan": {
                **{n: getattr(plan.workout, n) for n in ("code", "activity", "name", "minutes")},
                "reason": plan.reason,
                "is_done": plan.is_done,
            },
            "quote": plan.quote,
            "today": _sums(each for each in week if each.local_date == day),
            "week": _sums(week),
            "streak": asdict(self._streak()),
        }

    def history(self, asked: dict[str, Any]) -> Any:
        """The days with workouts, the newest first."""
        first = self._day - timedelta(days=asked["days"] - 1)
        by_day: dict[date, list[Workout]] = {}
        for each in self._site.documents.since(self._me.id, first):
            by_day.setdefault(each.workout.local_date, []).append(each.workout)
        return {"days": [{"date": day, **_sums(done)} for day, done in by_day.items()]}

    def streak(self) -> Any:
        """Days in a row with a workout."""
        return asdict(self._streak())

    def goals(self) -> Any:
        """The goals that people can have, with the person's own amounts in a week."""
        with self._site.tables() as tables:
            return [asdict(each) for each in tables.goals(self._me.id)]

    def set_goals(self, asked: dict[str, Any]) -> Any:
        """Set the goals from today on, all of them."""
        with self._site.tables() as tables:
            known = {each.code: each.id for each in tables.goals(self._me.id)}
            wanted = {each["code"]: each["amount"] for each in asked["goals"]}
            unknown = sorted(wanted.keys() - known.keys())
            if unknown or len(wanted) < len(asked["goals"]):
                told = f"Choose each once, from {', '.join(sorted(known))}."
                raise _wrong({"goals": told})
            ids = {known[code]: Decimal(amount) for code, amount in wanted.items()}
            tables.atomically(lambda: tables.set_goals(self._me.id, ids, self._day))
            return [asdict(each) for each in tables.goals(self._me.id)]

    def settings(self) -> Any:
        """How the person wants to train and to be written to."""
        return self._settings()

    def set_settings(self, match: dict[str, Any], asked: dict[str, Any]) -> Any:
        """Change the settings, as a whole.

        Consents to messages are given by the person, on the page.
        """
        site, me = self._site, self._me
        before, at = site.documents.preferences_and_time(me.id)
        _match(_etag(before))
        told = asked["notifications"]
        is_changed = site.documents.change_preferences(
            me.id,
            replace(
                before,
                experience=asked["experience"],
                mood=asked["mood"],
                equipment=frozenset(asked["equipment"]),
                rest_days=frozenset(asked.get("rest_days", ())),
                notifications=Notifications(
                    before.notifications.channels,
                    told["reminder_at"],
                    told["best_hour"],
                    QuietHours(told["quiet_from"], told["quiet_until"]),
                    frozenset(told.get("days", range(7))),
                ),
            ),
            site.clock(),
            at,
        )
        if not is_changed:
            raise refuse(412, _TOLD[412])
        return self._settings()

    def _settings(self) -> Response:
        likes = self._site.documents.preferences(self._me.id)
        told = likes.notifications
        return _versioned(
            {
                "experience": likes.experience,
                "mood": likes.mood,
                "equipment": sorted(likes.equipment),
                "rest_days": sorted(likes.rest_days),
                "notifications": {
                    "reminder_at": f"{told.reminder_at:%H:%M}",
                    "best_hour": told.best_hour,
                    "quiet_from": f"{told.quiet.starts:%H:%M}",
                    "quiet_until": f"{told.quiet.ends:%H:%M}",
                    "days": sorted(told.days),
                },
                "time_zone": self._me.time_zone,
            },
            _etag(likes),
        )

    def _streak(self) -> Streak:
        documents, me = self._site.documents, self._me
        return streak(documents.days(me.id), self._day, documents.preferences(me.id).rest_days)

    def _log(self, id: str) -> Log:
        found = self._logs.get(id)
        if found is None:
            raise refuse(404, _TOLD[404])
        return found

    def _matching(self, id: str) -> Log:
        log = self._log(id)
        _match(log.etag)
        return log

    def _workout(self, asked: dict[str, Any]) -> Workout:
        """The workout of a request. Raises an `HTTPError` that says what is wrong with it."""
        details: dict[str, Any] = {
            name: asked[name]
            for name in (*NUMBERS, "stroke", "style")
            if asked.get(name) is not None
        }
        if asked.get("sets"):
            details["sets"] = [
                Set(each["exercise"], each["repetitions"], Decimal(each["load_kg"]))
                for each in asked["sets"]
            ]
        workout = Workout(
            asked["activity"],
            asked["started_at"],
            asked.get("time_zone") or self._me.time_zone,
            timedelta(seconds=asked["duration_seconds"]),
            Origin.API,
            asked.get("effort"),
            asked.get("note", ""),
            details,
        )
        if wrong := workout.problems(self._site.clock()):
            raise _wrong(wrong)
        return workout


def _wrong(errors: dict[str, str]) -> Exception:
    error = refuse(422, "The request has values that are of no use.")
    error.detail = {"json": {name: [told] for name, told in errors.items()}}
    return error


def _exists(there: Exists) -> Exception:
    return refuse(409, _TOLD[409], headers={"Location": f"/api/v1/workouts/{there.id}"})


def _match(etag: str) -> None:
    if not request.if_match.contains(etag):
        raise refuse(412, _TOLD[412])


def _etag(likes: Preferences) -> str:
    text = simplejson.dumps(likes.document(), sort_keys=True)
    return sha256(text.encode()).hexdigest()[:32]


def _versioned(body: dict[str, Any], etag: str, status: int = 200) -> Response:
    text = simplejson.dumps(body, default=_json, use_decimal=True, ensure_ascii=False)
    response = Response(text, status, mimetype="application/json")
    response.set_etag(etag)
    if request.method == "GET":
        response.make_conditional(request)
    return response


def _json(value: Any) -> str:
    return value.isoformat() if isinstance(value, date | datetime | time) else str(value)


def _shown(log: Log) -> dict[str, Any]:
    """A workout as the API has it."""
    workout = log.workout
    details = dict(workout.details)
    if "sets" in details:
        details["sets"] = [asdict(each) for each in details["sets"]]
    return {
        "id": log.id,
        "activity": workout.activity,
        "started_at": workout.started_at.astimezone(UTC),
        "time_zone": workout.time_zone,
        "local_date": workout.local_date,
        "duration_seconds": round(workout.duration.total_seconds()),
        "effort": workout.effort,
        "note": workout.note,
        "origin": workout.origin.value,
        "updated_at": log.updated_at.astimezone(UTC),
        "etag": log.etag,
        **details,
    }


def _sums(workouts: Iterable[Workout]) -> dict[str, Any]:
    done = [*workouts]
    return {
        unit: round(sum(weeks.done(each, unit) for each in done), 2)
        for unit in ("workouts", "minutes", "metres")
    }
