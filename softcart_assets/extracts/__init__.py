"""Extracts: files for BI tools, made from the production tables.

The lines of business declare them. `write` makes the files, `lineage` reads from the SQL what they
are made of. Nothing here imports Dagster.
"""
