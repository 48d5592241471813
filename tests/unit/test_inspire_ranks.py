"""The rankers of the fitness application find the tastes that the generator gave to people."""

from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from seed_data.common.dice import Dice
from seed_data.inspire import truth
from seed_data.inspire.choices import WORKOUTS, Proposals
from seed_data.inspire.texts import QUOTES
from softcart_assets.lines.inspire.models import MODELS
from softcart_assets.lines.model import Ranker
from softcart_assets.ml.ranker import Known, RankerTask, RankJudgement

PEOPLE, FIRST, DAYS = 600, date(2026, 6, 1), 153
"""As many people as the demo makes proposals to, for as long."""


@pytest.fixture(scope="module")
def proposed() -> pd.DataFrame:
    """What was shown and done, by person, kind, item and month, with the traits of both."""
    dice, people = np.random.default_rng(11), np.arange(1, PEOPLE + 1)
    goals, tastes = dice.integers(0, len(truth.GOALS) + 1, PEOPLE), dice.integers(0, 8, PEOPLE)
    batch = pa.record_batch(
        {
            "user_id": people,
            "created_day": np.zeros(PEOPLE, np.int32),
            "goal_number": goals.astype(np.int32),
            "taste": tastes.astype(np.int32),
        }
    )
    first = (FIRST - date(1970, 1, 1)).days
    [rows] = Proposals(Dice(3), first, first + DAYS - 1).proposed(iter([batch]))
    found = rows.to_pandas()
    days = {day: FIRST + timedelta(days=int(day) - first) for day in found.day.unique()}
    found["month"] = found.day.map(lambda day: days[day].year * 12 + days[day].month - 1)
    counted = found.groupby(["user_id", "kind", "item", "month"], as_index=False).agg(
        shown=("is_done", "size"), taken=("is_done", "sum")
    )
    names = [*truth.GOALS, "none"]
    says = dice.random(PEOPLE) < truth.PREFERRED_MOOD
    moods = np.where(says, tastes % 3, dice.integers(0, 3, PEOPLE))
    counted["goal"] = [names[goals[user - 1]] for user in counted.user_id]
    counted["mood"] = [truth.MOODS[moods[user - 1]] for user in counted.user_id]
    return counted


def judged(model: Ranker, proposed: pd.DataFrame) -> RankJudgement:
    rows = proposed[proposed.kind == model.only[1]].sort_values(["user_id", "month", "item"])
    listed = (
        [(each.code, each.activity, each.effort.name) for each in WORKOUTS]
        if model.name == "workout"
        else [(str(key), topic, mood) for key, (_, _, topic, mood) in enumerate(QUOTES, start=1)]
    )
    columns = ["user_id", "item", "month", "shown", "taken", *model.alike]
    known = Known.of(model, sorted(listed), list(rows[columns].itertuples(index=False)))
    found = RankerTask(model).judge(known, None)
    assert found
    return found


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
def test_the_order_is_at_least_a_tenth_better_than_what_is_popular_per_goal(
    model: Ranker, proposed: pd.DataFrame
) -> None:
    found = judged(model, proposed)
    assert found.gain.value >= 0.1, found.gain
    assert found.gain.low >= 0.1, found.gain
    assert {each.name: each.passed for each in RankerTask(model).verdicts(found)} == {
        "plausible": True,
        "useful": True,
        "fair": True,
    }
    for goal, gain in found.by_group.items():
        assert gain.low > 0, goal
    assert found.own.high < float(model.ceiling.value)
