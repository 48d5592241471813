"""Extracts: files for BI tools, made from the production tables.

The lines of business declare them. `write` makes the files. `lineage` finds their tables and
columns in the SQL. Nothing here imports Dagster.
"""
