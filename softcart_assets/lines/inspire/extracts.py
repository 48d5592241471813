"""The extracts of the fitness application. Each names its grain.

Months are local. An implausible date is in the month 1900-01.
"""

from __future__ import annotations

from softcart_assets.lines.inspire.groups import engagement
from softcart_assets.lines.model import Extract

_BY_REGION = f"({engagement('region')}) f"
_ENGAGED = "FROM production.agg_engagement_by_user_month"


def _told(half: str) -> str:
    """The rows of the aggregate whose months the extract tells."""
    months = f"SELECT f.month FROM {_BY_REGION} WHERE f.is_told AND f.{half} > 0"
    return f"{_ENGAGED} WHERE {half} > 0 AND month IN ({months})"


EXTRACTS: tuple[Extract, ...] = (
    Extract(
        "ext_engagement_monthly",
        "Workouts, active people and sessions per month and region of today. In a month, regions "
        "with fewer than 10 active people, or 10 with a session, are Other, and with them the next "
        "smallest. Months with fewer are left out likewise.",
        {
            "month": "First day of the month.",
            "region": "Where the person lives today; Other for small regions.",
            "active_count": "People with a workout. Do not add up over months.",
            "workout_count": "Workouts.",
            "active_days": "Local days with a workout, of each person.",
            "duration_seconds": "How long the workouts lasted.",
            "distance_m": "Metres.",
            "session_count": "Sessions, those included that have expired.",
            "page_views": "Pages seen in them.",
        },
        f"""
        SELECT f.month, f.part AS region, count(*) FILTER (WHERE f.workout_count > 0)
                 AS active_count,
               sum(f.workout_count)::bigint AS workout_count,
               sum(f.active_days)::bigint AS active_days,
               sum(f.duration_seconds)::bigint AS duration_seconds,
               sum(f.distance_m)::numeric(24, 3) AS distance_m,
               sum(f.session_count)::bigint AS session_count,
               sum(f.page_views)::bigint AS page_views
        FROM {_BY_REGION} WHERE f.is_told
        GROUP BY f.month, f.part ORDER BY f.month, f.part
        """,
        totals={
            "workout_count": f"sum(workout_count) {_told('workout_count')}",
            "duration_seconds": f"sum(duration_seconds) {_told('workout_count')}",
            "active_count": f"count(*) {_told('workout_count')}",
            "session_count": f"sum(session_count) {_told('session_count')}",
        },
    ),
    Extract(
        "ext_peak_hours",
        "Workouts per time zone, age band and hour of the local day. Groups and hours of "
        "fewer than 10 people are left out, and with them the next smallest.",
        {
            "time_zone": "Zone of the person today; all for all zones.",
            "age_band": "Such as 30s; all for all ages.",
            "hour": "Hour of the local day, 0 to 23, in which 10 people or more have trained.",
            "workout_count": "Workouts that began in it. Rows of all hold those of the others.",
            "weekend_workout_count": "Those of them on Saturday and Sunday.",
            "people_count": "People of the zone and band with a workout. Do not add up over hours.",
            "is_best": "Whether the group has most workouts in this hour. Hours that are left out "
            "count, so a group may have no such row.",
        },
        """
        SELECT time_zone, age_band, hour, workout_count, weekend_workout_count, people_count,
               is_best
        FROM production.agg_peak_hours_by_zone_age_hour
        ORDER BY time_zone, age_band, hour
        """,
        totals={
            "workout_count": "sum(workout_count) FROM production.agg_peak_hours_by_zone_age_hour",
        },
    ),
    Extract(
        "ext_messages_monthly",
        "Messages per month, channel and purpose, and what became of them.",
        {
            "month": "First day of the local month in which it was sent or, if not, made.",
            "channel": "email or sms.",
            "purpose": "account, reminder, quote or news.",
            "message_count": "Messages.",
            "sent_count": "Those that were sent.",
            "delivered_count": "Those that arrived.",
            "opened_count": "Those that were opened, as far as programs of mail tell.",
            "clicked_count": "Those whose link was followed.",
            "unsubscribed_count": "Those that were answered by unsubscribing.",
        },
        """
        SELECT date_trunc('month', message_date)::date AS month, channel, purpose,
               count(*) AS message_count, count(sent_at) AS sent_count,
               count(*) FILTER (WHERE is_delivered) AS delivered_count,
               count(*) FILTER (WHERE is_opened) AS opened_count,
               count(*) FILTER (WHERE is_clicked) AS clicked_count,
               count(*) FILTER (WHERE is_unsubscribed) AS unsubscribed_count
        FROM production.fct_messages
        GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
        """,
        totals={
            "message_count": "count(*) FROM production.fct_messages",
            "sent_count": "count(sent_at) FROM production.fct_messages",
        },
    ),
)
