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
)

AGGREGATES = (
    Published(
        "agg_engagement_by_user_month",
        indexes=(("month",),),
        pii=("user_id",),
        not_pii=dict.fromkeys(
            ("duration_seconds", "distance_m"), "They tell of nobody without the person."
        ),
        adds_up=(AddsUp("duration_seconds", "fct_activity", "duration_seconds"),),
    ),
    # There may be fewer than 10 people.
    Published(
        "agg_peak_hours_by_zone_age_hour",
        not_pii={"time_zone": "It is that of ten people or more."},
        may_be_empty=True,
    ),
)
