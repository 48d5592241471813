"""Write–audit–publish: from the staging database to the production database.

`tables` says what is published, `suite` what must hold of it, `publish` does it. Nothing here
imports Dagster.
"""
