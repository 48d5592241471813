"""SoftCart: the Dagster code location and what its assets are made of.

Sub-packages: `defs` (Dagster objects, by layer), `sources` (declarations), `ingestion` (the engine that moves
data), `publishing` (write-audit-publish), `dashboard` (the manager's page), `stack` (local servers).
"""

import os

# Read by Arrow when it is first used: its usual allocator keeps some 40 MB more of what writing Parquet in several threads frees.
os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "jemalloc")
