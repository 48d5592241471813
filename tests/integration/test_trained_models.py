"""Models as assets, on features in a staging warehouse: what is trained, scored and kept."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from datetime import date
from decimal import Decimal
from itertools import groupby
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pytest
from support.databases import database, name_server
from support.ingestion import query
from support.models import MODEL, rows
from support.ranks import RANKER, events, items, shown_to_people

from softcart_assets.components.models import models
from softcart_assets.connections import EXTRACTS, PostgresConnection
from softcart_assets.lines.model import Feature, Limit, Line
from softcart_assets.ml import fit, registry
from softcart_assets.ml.registry import Registry
from softcart_assets.resources import OutputResource, PostgresResource

LINE = Line("cafe", "Cafés.", "team:cafe", models=(MODEL,))
ERRORS: dict[str, Any] = {}
"""What the checks of the last run said of errors."""
THIRST, SCORES = dg.AssetKey(["ml", "thirst"]), dg.AssetKey(["ml", "thirst_scores"])


@pytest.fixture(scope="module")
def registry_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new registry in a file. MLflow takes seconds to make one."""
    home = tmp_path_factory.mktemp("home")
    assert Registry.from_env({"SOFTCART_HOME": str(home)}).champion("thirst") is None
    return home / "mlflow"


@pytest.fixture
def staging(
    postgres: PostgresConnection,
    registry_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> PostgresConnection:
    """A warehouse with features of ten months, and of one that is to be predicted."""
    name_server(monkeypatch, postgres)
    monkeypatch.setenv("SOFTCART_HOME", str(tmp_path))
    shutil.copytree(registry_file, tmp_path / "mlflow")
    monkeypatch.setenv(EXTRACTS, str(tmp_path / "extracts"))
    of, _ = rows()
    with postgres.connect() as session:
        session.execute("CREATE SCHEMA aggregates")
        session.execute(
            "CREATE TABLE aggregates.agg_thirst (guest_id bigint, month date, cut_off_date date,"
            " cups bigint, is_regular integer, after integer, returns boolean, data_position text)"
        )
        with session.cursor().copy("COPY aggregates.agg_thirst FROM STDIN") as copy:
            for subject, month, (cups, regular), target in zip(
                of.subjects, of.months, of.values, of.targets, strict=True
            ):
                copy.write_row(_row(subject, month, cups, regular, bool(target)))
            last = of.months.max()
            for subject, month, (cups, regular) in zip(
                of.subjects, of.months, of.values, strict=True
            ):
                if month == last:
                    copy.write_row(_row(subject, month + 2, cups, regular, None))
    return postgres


def _row(subject: int, month: int, cups: float, regular: float, target: bool | None) -> tuple:
    days = [date(int(each) // 12, int(each) % 12 + 1, 1) for each in (month, month - 1)]
    return int(subject), *days, int(cups), int(regular), int(target or False), target, "bin:7"


def run(line: Line = LINE) -> tuple[Mapping[dg.AssetKey, dict[str, Any]], dict[str, bool]]:
    """Materialise the line's models. Returns the metadata of each asset, and the checks."""
    resources = {"staging": PostgresResource(prefix="SOFTCART_STAGING"), "output": OutputResource()}
    done = dg.materialize([models(line)], resources=resources)
    assert done.success
    told = {
        event.asset_key: {name: each.value for name, each in event.materialization.metadata.items()}
        for event in done.get_asset_materialization_events()
        if event.asset_key
    }
    found = done.get_asset_check_evaluations()
    ERRORS.clear()
    ERRORS.update({e.check_name: e.metadata["error"].value for e in found if "error" in e.metadata})
    return told, {each.check_name: each.passed for each in found}


def scores(staging: PostgresConnection) -> list[tuple]:
    return query(staging, "SELECT * FROM ml.thirst_scores ORDER BY guest_id")


SOUND = dict.fromkeys(("trained", "plausible", "calibrated", "useful", "scored"), True)


def test_a_model_is_trained_and_scores_the_month_that_is_to_come(
    staging: PostgresConnection, tmp_path: Path
) -> None:
    told, checks = run()
    assert checks == SOUND
    assert (told[THIRST]["state"], told[THIRST]["version"]) == ("trained", 1)
    assert told[THIRST]["champion"] == 1
    pictures = [Path(v) for name, v in told[THIRST].items() if name.startswith("picture: ")]
    assert [file.parent for file in pictures] == [tmp_path / "extracts" / "models"] * 3
    assert all(file.is_file() for file in pictures)
    assert Path(told[THIRST]["file"]) == tmp_path / "extracts" / "model_thirst.html"
    assert Path(told[THIRST]["file"]).read_text().count("data:image/png") == 3
    found = query(
        staging,
        "SELECT guest_id, month, cut_off_date, model_version, scores.data_position, decile,"
        " probability_pct, reason_1, reason_2, reason_3, contributions, cups, is_regular"
        " FROM ml.thirst_scores AS scores"
        " JOIN aggregates.agg_thirst USING (guest_id, month, cut_off_date)",
    )
    assert len(found) == told[SCORES]["dagster/row_count"] == 1_500
    champion = Registry.from_env().champion("thirst")
    assert champion
    for (
        guest,
        month,
        cut_off,
        version,
        position,
        decile,
        pct,
        *reasons,
        added,
        cups,
        regular,
    ) in found:
        assert (month, cut_off) == (date(2026, 12, 1), date(2026, 11, 1))
        assert (version, position) == (1, "bin:7")
        probability = fit.read(champion.text).probabilities(np.array([[cups, regular]], float))[0]
        assert float(pct) == pytest.approx(probability * 100, abs=1e-4), guest
        assert 1 <= decile <= 10
        parts = json.loads(added)
        assert set(parts) == {"cups", "is_regular"}
        assert (f"Cups: {cups}" in reasons) == (parts["cups"] >= 0.1)
        assert ("Regular" in reasons) == (regular and parts["is_regular"] >= 0.1)
    highest = [row[6] for row in found if row[5] == 1]
    assert min(highest) >= max(row[6] for row in found if row[5] == 2)
    [comment] = query(staging, "SELECT obj_description('ml.thirst_scores'::regclass)")
    assert comment == ("Who comes back thirsty. One row per guest_id.",)


def test_nothing_is_done_again(staging: PostgresConnection) -> None:
    run()
    before = query(staging, "SELECT 'ml.thirst_scores'::regclass::oid")
    # More changes came in, and none of them is about these rows.
    query(staging, "UPDATE aggregates.agg_thirst SET data_position = 'bin:9' RETURNING 1")
    told, checks = run()
    assert checks == SOUND
    assert (told[THIRST]["state"], told[SCORES]["state"]) == ("unchanged", "unchanged")
    assert (told[THIRST]["version"], told[THIRST]["champion"]) == (1, 1)
    assert query(staging, "SELECT 'ml.thirst_scores'::regclass::oid") == before


def test_a_report_that_is_gone_is_written_again(
    staging: PostgresConnection, tmp_path: Path
) -> None:
    run()
    shutil.rmtree(tmp_path / "extracts")
    told, _ = run()
    assert (told[THIRST]["state"], told[THIRST]["version"]) == ("unchanged", 1)
    assert Path(told[THIRST]["file"]).read_text().count("data:image/png") == 3


def test_a_column_that_the_champion_needs_is_named_when_it_is_gone(
    staging: PostgresConnection,
) -> None:
    run()
    with staging.connect() as session:
        session.execute("ALTER TABLE aggregates.agg_thirst DROP cups")
    leaking = (Feature("after", "What came later"), Feature("is_regular", "Regular"))
    done = run(replace(LINE, models=(replace(MODEL, inputs=leaking),)))
    assert done[1] == SOUND | {"plausible": False, "scored": False}
    assert "no column cups, which version 1 of thirst needs" in ERRORS["scored"]


def test_a_flag_that_is_not_set_is_no_reason(staging: PostgresConnection) -> None:
    """Where the flag lowers the probability, its lack raises it, and the text would be wrong."""
    query(staging, "UPDATE aggregates.agg_thirst SET is_regular = 1 - is_regular RETURNING 1")
    run()
    reasons = query(
        staging,
        "SELECT is_regular, coalesce('Regular' IN (reason_1, reason_2, reason_3), false),"
        " (contributions::json ->> 'is_regular')::float >= 0.1 FROM ml.thirst_scores"
        " JOIN aggregates.agg_thirst USING (guest_id, month)",
    )
    assert (0, True) in {(flag, raises) for flag, _, raises in reasons}
    assert not any(is_told for _, is_told, _ in reasons)


def test_new_features_are_scored_by_the_same_version(staging: PostgresConnection) -> None:
    run()
    before = scores(staging)
    query(
        staging,
        "UPDATE aggregates.agg_thirst SET cups = cups + 3 WHERE returns IS NULL AND guest_id = 5"
        " RETURNING 1",
    )
    told, _ = run()
    assert (told[THIRST]["state"], told[SCORES]["state"]) == ("unchanged", "written")
    after = scores(staging)
    old = {row[0]: row[3] for row in before}
    assert {row[0] for row in after if row[3] != old[row[0]]} == {5}
    assert {row[-2] for row in after} == {1}


@pytest.mark.parametrize("is_in_files", [True, False], ids=["in files", "in PostgreSQL"])
def test_a_candidate_that_leaks_does_not_become_the_champion(
    staging: PostgresConnection, monkeypatch: pytest.MonkeyPatch, is_in_files: bool
) -> None:
    with ExitStack() as stack:
        if not is_in_files:
            server = stack.enter_context(database())
            address = f"{server.user}:{server.password}@{server.host}:{server.port}"
            monkeypatch.setenv(registry.URI, f"postgresql://{address}/{server.database}")
        _leak(staging)


def _leak(staging: PostgresConnection) -> None:
    run()
    before = scores(staging)
    leaking = replace(MODEL, inputs=(*MODEL.inputs, Feature("after", "What came later")))
    told, checks = run(replace(LINE, models=(leaking,)))
    assert checks == SOUND | {"plausible": False}
    assert (told[THIRST]["version"], told[THIRST]["champion"]) == (2, 1)
    assert scores(staging) == before
    # The declaration is mended, so the next version is sound again.
    told, checks = run()
    assert checks == SOUND
    assert (told[THIRST]["version"], told[THIRST]["champion"]) == (3, 3)


def test_people_may_move_the_champion_back(staging: PostgresConnection) -> None:
    kept, changed = Registry.from_env(), replace(LINE, models=(replace(MODEL, test_months=4),))
    run()
    first = kept.champion("thirst")
    assert first
    told, _ = run(changed)
    assert told[THIRST]["champion"] == 2
    kept.promote("thirst", first)
    told, _ = run(changed)
    assert (told[THIRST]["state"], told[THIRST]["champion"]) == ("unchanged", 1)
    assert {row[-2] for row in scores(staging)} == {1}


def test_a_version_that_failed_a_check_does_not_score_though_it_has_the_alias(
    staging: PostgresConnection, tmp_path: Path
) -> None:
    from mlflow import MlflowClient

    run()
    before = scores(staging)
    leaking = replace(MODEL, inputs=(*MODEL.inputs, Feature("after", "What came later")))
    line = replace(LINE, models=(leaking,))
    run(line)
    uri = f"sqlite:///{tmp_path / 'mlflow' / 'registry.db'}"
    client = MlflowClient(tracking_uri=uri, registry_uri=uri)
    client.set_registered_model_alias("thirst", "champion", "2")
    _, checks = run(line)
    assert checks == SOUND | {"plausible": False, "scored": False}
    assert scores(staging) == before
    # As docs/models.md says.
    kept = Registry.from_env()
    kept.promote("thirst", kept.version("thirst", 1))
    assert run(line)[1]["scored"]


def test_what_cannot_be_read_fails_a_check_and_keeps_the_scores(
    staging: PostgresConnection,
) -> None:
    run()
    before = scores(staging)
    query(staging, "UPDATE aggregates.agg_thirst SET cups = NULL WHERE guest_id = 9 RETURNING 1")
    _, checks = run()
    # Nothing was judged, so nothing is told to be sound.
    assert checks == dict.fromkeys(SOUND, False)
    assert scores(staging) == before


def test_without_enough_to_learn_from_there_is_an_empty_table(
    staging: PostgresConnection,
) -> None:
    query(staging, "DELETE FROM aggregates.agg_thirst WHERE guest_id > 20 RETURNING 1")
    told, checks = run()
    assert checks == SOUND
    assert told[THIRST]["state"].startswith("Too little to learn from")
    assert scores(staging) == []


def test_subjects_that_are_texts_and_a_share_of_many(
    staging: PostgresConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    with staging.connect() as session:
        session.execute(
            "ALTER TABLE aggregates.agg_thirst ALTER guest_id TYPE text USING 'g' || guest_id"
        )
    monkeypatch.setattr("softcart_assets.ml.classifier._MOST_ROWS", 8_000)
    told, checks = run()
    assert (checks["trained"], checks["scored"]) == (True, True)
    assert told[SCORES]["dagster/row_count"] == 1_500
    assert told[THIRST]["rows"] < 4_500


DISH, ORDERS = dg.AssetKey(["ml", "dish"]), dg.AssetKey(["ml", "dish_scores"])
RANKED = dict.fromkeys(("trained", "plausible", "useful", "fair", "scored"), True)


@pytest.fixture
def dishes(staging: PostgresConnection) -> PostgresConnection:
    """The same warehouse with what was shown to 300 guests in five months, and till now."""
    menu = items()
    of, _ = events(menu, people=300, months=6)
    with staging.connect() as session:
        session.execute(
            "CREATE TABLE aggregates.agg_dishes (guest_id bigint, kind text, item text, month date,"
            " shown_count bigint, taken_count bigint, goal text, activity text, effort text,"
            " data_position text)"
        )
        with session.cursor().copy("COPY aggregates.agg_dishes FROM STDIN") as copy:
            for row in shown_to_people(menu, of):
                copy.write_row(row)
            # Of another ranker.
            copy.write_row((1, "song", "la", date(2026, 6, 1), 1, 1, "goal 1", "x", "y", "no:1"))
    return staging


def test_a_ranker_is_trained_and_orders_the_items_of_each_subject(
    dishes: PostgresConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("softcart_assets.ml.ranker._SUBJECTS_AT_ONCE", 70)
    line = replace(LINE, models=(RANKER,))
    told, checks = run(line)
    assert checks == RANKED, told[DISH]["figures"]
    assert (told[DISH]["state"], told[DISH]["champion"]) == ("trained", 1)
    assert told[DISH]["gain"] >= 0.1
    assert Path(told[DISH]["file"]).read_text().count("data:image/png") == 3
    found = query(dishes, "SELECT * FROM ml.dish_scores ORDER BY guest_id, place")
    assert len(found) == told[ORDERS]["dagster/row_count"] == 300 * 18
    for guest, of in groupby(found, lambda row: row[0]):
        rows = list(of)
        assert [row[1] for row in rows] == list(range(1, 19)), guest
        assert len({row[2] for row in rows}) == 18
        values = [row[3] for row in rows]
        assert (values[0], values[-1]) == (1, 0)
        assert values == sorted(values, reverse=True)
    assert {row[4] for row in found} == {None, *RANKER.reasons.values()}
    assert {row[5:] for row in found} == {(1, "kitchen:7")}
    # What a guest took is in front.
    better = query(
        dishes,
        "SELECT avg(place) FILTER (WHERE rate > 0.6), avg(place) FILTER (WHERE rate < 0.2)"
        " FROM ml.dish_scores JOIN (SELECT guest_id, item, sum(taken_count) / sum(shown_count) AS"
        " rate FROM aggregates.agg_dishes WHERE kind = 'dish' GROUP BY 1, 2) AS t"
        " USING (guest_id, item)",
    )
    assert better[0][0] < better[0][1] - 4

    # Nothing is done again for a position, and a new meal moves the order but trains nothing.
    query(dishes, "UPDATE aggregates.agg_dishes SET data_position = 'kitchen:8' RETURNING 1")
    told, _ = run(line)
    assert (told[DISH]["state"], told[ORDERS]["state"]) == ("unchanged", "unchanged")
    query(
        dishes,
        "UPDATE aggregates.agg_dishes SET shown_count = shown_count + 9, taken_count = taken_count"
        " + 9 WHERE guest_id = 5 AND month = '2026-06-01' RETURNING 1",
    )
    told, _ = run(line)
    assert (told[DISH]["state"], told[ORDERS]["state"]) == ("unchanged", "written")

    # A version that is not good enough is registered, and does not score.
    strict = replace(RANKER, min_gain=Limit(Decimal("0.9"), "We want the best."))
    told, checks = run(replace(LINE, models=(strict,)))
    assert checks == RANKED | {"useful": False}
    assert (told[DISH]["version"], told[DISH]["champion"]) == (2, 1)
    assert query(dishes, "SELECT DISTINCT model_version FROM ml.dish_scores") == [(1,)]
    second = Registry.from_env().candidate("dish")
    assert second
    with pytest.raises(registry.NotSound, match="useful: Better than what is popular"):
        Registry.from_env().promote("dish", second)

    # The champion stays when there is nothing left to order.
    with dishes.connect() as session:
        session.execute("TRUNCATE aggregates.agg_dishes")
    told, checks = run(line)
    assert (checks["scored"], told[DISH]["champion"]) == (True, 1)
    assert query(dishes, "SELECT * FROM ml.dish_scores") == []


def test_a_share_of_many_subjects_teaches_the_orders_of_all(
    dishes: PostgresConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("softcart_assets.ml.ranker._MOST_ROWS", 10_000)
    told, checks = run(replace(LINE, models=(RANKER,)))
    assert (checks["trained"], checks["scored"]) == (True, True)
    assert told[DISH]["subjects"] < 200
    if told[DISH]["champion"] == 1:
        assert told[ORDERS]["dagster/row_count"] == 300 * 18
