"""Ingestion: copies tables of operational databases into the raw layer and the lake, exactly and at
a stated position.

The engine does not know Dagster. `load` moves data and names the tables worth loading. `proof`
shows that raw equals its source. `quarantine` keeps the rows that raw could not take. `connectors`
holds everything that depends on the kind of a source system.
"""
