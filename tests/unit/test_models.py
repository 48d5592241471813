"""Models on made-up rows whose true probabilities are known: the judgement, the registry."""

from __future__ import annotations

import time
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
from support.models import MODEL, rows

from softcart_assets.assembly import DeclarationError, assemble
from softcart_assets.lines.conformed import LINE as CONFORMED
from softcart_assets.lines.model import Classifier, Feature, Job, Limit, Line
from softcart_assets.ml import fit, registry
from softcart_assets.ml.classifier import ClassifierTask
from softcart_assets.ml.judge import Judgement, Rows, auc, judge, predictions, verdicts
from softcart_assets.ml.registry import NotSound, Registry, RegistryFailed, Version
from softcart_assets.ml.sampling import Interval


def judged(model: Classifier, of: Rows) -> Judgement:
    found = judge(model, of)
    assert found
    return found


def passed(found: Judgement, model: Classifier = MODEL) -> dict:
    return {each.name: each.passed for each in verdicts(model, found)}


@pytest.fixture(scope="module")
def sound() -> Judgement:
    return judged(MODEL, rows()[0])


def test_a_model_comes_close_to_the_true_probabilities(sound: Judgement) -> None:
    of, truth = rows()
    oracle = auc(
        truth[-sound.rows :], of.targets[-sound.rows :].astype(bool), np.ones((1, sound.rows))
    )
    assert sound.auc.value - 0.5 >= 0.95 * (oracle.value - 0.5)
    assert sound.calibration_error <= 0.02
    assert passed(sound) == {"plausible": True, "calibrated": True, "useful": True}


def test_auc_is_that_of_scikit_learn_also_with_equal_predictions() -> None:
    from sklearn.metrics import roc_auc_score

    dice = np.random.default_rng(3)
    predicted, targets = dice.integers(0, 9, 500) / 9, dice.random(500) < 0.3
    weights = dice.integers(0, 4, (2, 500)).astype(float)
    found = auc(predicted, targets, weights)
    assert found.value == pytest.approx(roc_auc_score(targets, predicted))
    ends = sorted(roc_auc_score(targets, predicted, sample_weight=each) for each in weights)
    low, high = np.percentile(ends, [2.5, 97.5])
    assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))


def test_an_interval_holds_what_other_samples_find(sound: Judgement) -> None:
    found = []
    for seed in range(20, 32):
        predicted, of = predictions(MODEL, rows(seed)[0])
        alone = np.ones((1, len(predicted)))
        found.append(auc(predicted, of.targets.astype(bool), alone).value)
    assert sum(sound.auc.low <= each <= sound.auc.high for each in found) >= 9
    assert sound.auc.high - sound.auc.low < 0.05


def test_a_month_is_predicted_from_months_that_were_over_at_its_cut_off() -> None:
    """The gap month and the month itself teach nothing: what is in them changes no prediction."""
    of, _ = rows()
    model = replace(MODEL, test_months=1)
    told, _ = predictions(model, of)
    other = of.targets.copy()
    other[of.months >= of.months.max() - 1] = 0
    assert (predictions(model, replace(of, targets=other))[0] == told).all()
    other[of.months == of.months.max() - 2] = 0
    assert (predictions(model, replace(of, targets=other))[0] != told).any()


def test_a_leaking_column_fails() -> None:
    model = replace(MODEL, inputs=(*MODEL.inputs, Feature("after", "What came later: {}")))
    found = judged(model, rows(planted=0.9)[0])
    [plausible] = [each for each in verdicts(model, found) if each.name == "plausible"]
    assert not plausible.passed
    assert "Too good: after" in plausible.message


def test_an_auc_above_the_oracle_fails_though_no_column_alone_is() -> None:
    """Two columns that leak together: each alone is noise, their difference is the target."""
    model = replace(MODEL, inputs=(Feature("one", "{}"), Feature("other", "{}")))
    of, _ = rows()
    noise = np.random.default_rng(1).normal(size=len(of.targets)) * 5
    found = judged(model, replace(of, values=np.column_stack([noise, noise + of.targets])))
    assert max(each.low for each in found.alone.values()) < 0.8
    assert found.auc.low > 0.8
    assert passed(found, model)["plausible"] is False


