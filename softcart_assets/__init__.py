"""SoftCart: the Dagster code location and what its assets are made of.

`lines` holds the declarations of the lines of business, `assembly` puts them together, `components`
and `defs` make Dagster objects of them. The work is done by packages without Dagster: `ingestion`
moves data, `publishing` writes, audits and publishes, `extracts` and `pages` make files for people,
`stack` runs local servers.
"""

import os

# Arrow reads it at its first use. Arrow's usual allocator keeps about 40 MB more of the memory that
# writing Parquet in several threads frees.
os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "jemalloc")
