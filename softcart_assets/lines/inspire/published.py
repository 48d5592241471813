"""What the fitness application publishes."""

from softcart_assets.lines.model import Published

PUBLISHED = (
    Published("dim_activity"),
    Published("dim_fitness_goal"),
    # An application that is new has none of these yet.
    Published(
        "fct_activity",
        indexes=(("activity_date",), ("customer_id",)),
        totals=("distance_m", "ascent_m", "load_kg", "duration_seconds"),
        latest="started_at",
        pii=("age_years",),
        # Made of what is sensitive at the source: when and how somebody trains. The dimensions
        # would tell whoever has the keys. So would the goal why.
        sensitive=(
            *("activity_date", "time_of_day_key", "activity_key", "load_kg"),
            *("fitness_goal_key", "goal_id"),
        ),
        may_be_empty=True,
    ),
    Published(
        "fct_app_sessions",
        indexes=(("session_date",), ("customer_id",)),
        totals=("page_views", "workouts_logged"),
        latest="started_at",
        may_be_empty=True,
    ),
    Published(
        "fct_messages",
        indexes=(("message_date",), ("customer_id",)),
        totals=("attempt_count",),
        latest="created_at",
        may_be_empty=True,
    ),
)
