"""What the operational data store keeps of the application's workouts."""

from typing import Final

from softcart_assets.lines.model import RunningTotal

ACTIVE_DAYS: Final = RunningTotal(
    "active_days",
    "What a person did on a day: workouts, seconds and metres. The day is that of the place.",
    table="activity_logs",
    key="user_id",
    measures={"workouts": "*", "seconds": "duration_seconds", "metres": "distance_m"},
    # Today, a week, a streak and a challenge of a club are all sums over days.
    by="local_date",
)
