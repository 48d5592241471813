"""When Dagster builds what by itself: the automation conditions and the pool of every asset."""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Collection, Mapping
from functools import reduce
from operator import and_
from typing import Any

import dagster as dg

SOURCE_TAG = "softcart/source"
"""The tag of runs that a source's change sensor requests."""

POOL = "warehouse"
"""The pool of every op that loads, builds, publishes or writes extracts. One run at a time has it.

With a load between two steps of a build, the lake and the star schema would show two states, and an
audit that compares them would fail. The embedded Hive metastore also serves only one process. And
`FOLLOWS_UPSTREAM` compares times: no table may change while something is built from it.
"""

Condition = dg.AutomationCondition[Any]

_UPDATED: Condition = dg.AutomationCondition.newly_updated()

# "And" with a condition that has no time loses the time of the update, and without the times of
# both, `since` takes an update in the tick of a build for one before it. `since` keeps the time.
_UPDATED_BY_ANOTHER_RUN: Condition = _UPDATED.since(
    dg.AutomationCondition.executed_with_root_target() | ~_UPDATED
)


def _now(event: Condition) -> Condition:
    """The same event, under another name.

    Dagster keeps the state of a `since` under the names of its parts, in which all conditions over
    dependencies are the same. Two such conditions would share their state.
    """
    return event.since(~event)


_IS_UNCHECKED: Condition = dg.AutomationCondition.cron_tick_passed(
    "*/15 * * * *"
) & dg.AutomationCondition.any_checks_match(
    ~dg.AutomationCondition.check_passed()
    & ~dg.AutomationCondition.check_failed()
    & ~dg.AutomationCondition.in_progress(),
    blocking_only=True,
)
"""A blocking check has no result for the last materialisation. It is new, or a run ended too early.

Nothing is known to be wrong, but what is behind the check waits for it. So the table is made again,
with its checks. Dagster leaves the other checks of a run out if it is asked for some of them. A
quarter of an hour lies in between, because what ended a run may end the next one, too.
"""

LOADS_AGAIN: Condition = (_IS_UNCHECKED & ~dg.AutomationCondition.in_progress()).with_label(
    "loads_again"
)
"""Load a raw table again whose checks have no result.

Raw tables have no other condition. Only the source knows that it changed, so the change sensors
request them.
"""

_REQUESTED: Condition = dg.AutomationCondition.newly_requested()

_HAS_NEWS: Condition = (
    # Updated after the asset was requested, and after it was built. As two conditions, because a
    # combination of both events would have no time: see above.
    (
        dg.AutomationCondition.any_deps_match(_UPDATED_BY_ANOTHER_RUN).since(_REQUESTED)
        & dg.AutomationCondition.any_deps_match(_UPDATED_BY_ANOTHER_RUN).since(_UPDATED)
    )
    # A run that failed did not come to the asset. If it was a success, the asset was left out on
    # purpose, as a line that is held is.
    | (
        dg.AutomationCondition.any_deps_match(_UPDATED).since(_now(_UPDATED))
        & dg.AutomationCondition.execution_failed()
        & (
            dg.AutomationCondition.any_deps_match(_UPDATED).since(_now(_REQUESTED))
            | dg.AutomationCondition.cron_tick_passed("0 * * * *")
        )
    )
    | dg.AutomationCondition.newly_missing().since_last_handled()
    | dg.AutomationCondition.any_deps_match(dg.AutomationCondition.will_be_requested())
    | _IS_UNCHECKED
).with_label("has_news")

FOLLOWS_UPSTREAM: Condition = (
    _HAS_NEWS
    & ~dg.AutomationCondition.any_deps_missing()
    & ~dg.AutomationCondition.any_deps_in_progress()
    & ~dg.AutomationCondition.in_progress()
    & dg.AutomationCondition.all_deps_blocking_checks_passed()
).with_label("follows_upstream")
"""Rebuild as soon as anything upstream was rebuilt and passed its blocking checks.

It is Dagster's `eager`, which forgets two kinds of updates: one in the tick in which the asset was
built, though after it, and one that a failed run did not come to follow. What a failed run had made
upstream is followed at once, everything else is tried again every hour.

Dagster requests everything after the raw tables in one run, so production is published once and not
once per table.
"""

_PASSED: Condition = dg.AutomationCondition.all_checks_match(
    dg.AutomationCondition.check_passed(), blocking_only=True
).with_label("blocking_checks_passed")


def hold_behind_failed_checks(
    definitions: dg.Definitions, together: Mapping[dg.AssetKey, Collection[dg.AssetKey]]
) -> dg.Definitions:
    """The definitions, in which a failed blocking check holds back every asset behind its table.

    `FOLLOWS_UPSTREAM` alone asks the tables that an asset reads, and not those behind them. But
    most of these are views: whoever reads them reads the tables behind. `together`: assets that are
    made of the tables of others, too, as a line of business goes live as a whole.
    """
    parents: defaultdict[dg.AssetKey, set[dg.AssetKey]] = defaultdict(set)
    checked: set[dg.AssetKey] = set()
    for assets in (*(definitions.assets or ()), *(definitions.asset_checks or ())):
        if isinstance(assets, dg.AssetsDefinition):
            for spec in assets.specs:
                parents[spec.key] |= {dep.asset_key for dep in spec.deps}
            checked |= {check.asset_key for check in assets.check_specs if check.blocking}

    def hold(spec: dg.AssetSpec) -> dg.AssetSpec:
        if spec.automation_condition is None:
            return spec
        own = _upstream([spec.key], parents)
        others = _upstream(together.get(spec.key, ()), parents) - own
        # What is rebuilt in the same run is checked there, and stops what is behind it. It does not
        # stop what only goes live together with that.
        passed: dict[dg.AssetKey, Condition] = dict.fromkeys(others, _PASSED)
        passed |= dict.fromkeys(own, _PASSED | dg.AutomationCondition.will_be_requested())
        sound = [
            dg.AutomationCondition.asset_matches(key, passed[key])
            for key in sorted(passed.keys() & checked)
        ]
        condition = reduce(and_, sound, spec.automation_condition)
        return spec.replace_attributes(automation_condition=condition)

    with warnings.catch_warnings():
        # Dagster may change it in a patch, and its version is pinned.
        warnings.simplefilter("ignore", category=dg.PreviewWarning)
        return definitions.map_asset_specs(func=hold)


def _upstream(
    keys: Collection[dg.AssetKey], parents: Mapping[dg.AssetKey, Collection[dg.AssetKey]]
) -> set[dg.AssetKey]:
    """Everything that these assets are made from, directly or not."""
    found: set[dg.AssetKey] = set()
    wanted = [parent for key in keys for parent in parents[key]]
    while wanted:
        if (key := wanted.pop()) not in found:
            found.add(key)
            wanted += parents[key]
    return found
