"""Write–audit–publish: from the staging database to the production database.

`tables` declares what is published, `publish` does it. Nothing here imports Dagster.
"""
