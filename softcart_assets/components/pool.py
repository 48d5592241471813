"""The pool that every op which changes something waits for, and the tag of planned runs."""

POOL = "warehouse"
"""The pool of every op that loads, builds, publishes or writes extracts. One run at a time has it.

With a load between two steps of a build, the lake and the star schema would show two states, and an
audit that compares them would fail.
"""

PLANNED_TAG = "softcart/planned"
"""The tag of runs that the planning sensor requests: `load` or `build`."""
