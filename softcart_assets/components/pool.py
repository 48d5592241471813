"""The pool that every op which changes something waits for, and the tag of planned runs."""

POOL = "warehouse"
"""The pool of every op that builds, publishes or writes extracts. One run at a time has it.

A publication between two steps of another run's build would show two states. Loads need no pool:
the lock on the raw tables keeps them apart from what reads these.
"""

PLANNED_TAG, LOAD, BUILD = "softcart/planned", "load", "build"
"""The tag of runs that follow the plan, of the sensor or of the demo, and its values.

The first load of a table by the demo has none, so it compares every row with the source.
"""
