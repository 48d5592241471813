"""Pages for people: everything between `production.*` and a finished file.

Lines declare pages, and the kit makes them. Nothing here uses Dagster.
"""
