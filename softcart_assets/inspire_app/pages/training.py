"""Today, logging and history, goals and clubs."""

from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from flask import abort, flash, g, redirect, request, url_for
from markupsafe import Markup

from softcart_assets.inspire_app import goals as weeks
from softcart_assets.inspire_app import imports
from softcart_assets.inspire_app.clubs import joined, teams
from softcart_assets.inspire_app.pages import forms
from softcart_assets.inspire_app.pages.base import Base, page, signed_in, zone_of
from softcart_assets.inspire_app.pictures import bars, calendar
from softcart_assets.inspire_app.streaks import streak
from softcart_assets.inspire_app.taking import note_done, take
from softcart_assets.inspire_app.today import todays_choice
from softcart_assets.inspire_app.workouts import Workout

_DAY = timedelta(days=1)
_WEEKS = 13


class Training(Base):
    """See the top of this module."""

    def today(self) -> Any:
        """Today, or the first page for somebody who is not signed in."""
        if not g.me:
            return page("welcome.html")
        me, day, documents = g.me, self.day, self.site.documents
        likes = documents.preferences(me.id)
        with self.site.tables() as tables:
            plan = todays_choice(tables, documents, self.site.scores, me.id, day, self.now)
            goals = tables.goals(me.id)
            challenges = joined(tables, me.id, day)
        week = [each.workout for each in documents.since(me.id, weeks.monday(day))]
        return page(
            "today.html",
            day=day,
            plan=plan,
            streak=streak(documents.days(me.id), day, likes.rest_days),
            is_rest_day=day.weekday() in likes.rest_days,
            done=[each for each in week if each.local_date == day],
            week=week,
            minutes=sum(weeks.done(each, "minutes") for each in week),
            progress=weeks.progress(goals, week),
            teams=teams(self.site, challenges, me.id, day),
        )

    @signed_in
    def choose(self) -> Any:
        """Choose what to log."""
        return page("choose.html", activities=[*forms.FIELDS])

    @signed_in
    def log(self, activity: str) -> Any:
        """Log a workout."""
        if activity not in forms.FIELDS:
            abort(404)
        me, zone = g.me, zone_of(g.me)
        form, errors = request.form, dict[str, str]()
        if request.method == "POST":
            self.limit(f"log {me.id}", 60, by_address=False)
            workout, errors = forms.read(activity, form, zone, self.now)
            if workout and not errors:
                if self._keep(workout, is_sure=form.get("sure") == "yes"):
                    return redirect(url_for("pages.today"), 303)
                errors = {"sure": "You have logged such a workout at this time already."}
        return page(
            "log.html",
            errors,
            activity=activity,
            fields=forms.FIELDS[activity],
            sets=forms.SETS,
            started_at=self.now.astimezone(zone).strftime("%Y-%m-%dT%H:%M"),
            minutes=request.args.get("minutes", ""),
        )

    def _keep(self, workout: Workout, *, is_sure: bool) -> bool:
        if not self.site.documents.add(g.me.id, workout, self.now, again=is_sure):
            return False
        self.site.sessions.logged(g.session.id)
        note_done(self.site, g.me, [workout])
        flash("Well done. It is in your history.")
        return True

    @signed_in
    def take_in(self) -> Any:
        """Import workouts from a file of another application."""
        if request.method == "GET":
            return page("import.html")
        # Reading one takes processor time.
        self.limit(f"import {g.me.id}", 6, by_address=False)
        file, activity = request.files.get("file"), request.form.get("activity") or None
        try:
            taken = take(self.site, g.me, file.read() if file else b"", activity)
        except imports.NotReadable as error:
            return page("import.html", {"file": str(error)})
        if taken.added:
            self.site.sessions.logged(g.session.id, len(taken.added))
        return page("imported.html", taken=taken)

    @signed_in
    def history(self, month: str = "") -> Any:
        """What somebody has done: pictures, and a month's workouts."""
        day = self.day
        try:
            first = date.fromisoformat(f"{month}-01") if month else day.replace(day=1)
        except ValueError:
            abort(404)
        # Before it, nobody has logged anything, and before the year 1 there is no month.
        if first.year < 1970:
            abort(404)
        since = min(first, weeks.monday(day) - (_WEEKS - 1) * weeks.WEEK)
        found = self.site.documents.since(g.me.id, since)
        made = [each.workout for each in found]
        days = self.site.documents.days(g.me.id)
        rest = self.site.documents.preferences(g.me.id).rest_days
        by_week = [
            (f"{monday.day} {monday:%b}", n) for monday, n in weeks.workouts_by_week(made, day, 8)
        ]
        return page(
            "history.html",
            kept=[each for each in found if _month(each.workout.local_date) == _month(first)],
            month=first,
            before=first - _DAY,
            after=(first + 31 * _DAY) if _month(first) < _month(day) else None,
            days=len(days),
            streak=streak(days, day, rest),
            weeks=Markup(bars("Workouts per week", by_week, "workouts")),
            squares=Markup(calendar("Your last 13 weeks", weeks.minutes_by_day(made), day, _WEEKS)),
        )

    @signed_in
    def workout(self, id: str) -> Any:
        """One workout."""
        kept = self.site.documents.get(g.me.id, id)
        if kept is None:
            abort(404)
        done = kept.workout
        return page(
            "workout.html",
            kept=kept,
            began=done.started_at.astimezone(ZoneInfo(done.time_zone)),
            fields=forms.FIELDS[done.activity],
            pace=forms.pace(done),
        )

    @signed_in
    def remove(self, id: str) -> Any:
        """Delete a workout."""
        if self.site.documents.remove(g.me.id, id):
            flash("The workout is deleted.")
        return redirect(url_for("pages.history"), 303)

    @signed_in
    def goals(self) -> Any:
        """Set goals."""
        errors: dict[str, str] = {}
        with self.site.tables() as tables:
            if request.method == "POST":
                wanted: dict[int, Decimal] = {}
                for goal in tables.goals(g.me.id):
                    text = request.form.get(f"goal{goal.id}", "").strip()
                    amount = forms.number(text) if text else None
                    if text and (amount is None or not 0 < amount <= 10_000):
                        errors[f"goal{goal.id}"] = "Write a number, such as 20."
                    elif amount:
                        factor = 1000 if goal.unit == "metres" else 1
                        wanted[goal.id] = (amount * factor).quantize(Decimal("0.01"))
                if not errors:
                    tables.atomically(lambda: tables.set_goals(g.me.id, wanted, self.day))
                    flash("Your goals are saved.")
                    return redirect(url_for("pages.today"), 303)
            return page("goals.html", errors, goals=tables.goals(g.me.id))

    @signed_in
    def clubs(self) -> Any:
        """Clubs, and how far they have come."""
        with self.site.tables() as tables:
            if request.method == "POST":
                self.limit(f"clubs {g.me.id}", 30, by_address=False)
                club = request.form.get("club", "")
                if club.isascii() and club.isdecimal() and len(club) < 18:
                    if request.form.get("leave"):
                        tables.leave(g.me.id, int(club))
                    else:
                        tables.join(g.me.id, int(club), self.now)
                return redirect(url_for("pages.clubs"), 303)
            clubs, challenges = tables.clubs(g.me.id), joined(tables, g.me.id, self.day)
        return page(
            "clubs.html", clubs=clubs, teams=teams(self.site, challenges, g.me.id, self.day)
        )


def _month(day: date) -> str:
    return f"{day:%Y-%m}"
