"""SoftCart: the Dagster code location and what its assets are made of.

Sub-packages: `defs` (Dagster objects, by layer), `sources` (declarations), `ingestion` (the engine that moves
data), `publishing` (write-audit-publish), `dashboard` (the manager's page), `stack` (local servers).
"""