def test_an_auc_above_the_ceiling_by_chance_alone_passes(sound: Judgement) -> None:
    between = Limit(Decimal(str((sound.auc.low + sound.auc.value) / 2)), "Just below it.")
    assert passed(sound, replace(MODEL, ceiling=between))["plausible"]
    below = Limit(Decimal(str(sound.auc.low - 0.01)), "Well below it.")
    assert not passed(sound, replace(MODEL, ceiling=below))["plausible"]


def test_probabilities_that_are_twice_too_high_fail() -> None:
    """The target became rare: what earlier months teach is wrong now."""
    of, _ = rows()
    late = of.months >= of.months.max() - 4
    rare = np.where(late & (np.arange(len(of.targets)) % 4 > 0), 0, of.targets)
    assert passed(judged(MODEL, replace(of, targets=rare)))["calibrated"] is False


@pytest.mark.parametrize("share", [0.1, 0.4])
def test_probabilities_of_a_rare_target_that_are_wrong_by_half_fail(share: float) -> None:
    """With 2 per cent of true targets, their distance from what happens is within the limit."""
    of, _ = rows()
    chance = np.random.default_rng(4).random(len(of.targets))
    late = of.months >= of.months.max() - 4
    found = judged(MODEL, replace(of, targets=of.targets * (chance < np.where(late, share, 0.2))))
    assert found.calibration_error <= 0.02
    assert passed(found)["calibrated"] is False


def test_features_that_say_nothing_fail() -> None:
    of, _ = rows()
    noise = np.random.default_rng(2).random(of.values.shape)
    assert passed(judged(MODEL, replace(of, values=noise)))["useful"] is False


def test_a_candidate_that_is_worse_than_the_champion_on_the_same_rows_fails(
    sound: Judgement,
) -> None:
    by_chance = replace(sound, ahead=Interval(-0.01, -0.02, 0.001))
    assert passed(by_chance)["useful"]
    worse = replace(sound, ahead=Interval(-0.01, -0.02, -0.001))
    assert not passed(worse)["useful"]
    # Without its features the champion cannot be asked.
    of, _ = rows()
    champion = fit.fit(MODEL.inputs, of.values, of.targets.astype(bool))
    bare = judge(replace(MODEL, inputs=MODEL.inputs[:1]), replace(of, values=of.values[:, :1]))
    assert bare
    assert bare.ahead is None
    same = judge(MODEL, of, champion)
    assert same
    assert same.ahead
    assert same.ahead.low <= 0 <= same.ahead.high + 0.001


def test_a_champion_whose_time_is_over_does_not_stay_for_its_old_figures() -> None:
    """The world got harder: every candidate is worse than the champion was, and better than it
    is."""
    of, _ = rows()
    champion = fit.fit(MODEL.inputs, of.values, of.targets.astype(bool))
    # The first feature says the opposite now.
    turned = replace(of, values=of.values.max(axis=0) - of.values)
    found = judge(MODEL, turned, champion)
    assert found
    assert found.ahead
    assert found.ahead.low > 0
    assert passed(found)["useful"]


def test_too_few_true_targets_are_no_judgement() -> None:
    of, _ = rows()
    assert judge(MODEL, of.of(of.subjects < 20)) is None
    assert judge(MODEL, of.of(of.subjects < 0)) is None


def test_contributions_add_up_to_the_log_odds_and_average_out() -> None:
    of, _ = rows()
    fitted = fit.fit(MODEL.inputs, of.values, of.targets.astype(bool))
    added, probabilities = fitted.contributions(of.values), fitted.probabilities(of.values)
    odds = np.log(probabilities / (1 - probabilities))
    assert odds == pytest.approx(added.sum(axis=1) + fitted.intercept)
    assert added.mean(axis=0) == pytest.approx([0, 0], abs=1e-9)
    assert fit.read(fitted.text()) == fitted


@pytest.fixture
def registered(tmp_path: Path) -> Registry:
    return Registry(f"sqlite:///{tmp_path}/registry.db", (tmp_path / "files").as_uri())


