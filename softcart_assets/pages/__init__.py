"""The pages for people, a package per line of business: `build_page` and `pictures`.

Here belongs everything between `production.*` and the finished file; no Dagster.
"""
