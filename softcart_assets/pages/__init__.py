"""The pages for people, one package per line of business with `build_page`.

A package does everything between `production.*` and the finished file. It does not use Dagster.
"""
