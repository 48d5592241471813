"""How people spell what other lines know of them, too, and how often things happen."""

KNOWN_PERSON = 0.35
"""People whom other lines know, see `seed_data.common.people`."""
EMAIL_OTHER = 0.24
"""They gave us another address than other lines. Everybody has one."""
EMAIL_CAPITALS = 0.08
PHONE_MISSING = 0.08
PHONE_OTHER = 0.12
NAME_CAPITALS = 0.05
NAME_SWAPPED = 0.06
NAME_INITIAL = 0.05
NAME_LATIN = 0.05
BIRTH_DATE_MISSING = 0.1

DELETED = 0.01
"""People who deleted their account. Nothing of them is left but a row without a name."""
TWICE_A_DAY = 0.07
"""Days with a workout that have a second one."""
TRAVELLING = 0.02
"""Workouts in another time zone."""
CORRECTED = 0.03
"""Workouts that were changed within a day."""

CONSENTS = {
    ("email", "reminder"): 0.5,
    ("email", "quote"): 0.3,
    ("email", "news"): 0.35,
    ("sms", "reminder"): 0.12,
}
WITHDRAWN = 0.12
OPENED, CLICKED, UNSUBSCRIBED = 0.45, 0.12, 0.002
BOUNCED = 0.004
"""Of mails that were sent."""
PROPOSED_TO = 0.28
"""People who look at the proposals of the day, every second day."""
