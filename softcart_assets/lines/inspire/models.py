"""The models of the fitness application: what people like to do and to read."""

from decimal import Decimal

from softcart_assets.lines.model import Limit, Published, Ranker

_CEILING = Limit(
    Decimal("0.92"),
    "Whether somebody does what is proposed depends on the day, too. With the true probabilities "
    "of the made-up people the NDCG@10 is about 0.87.",
)
_FEATURES = "agg_choices_by_user_item_month"

MODELS = (
    Ranker(
        "workout",
        "Which workouts each person is likely to do.",
        features=_FEATURES,
        subject="user_id",
        item="item",
        only=("kind", "workout"),
        alike=("goal",),
        traits=("activity_or_topic", "effort_or_mood"),
        reasons={
            "popular": "Many people like it.",
            "goal": "It goes with your goal.",
            "own": "You have done it often.",
            "activity_or_topic": "You often do such workouts.",
            "effort_or_mood": "It is as hard as you like it.",
            "similar": "People who train like you like it.",
        },
        ceiling=_CEILING,
    ),
    Ranker(
        "quote",
        "Which quotes each person likes.",
        features=_FEATURES,
        subject="user_id",
        item="item",
        only=("kind", "quote"),
        alike=("goal", "mood"),
        traits=("activity_or_topic", "effort_or_mood"),
        reasons={
            "popular": "Many people like it.",
            "goal": "It goes with your goal.",
            "mood": "It is in the mood that you like.",
            "activity_or_topic": "You like its topic.",
            "effort_or_mood": "You like its tone.",
            "similar": "People who like what you like like it.",
        },
        # No quote comes twice in 30 days, so the first ones are soon used up.
        places=45,
        ceiling=_CEILING,
    ),
)

_NOT_PERSONAL = dict.fromkeys(
    ("place", "score", "reason"),
    "It is an order of what everybody may see, and tells of nobody without the person.",
)

SCORES = tuple(
    # There are no orders before the first model has passed its checks.
    Published(model.scores, not_pii=_NOT_PERSONAL, may_be_empty=True)
    for model in MODELS
)
