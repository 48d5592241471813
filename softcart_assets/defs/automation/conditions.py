"""The automation conditions, named and explained once."""

import dagster as dg

FOLLOWS_UPSTREAM = (
    dg.AutomationCondition.eager() & dg.AutomationCondition.all_deps_blocking_checks_passed()
).with_label("follows_upstream")
"""Rebuild as soon as anything upstream was rebuilt and passed its blocking checks.

Raw tables carry no condition: the sensors of `sensors.py` request them, since only the source knows that it changed.
Everything after them follows, in one run per wave, so production is published once per wave and not once per table.
"""