def test_champion_moves_to_sound_versions_only(registered: Registry, sound: Judgement) -> None:
    of, _ = rows()
    fitted = fit.fit(MODEL.inputs, of.values, of.targets.astype(bool))
    good = verdicts(MODEL, sound)
    bad = verdicts(replace(MODEL, ceiling=Limit(Decimal("0.6"), "Too low.")), sound)
    assert registered.champion("thirst") is None
    first = registered.add("thirst", fitted.text(), "rows 1", sound.figures, good)
    assert registered.candidate("thirst") is None, "it is not settled yet"
    registered.settle("thirst", first)
    second = registered.add("thirst", fitted.text(), "rows 2", sound.figures, bad)
    registered.settle("thirst", second)
    champion, candidate = registered.champion("thirst"), registered.candidate("thirst")
    assert champion
    assert (champion.number, champion.made_from) == (first.number, "rows 1")
    assert candidate
    assert (candidate.number, candidate.made_from) == (second.number, "rows 2")
    assert [(each.name, each.passed) for each in candidate.verdicts] == [
        ("calibrated", True),
        ("plausible", False),
        ("useful", True),
    ]
    assert fit.read(champion.text) == fitted
    assert champion.figures["auc"] == pytest.approx(sound.auc.value)
    with pytest.raises(NotSound, match=f"Version {second.number} of thirst.*plausible"):
        registered.promote("thirst", second)
    with pytest.raises(NotSound, match="never judged"):
        registered.promote("thirst", replace(first, verdicts=[]))


# Port 1 refuses. MLflow would try for 100 seconds.
@pytest.mark.parametrize("server", ["nonsense://user:secret@db", "postgresql://me:secret@[::1]:1"])
def test_a_registry_that_is_not_there_names_its_setting_and_no_password(
    server: str, tmp_path: Path
) -> None:
    uri, started = f"{server}/mlflow", time.monotonic()
    with pytest.raises(RegistryFailed, match=registry.URI) as raised:
        Registry(uri, tmp_path.as_uri()).champion("thirst")
    assert "secret" not in str(raised.value)
    assert time.monotonic() - started < 30


def test_the_report_has_pictures_and_figures_and_says_who_is_champion(
    sound: Judgement, tmp_path: Path
) -> None:
    from softcart_assets.ml import report
    from softcart_assets.ml.pictures import draw

    task = ClassifierTask(MODEL)
    files = draw("thirst", task.charts(sound), tmp_path / "models")
    assert [file.name for file in files] == [
        "thirst-calibration.png",
        "thirst-lift.png",
        "thirst-auc.png",
    ]
    assert all(file.read_bytes().startswith(b"\x89PNG") for file in files)
    of, _ = rows()
    fitted = fit.fit(MODEL.inputs, of.values, of.targets.astype(bool))
    leaky = replace(MODEL, ceiling=Limit(Decimal("0.6"), "<b>No</b> & no."))
    version = Version(2, "rows", sound.figures, verdicts(leaky, sound), fitted.text())
    page = tmp_path / "model_thirst.html"
    report.write(leaky, task, sound, version, 1, files, page)
    text = " ".join(page.read_text(encoding="utf-8").split())
    assert "Version <strong>2</strong>, but version 1 stays the champion" in text
    assert text.count('<img src="data:image/png;base64,') == len(files)
    assert f'<p class="value">{sound.auc.value:.3f}</p>' in text
    assert text.count(">failed</td>") == 1
    assert "&lt;b&gt;No&lt;/b&gt; &amp; no." in text


def test_a_model_needs_features_by_subject_and_month() -> None:
    line = Line("cafe", "Cafés.", owner="team:cafe", models=(MODEL,))
    with pytest.raises(DeclarationError, match="which is no Spark job of the line"):
        assemble([CONFORMED, line])
    job = Job("agg_thirst", (), ("guest_id",))
    with pytest.raises(DeclarationError, match="one row per guest_id and month"):
        assemble([CONFORMED, replace(line, jobs=(job,))])
    twice = replace(MODEL, inputs=(*MODEL.inputs, MODEL.inputs[0], Feature("returns", "{}")))
    with pytest.raises(DeclarationError, match=r"(?s)'cups' is declared twice.*among its features"):
        assemble([CONFORMED, replace(line, models=(twice,))])
