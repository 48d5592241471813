"""The Spark jobs of the fitness application: `spark/jobs/inspire/<name>.py` makes a table."""

from softcart_assets.lines.model import AddsUp, Job, Published

JOBS = (
    Job(
        "agg_engagement_by_user_month",
        inputs=(
            "inspire_docs.activity_logs",
            "inspire.users",
            "inspire.user_goals",
            "inspire.goals",
            "inspire_sessions.sessions",
        ),
        key=("user_id", "month"),
        # A session that has expired is in no table any more.
        history=("inspire_sessions.sessions",),
    ),
    Job(
        "agg_peak_hours_by_zone_age_hour",
        inputs=("inspire_docs.activity_logs", "inspire.users"),
        key=("time_zone", "age_band", "hour"),
    ),
    Job(
        "agg_choices_by_user_item_month",
        inputs=(
            "inspire.choices",
            "inspire.user_goals",
            "inspire.goals",
            "inspire.quotes",
            "inspire_docs.preferences",
        ),
        key=("user_id", "kind", "item", "month"),
        # What somebody likes to read changes, and a month goes by what was known before it.
        history=("inspire_docs.preferences",),
    ),
)

AGGREGATES = (
    Published(
        "agg_engagement_by_user_month",
        indexes=(("month",),),
        # Made of what is sensitive at the source: when and how much somebody trains, and why.
        sensitive=("month", "goal_code", "workout_count", "active_days", "latest_at"),
        pii=("session_count",),
        # Nobody may have trained yet.
        may_be_empty=True,
        adds_up=(AddsUp("duration_seconds", "fct_activity", "duration_seconds"),),
    ),
    # There may be fewer than 10 people.
    Published(
        "agg_peak_hours_by_zone_age_hour",
        not_pii=dict.fromkeys(
            (
                *("time_zone", "age_band", "hour", "workout_count", "weekend_workout_count"),
                *("people_count", "is_best"),
            ),
            "Each hour is of ten people or more, and tells of none of them.",
        ),
        may_be_empty=True,
    ),
)
