"""Ingestion: tables of operational databases into the raw layer and the lake, exactly, at a stated
position.

The engine knows no Dagster. `load` moves data and says what is worth loading. `proof` shows that
raw equals its source. `quarantine` has the rows that raw could not take. `connectors` has what
depends on the kind of a source system.
"""
