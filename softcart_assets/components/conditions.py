"""The automation conditions and the pool, named and explained once."""

import dagster as dg

SOURCE_TAG = "softcart/source"
"""The tag of runs that a source's change sensor requests."""

POOL = "warehouse"
"""The pool of every op that loads, builds or publishes: its limit is one run at a time.

A load between two steps of a build would make the lake and the star schema show two states, and the
audit that compares them would rightly refuse to publish. It also keeps two runs from the embedded
Hive metastore, which serves one process.
"""

FOLLOWS_UPSTREAM = (
    dg.AutomationCondition.eager() & dg.AutomationCondition.all_deps_blocking_checks_passed()
).with_label("follows_upstream")
"""Rebuild as soon as anything upstream was rebuilt and passed its blocking checks.

Raw tables carry no condition: the sensors of `sensors.py` request them, since only the source knows
that it changed. Everything after them follows, in one run per wave, so production is published once
per wave and not once per table.
"""
