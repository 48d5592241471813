"""The resources, one per server, and the executor."""

import dagster as dg

from softcart_assets.assembly import LINES
from softcart_assets.components.resources import source_resource_key
from softcart_assets.connections import PRODUCTION_DB2, PRODUCTION_MYSQL
from softcart_assets.resources import (
    Db2Resource,
    LakeResource,
    MySQLResource,
    OutputResource,
    PostgresResource,
    RawStateResource,
    SourceResource,
    settled,
)
from softcart_assets.resources.spark import SparkResource
from softcart_assets.run_processes import noted_in_process_executor


@dg.definitions
def resources() -> dg.Definitions:
    """Every server that assets read or write. Spark starts once per run, when it is first used."""
    found = {
        **{
            source_resource_key(source): SourceResource(kind=source.kind, prefix=source.env_prefix)
            for source in LINES.sources
        },
        "staging": PostgresResource(prefix="SOFTCART_STAGING"),
        "raw_state": RawStateResource(prefix="SOFTCART_STAGING"),
        "production": PostgresResource(prefix="SOFTCART_PRODUCTION"),
        "production_mysql": MySQLResource(prefix=PRODUCTION_MYSQL),
        "production_db2": Db2Resource(prefix=PRODUCTION_DB2),
        "lake": LakeResource(),
        "spark": SparkResource(),
        "output": OutputResource(),
        # Dagster's own, which would let a run choose its folder. No asset of ours uses it.
        "io_manager": dg.FilesystemIOManager(),
    }
    return dg.Definitions(
        resources={name: settled(resource) for name, resource in found.items()},
        # The servers do the work of a step. A process per step would add seconds of imports and
        # start Spark several times.
        executor=noted_in_process_executor,
    )
