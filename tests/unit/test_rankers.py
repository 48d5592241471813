"""Rankers on made-up people whose tastes are known: the judgement, and what keeps one away."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from support.ranks import RANKER, events, items

from softcart_assets.assembly import DeclarationError, assemble
from softcart_assets.lines.conformed import LINE as CONFORMED
from softcart_assets.lines.model import Job, Limit, Line
from softcart_assets.ml import rank
from softcart_assets.ml.rank import Examples, RankJudgement, ndcg
from softcart_assets.ml.ranker import Known, RankerTask
from softcart_assets.ml.registry import Version

ITEMS = items()
TASK = RankerTask(RANKER)


@cache
def known(**changed: float) -> Known:
    found, _ = events(ITEMS, **changed)
    return Known(ITEMS, found, ({f"goal {number}": number for number in range(6)},))


def judged(of: Known, champion: rank.Trees | None = None) -> RankJudgement:
    found = TASK.judge(of, champion)
    assert found
    return found


def passed(found: RankJudgement, task: RankerTask = TASK) -> dict[str, bool]:
    return {each.name: each.passed for each in task.verdicts(found)}


@pytest.fixture(scope="module")
def sound() -> RankJudgement:
    return judged(known())


def test_an_order_by_taste_is_better_than_what_is_popular_per_goal(sound: RankJudgement) -> None:
    assert sound.gain.value >= 0.1
    assert sound.gain.low > 0.1
    assert sound.by_group.keys() == {f"goal {number}" for number in range(6)}
    assert min(each.value for each in sound.by_group.values()) >= 0.1
    assert sound.by_month.keys() == {"2026-04", "2026-05"}
    # What similar people do helps, and so does what the person did.
    assert sound.alone["similar"].low > sound.popular.high
    assert sound.own.low > sound.alone["own"].high
    assert passed(sound) == {"plausible": True, "useful": True, "fair": True}


def test_an_order_comes_close_to_that_of_the_true_probabilities(sound: RankJudgement) -> None:
    found, truth = events(ITEMS)
    is_late = found.months >= found.months.max() - 1
    late = found.of(is_late)
    _, groups = np.unique(late.subjects * 10**6 + late.months, return_inverse=True)
    none = np.zeros(groups.max() + 1, np.int64)
    of = Examples(
        np.zeros((len(groups), 0)), groups * 0.0, (late.taken > 0) * 1.0, groups, none, none, none
    )
    oracle = ndcg(truth[is_late], of)[of.is_told].mean()
    assert sound.own.value < oracle
    assert sound.gain.value >= 0.75 * (oracle / sound.popular.value - 1)


def test_ndcg_is_that_of_scikit_learn() -> None:
    from sklearn.metrics import ndcg_score

    dice = np.random.default_rng(3)
    taken, values = (dice.random((20, 25)) < 0.4) * 1.0, dice.random((20, 25))
    groups, none = np.repeat(np.arange(20), 25), np.zeros(20, np.int64)
    of = Examples(
        np.zeros((500, 0)), np.zeros(500), taken.ravel(), groups, np.arange(20), none, none
    )
    wanted = [ndcg_score([t], [v], k=10) for t, v in zip(taken, values, strict=True)]
    assert ndcg(values.ravel(), of) == pytest.approx(wanted)


def test_a_month_is_predicted_from_earlier_ones() -> None:
    """What happens in a month, or after it, changes no order of it."""
    of, _ = events(ITEMS)
    last = int(of.months.max())
    before = rank.examples(ITEMS, of, last - 1)
    other = of.taken.copy()
    other[of.months >= last - 1] = 0
    after = rank.examples(ITEMS, replace(of, taken=other), last - 1)
    assert (before.values == after.values).all()
    other[of.months == last - 2] = 0
    assert (rank.examples(ITEMS, replace(of, taken=other), last - 1).values != before.values).any()


def test_where_all_are_alike_there_is_nothing_to_gain_and_the_check_fails() -> None:
    found = judged(known(taste=0))
    assert found.gain.value < 0.1
    assert passed(found)["useful"] is False


def test_an_order_that_is_too_good_to_be_true_fails(sound: RankJudgement) -> None:
    low = replace(RANKER, ceiling=Limit(Decimal("0.75"), "Taste is chance."))
    assert passed(sound, RankerTask(low))["plausible"] is False
    [verdict] = [e for e in RankerTask(low).verdicts(sound) if e.name == "plausible"]
    assert "Too good: the model" in verdict.message


def test_a_group_that_is_worse_off_fails(sound: RankJudgement) -> None:
    poor = replace(sound.gain, value=-0.05, low=-0.08, high=-0.01)
    found = replace(sound, by_group={**sound.by_group, "goal 2": poor})
    assert passed(found)["fair"] is False


def test_a_champion_is_compared_in_months_that_are_new_to_it() -> None:
    of = known()

    def early(known: Known) -> Known:
        months = known.events.months
        return Known(ITEMS, known.events.of(months < months.max()), known.alike)

    found = judged(of, TASK.fit(early(of)))
    assert found.ahead
    # It knows as much as what is judged.
    assert found.ahead.low <= 0 <= found.ahead.high
    assert passed(found)["useful"]
    # Of guests without taste it has learned little.
    poor = judged(of, TASK.fit(early(known(taste=0)))).ahead
    assert poor
    assert poor.low > 0
    # It knows all months: what it has learned by heart is no measure.
    assert judged(of, TASK.fit(of)).ahead is None
    worse = replace(found, ahead=replace(found.ahead, high=-0.01))
    assert passed(worse)["useful"] is False


def test_a_model_is_data_and_the_same_again() -> None:
    of = known()
    fitted, again = TASK.fit(of), TASK.fit(of)
    assert fitted.text() == again.text()
    read = TASK.read(fitted.text())
    values = rank.examples(ITEMS, of.events, int(of.events.months.max())).values[:50]
    assert (read.values(values) == fitted.values(values)).all()
    assert sum(fitted.importance.values()) == pytest.approx(1)
    assert TASK.digest(of) == TASK.digest(known())
    assert TASK.digest(of) != TASK.digest(known(seed=6))


def test_too_little_is_no_judgement() -> None:
    assert TASK.judge(known(people=20), None) is None
    assert TASK.judge(known(months=2), None) is None


def test_the_report_has_pictures_and_figures(sound: RankJudgement, tmp_path: Path) -> None:
    from softcart_assets.ml import report
    from softcart_assets.ml.pictures import draw

    files = draw("dish", TASK.charts(sound), tmp_path / "models")
    assert [each.stem for each in files] == [
        "dish-ndcg",
        "dish-gain-by-group",
        "dish-gain-by-month",
    ]
    version = Version(3, "", sound.figures, TASK.verdicts(sound), TASK.fit(known()).text())
    page = tmp_path / "model_dish.html"
    report.write(RANKER, TASK, sound, version, 3, files, page)
    text = " ".join(page.read_text(encoding="utf-8").split())
    assert "Version <strong>3</strong>, the champion" in text
    assert text.count('<img src="data:image/png;base64,') == 3
    assert f'<p class="value">{100 * sound.gain.value:.1f}%</p>' in text
    assert "goal 5" in text


def test_a_ranker_needs_events_by_subject_item_and_month() -> None:
    job = Job("agg_dishes", (), ("guest_id", "month"))
    line = Line("cafe", "Cafés.", owner="team:cafe", models=(RANKER,), jobs=(job,))
    with pytest.raises(DeclarationError, match="one row per guest_id, kind, item and month"):
        assemble([CONFORMED, line])
    odd = replace(RANKER, reasons={"weather": "It rains."})
    with pytest.raises(DeclarationError, match="has reasons for weather"):
        assemble([CONFORMED, replace(line, models=(odd,))])
