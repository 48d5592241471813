"""Tells people when the platform is ill, and when it is well again.

`dagster_records` and `streams` find what is wrong now. `news` decides what is told, and when.
`destinations` sends it. `watch` looks again and again. Nothing here mends anything.
"""
