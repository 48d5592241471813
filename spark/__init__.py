"""Plain PySpark: the lake's tables and the big aggregates. Nothing here imports Dagster."""
