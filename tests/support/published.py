"""The published tables of all lines of business and their audits, as the definitions have them."""

from softcart_assets.assembly import LINES
from softcart_assets.dbt import prepare_manifest, read_manifest
from softcart_assets.publishing.suite import audits_of
from softcart_assets.publishing.tables import published_tables
from spark.jobs import JOBS

prepare_manifest()
TABLES = published_tables(LINES, read_manifest(), {name: job.lineage for name, job in JOBS.items()})
AUDITS = audits_of(TABLES)
