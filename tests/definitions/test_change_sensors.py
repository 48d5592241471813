"""What a change sensor takes for a failed load."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest

from softcart_assets.assembly import LINES
from softcart_assets.components.changes import _failed_loads
from softcart_assets.components.conditions import SOURCE_TAG
from softcart_assets.components.keys import raw_key

SOURCE = next(source for source in LINES.sources if len(source.tables) > 2)
FAILS, UNSOUND, SOUND = SOURCE.tables[:3]


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


def load(instance: dg.DagsterInstance, *tables, broken=()) -> None:
    """Load these tables in one op, as a run of the source's sensor. It fails at a broken one."""
    keys = [raw_key(SOURCE, table) for table in tables]

    @dg.multi_asset(
        specs=[dg.AssetSpec(key, skippable=True) for key in keys],
        check_specs=[dg.AssetCheckSpec("sound", asset=key, blocking=True) for key in keys],
    )
    def loaded() -> Iterator[dg.MaterializeResult | dg.AssetCheckResult]:
        for key, table in zip(keys, tables, strict=True):
            if table in broken:
                raise RuntimeError("no")
            yield dg.MaterializeResult(key)
            yield dg.AssetCheckResult(
                asset_key=key, check_name="sound", passed=table is not UNSOUND
            )

    job = dg.Definitions([loaded]).resolve_implicit_global_asset_job_def()
    job.execute_in_process(
        instance=instance,
        asset_selection=keys,
        tags={SOURCE_TAG: SOURCE.name},
        raise_on_error=False,
    )


def failed(instance: dg.DagsterInstance, ago: timedelta = timedelta(minutes=5)) -> set[str]:
    return _failed_loads(instance, SOURCE, datetime.now(UTC) - ago).keys()


def test_a_load_whose_check_failed_did_not_fail(instance):
    """After a failed check of one table, the sensor requested no table of its source for five
    minutes.
    """
    load(instance, UNSOUND, SOUND)
    assert failed(instance) == set()


def test_of_a_load_that_failed_only_the_tables_that_were_not_loaded_wait(instance):
    load(instance, SOUND, FAILS, broken=[FAILS])
    assert failed(instance) == {FAILS.name}
    # A run of other tables says nothing about that one.
    load(instance, SOUND)
    assert failed(instance) == {FAILS.name}
    load(instance, FAILS)
    assert failed(instance) == set()


def test_a_load_that_failed_long_ago_is_forgotten(instance):
    load(instance, FAILS, broken=[FAILS])
    assert failed(instance, -timedelta(seconds=2)) == set()
