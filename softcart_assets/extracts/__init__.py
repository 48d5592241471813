"""Extracts: files for BI tools, made from the production tables.

`model` says what an extract is, `catalog` lists them, `write` makes the files. Nothing here imports Dagster.
"""
