"""What is true about the people of the fitness application: habits, tastes, and how strong they
are. The generator makes the data from it, and tests find it again.
"""

from __future__ import annotations

AGE_BANDS = ((20, "under 20"), (30, "20s"), (40, "30s"), (50, "40s"), (60, "50s"), (70, "60s"))
LAST_BAND = "70 and over"

ACTIVE_DAYS = {
    "under 20": 1.9,
    "20s": 1.7,
    "30s": 2.0,
    "40s": 2.2,
    "50s": 2.5,
    "60s": 2.9,
    LAST_BAND: 2.3,
}
"""Days a week with a workout, of people who have not lapsed, in an average month and region."""

PEAK_HOURS = {
    "under 20": 19,
    "20s": 19,
    "30s": 18,
    "40s": 18,
    "50s": 9,
    "60s": 8,
    LAST_BAND: 8,
}
"""The local hour at which most workouts begin, from Monday to Friday."""

WEEKEND_LATER = 2
"""Hours by which people under 50 are later at the weekend."""

EARLY_BANDS, EARLY_HOUR, EARLY_SHARE = ("30s", "40s"), 6, 0.2
"""So many of the workouts at these ages begin early instead."""

LATE_ZONES = ("Europe/Madrid", "Europe/Rome", "Europe/Athens")
"""There, everything is an hour later."""

AROUND_PEAK = {-3: 3, -2: 7, -1: 16, 0: 42, 1: 16, 2: 10, 3: 6}
"""Hours before or after that hour, and how often."""

MONTHS = (1.25, 1.05, 0.98, 1.05, 1.22, 1.22, 0.92, 0.80, 1.00, 0.94, 0.82, 0.75)
"""Workouts of a month, January first, relative to the average: good intentions, and spring."""

MONTHLY_TREND = 1.012
"""Each month has so many times the workouts per person of the month before."""

REGIONS = {
    "Hamburg": 1.3,
    "Île-de-France": 1.3,
    "Comunidad de Madrid": 1.3,
    "Berlin": 0.75,
}
"""Workouts per person of these regions, relative to the others."""

STREAK_BONUS, LONGEST_STREAK = 0.12, 10
"""After s days in a row, the odds of a workout are 1 + 0.12 · min(s, 10) times as high."""

NEVER = 0.8
"""The share of people who register and never log a workout."""

IDLE_DAYS, LAPSE = 14, 0.4
"""After so many days without a workout, so many people stop altogether."""

RETURN, RETURN_IN_JANUARY = 1 / 1_500, 1 / 300
"""The chance of somebody who has stopped to begin again on a day."""

SPORTS = "Sports"
"""The department of the shop."""
STRENGTH_ODDS = 2.2
"""Customers who bought of it have so many times the odds of the goal `build_strength`."""

GOALS = {
    "run_5k": 0.20,
    "run_10k": 0.09,
    "lose_weight": 0.22,
    "build_strength": 0.17,
    "move_daily": 0.20,
    "sleep_better": 0.12,
}
"""The main goals of people who have one."""
NO_GOAL = 0.08

GOAL_ACTIVITIES = {
    "run_5k": ("run",),
    "run_10k": ("run",),
    "lose_weight": ("ride", "walk"),
    "build_strength": ("strength",),
    "move_daily": ("walk", "yoga"),
    "sleep_better": ("yoga", "swim"),
}
GOAL_TOPICS = {
    "run_5k": "persist",
    "run_10k": "persist",
    "lose_weight": "start",
    "build_strength": "strength",
    "move_daily": "joy",
    "sleep_better": "rest",
}
"""What suits a goal."""

ACTIVITIES = {"run": 26, "walk": 22, "ride": 16, "strength": 16, "yoga": 13, "swim": 7}
"""How often each activity is done by people without a goal."""
GOAL_PULL = 3
"""What suits the main goal is done so many times as often."""

TOPICS = ("start", "persist", "rest", "strength", "joy")
MOODS = ("calm", "firm", "bright")

TASTES = 8
TASTE_ACTIVITIES = ("run", "ride", "swim", "walk", "strength", "yoga", "run", "yoga")
"""A person of taste k likes the activities at k and k + 1, light efforts if k is even and others if
it is odd, the topic at k mod 5 and the mood at k mod 3."""
PREFERRED_MOOD = 0.7
"""So many people name the mood of their taste. The others name any."""

DONE = {
    "intercept": -1.6,
    "goal": 1.0,
    "activity": 1.8,
    "other activity": -0.8,
    "effort": 0.8,
    "other effort": -0.4,
    "topic": 1.8,
    "other topic": -0.5,
    "mood": 1.2,
    "other mood": -0.4,
}
"""The log odds that somebody does what is proposed, by what of it the person likes."""


def age_band(years: int) -> str:
    """The band of an age."""
    return next((name for below, name in AGE_BANDS if years < below), LAST_BAND)
