"""The ops of a run share one state of raw: models come first, and whoever comes last lets go."""

from contextlib import nullcontext
from unittest.mock import MagicMock

import dagster as dg
import pytest

from softcart_assets import resources
from softcart_assets.resources import BUILDS_FROM_RAW, BUILDS_MODELS, RawStateResource


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        ("*", ["building", "building", "moment", "moment last", "close"]),
        ("first, second", ["building", "building last", "close"]),
        ("second", ["building last", "close"]),
    ],
)
def test_models_come_first_and_whoever_comes_last_lets_go(
    monkeypatch: pytest.MonkeyPatch, selection: str, expected: list[str]
) -> None:
    told: list[str] = []

    class Recorded:
        def __init__(self, _: object) -> None:
            pass

        def building(self, *_: object, is_last: bool) -> nullcontext[None]:
            told.append("building last" if is_last else "building")
            return nullcontext()

        def moment(self, *_: object, is_last: bool) -> nullcontext[None]:
            told.append("moment last" if is_last else "moment")
            return nullcontext()

        def close(self) -> None:
            told.append("close")

    monkeypatch.setattr(resources, "RawState", Recorded)
    monkeypatch.setattr(resources.PostgresConnection, "from_env", MagicMock())

    # The first in the order of names, and it waits for nothing.
    @dg.asset(op_tags=BUILDS_FROM_RAW)
    def a_lake(context: dg.AssetExecutionContext, raw_state: RawStateResource) -> None:
        with raw_state.moment(context, MagicMock(), []):
            pass

    @dg.asset(op_tags=BUILDS_FROM_RAW)
    def b_lake(context: dg.AssetExecutionContext, raw_state: RawStateResource) -> None:
        with raw_state.moment(context, MagicMock(), []):
            pass

    @dg.asset(op_tags=BUILDS_MODELS)
    def first(context: dg.AssetExecutionContext, raw_state: RawStateResource) -> None:
        with raw_state.building(context, []):
            pass

    @dg.asset(op_tags=BUILDS_MODELS, deps=[first])
    def second(context: dg.AssetExecutionContext, raw_state: RawStateResource) -> None:
        with raw_state.building(context, []):
            pass

    done = dg.materialize(
        [a_lake, b_lake, first, second],
        selection=dg.AssetSelection.all()
        if selection == "*"
        else dg.AssetSelection.assets(*selection.split(", ")),
        resources={"raw_state": RawStateResource(prefix="NOT_ASKED")},
    )
    assert done.success
    assert told == expected


def test_a_run_that_loads_waits_for_no_pool() -> None:
    """Otherwise it would stay in the queue until a wave has published."""
    from softcart_assets.definitions import defs

    nodes = defs().resolve_implicit_global_asset_job_def().nodes
    loading = [n for n in nodes if n.name.startswith(("load_", "check_raw_", "reconcile_"))]
    assert loading
    assert not [node.name for node in loading if node.definition.pools]


def test_the_ops_that_build_from_raw_say_so() -> None:
    from softcart_assets.definitions import defs

    nodes = defs().resolve_implicit_global_asset_job_def().nodes
    users = {n.name: n.tags for n in nodes if "raw_state" in n.definition.required_resource_keys}
    for name, tags in users.items():
        is_load = name.startswith(("load_", "reconcile_"))
        is_model = name.startswith("dbt_")
        assert (BUILDS_FROM_RAW.items() <= tags.items()) != (is_load or is_model), name
        assert (BUILDS_MODELS.items() <= tags.items()) == is_model, name
    assert {name.partition("_")[0] for name in users} == {"load", "reconcile", "dbt", "refresh"}
