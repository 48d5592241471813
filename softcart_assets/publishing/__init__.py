"""Write–audit–publish: from the staging database to the production database.

`tables` lists the tables to publish, `suite` has their audits, and `publish` publishes them.
Nothing here imports Dagster.
"""
