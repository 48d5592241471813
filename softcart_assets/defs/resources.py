"""The resources: one per server. Steps share a process, since their work is done by the servers."""

import dagster as dg

from softcart_assets.assembly import LINES
from softcart_assets.components.resources import source_resource_key
from softcart_assets.lines.model import Source
from softcart_assets.resources import (
    LakeResource,
    MongoResource,
    MySQLResource,
    OutputResource,
    PostgresResource,
)
from softcart_assets.resources.spark import SparkResource


def _source_resource(source: Source) -> MongoResource | MySQLResource:
    kind = MongoResource if source.kind == "mongodb" else MySQLResource
    return kind(prefix=source.env_prefix)


@dg.definitions
def resources() -> dg.Definitions:
    """Every server that assets read or write. Spark starts once per run, when it is first used."""
    return dg.Definitions(
        resources={
            **{source_resource_key(source): _source_resource(source) for source in LINES.sources},
            "staging": PostgresResource(prefix="SOFTCART_STAGING"),
            "production": PostgresResource(prefix="SOFTCART_PRODUCTION"),
            "lake": LakeResource(),
            "spark": SparkResource(),
            "output": OutputResource(),
        },
        executor=dg.in_process_executor,
    )
