"""The quotes, and what people write about workouts."""

from __future__ import annotations

from seed_data.inspire.truth import MOODS, TOPICS

QUOTES_EACH = 6
"""Quotes of each topic and mood."""

_SAYINGS = {
    "start": (
        ("The first step", "asks for nothing but itself"),
        ("A beginning", "is smaller than the fear of it"),
        ("Your shoes by the door", "are half of the way"),
        ("Ten minutes", "are enough to be somebody who trains"),
        ("Today’s start", "needs no plan for tomorrow"),
        ("Every runner", "was once out of breath at the corner"),
    ),
    "persist": (
        ("The tenth time", "is the one that makes a habit"),
        ("A slow mile", "is as long as a fast one"),
        ("What you repeat", "is what you become"),
        ("The hill", "ends before your will does"),
        ("An ordinary day", "is where strength is kept"),
        ("Going on", "is a skill like any other"),
    ),
    "rest": (
        ("Rest", "is the part of training that happens lying down"),
        ("A quiet day", "builds what a hard day has broken"),
        ("Sleep", "is the cheapest coach"),
        ("The pause", "belongs to the music"),
        ("Stillness", "is also a way to move on"),
        ("Who rests in time", "comes back in time"),
    ),
    "strength": (
        ("The bar", "weighs less each week that you lift it"),
        ("Strength", "is patience that you can see"),
        ("Strong legs", "carry a light mind"),
        ("One more repetition", "is a promise that you keep"),
        ("Effort", "leaves nothing behind but power"),
        ("A steady back", "makes a steady day"),
    ),
    "joy": (
        ("Moving", "is the oldest way to be glad"),
        ("The wind in your face", "is applause"),
        ("A good stretch", "is a smile of the whole body"),
        ("Play", "and the training comes by itself"),
        ("Fresh air", "is the best company"),
        ("Dancing in the kitchen", "counts"),
    ),
}
_ENDINGS = {"calm": ". Breathe, and begin.", "firm": ". So go.", "bright": ". Enjoy it!"}
_AUTHORS = ("SoftCart", "Mara Lindqvist", "Tomaso Verdi", "SoftCart", "Ines Aldana", "SoftCart")
"""The authors are made up, like the sentences."""

QUOTES = tuple(
    (
        f"{subject} {rest}{_ENDINGS[mood]}",
        _AUTHORS[number % len(_AUTHORS)],
        topic,
        mood,
    )
    for topic in TOPICS
    for mood in MOODS
    for number, (subject, rest) in enumerate(_SAYINGS[topic])
)
"""Text, author, topic and mood. The number of a quote is its place from 1."""

NOTES = (
    "Felt good today.",
    "Legs were heavy, mind was light.",
    "Rain, but no excuse 🌧",
    "Neue Schuhe, endlich!",
    "Avec le chien 🐕",
    "Too warm for this pace…",
    "Personal best!",
    "Short on time.",
)

EXERCISES = (
    ("squat", 60),
    ("deadlift", 70),
    ("bench press", 45),
    ("row", 40),
    ("overhead press", 28),
    ("lunge", 24),
    ("kettlebell swing", 16),
    ("biceps curl", 12),
)
"""Exercises of strength and the usual load, kilograms."""

WORDING = "Yes, send me messages for this purpose. I can take it back at any time."
