"""The published tables of the shop and their audits, as the definitions have them."""

from softcart_assets.dbt import prepare_manifest, read_manifest
from softcart_assets.publishing.suite import audits_of
from softcart_assets.publishing.tables import published_tables
from spark.jobs import JOBS
from tests.support.lines import SHOP

prepare_manifest()
LINEAGE = {name: job.lineage for name, job in JOBS.items()}
TABLES = published_tables(SHOP, read_manifest(), LINEAGE)
AUDITS = audits_of(TABLES)
