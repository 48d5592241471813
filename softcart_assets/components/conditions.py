"""The automation condition and the pool. Every asset uses them from here."""

import dagster as dg

SOURCE_TAG = "softcart/source"
"""The tag of runs that a source's change sensor requests."""

POOL = "warehouse"
"""The pool of every op that loads, builds or publishes. It lets one run at a time in.

With a load between two steps of a build, the lake and the star schema would show two states, and an
audit that compares them would fail. The embedded Hive metastore also serves only one process.
"""

FOLLOWS_UPSTREAM = (
    dg.AutomationCondition.eager() & dg.AutomationCondition.all_deps_blocking_checks_passed()
).with_label("follows_upstream")
"""Rebuild as soon as anything upstream was rebuilt and passed its blocking checks.

Raw tables have no condition. Only the source knows that it changed, so the change sensors request
them. Dagster requests everything after them in one run, so production is published once and not
once per table.
"""
