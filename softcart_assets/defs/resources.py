"""Wiring: which environment variable fills which resource, and how runs are executed."""

import dagster as dg

from softcart_assets.assembly import LINES
from softcart_assets.lines.model import Source
from softcart_assets.resources import (
    LakeResource,
    MongoResource,
    MySQLResource,
    OutputResource,
    PostgresResource,
    SparkResource,
)


def _source_resource(source: Source) -> dg.ConfigurableResource:
    prefix = source.env_prefix
    if source.kind == "mongodb":
        return MongoResource(
            prefix=prefix, uri=dg.EnvVar(f"{prefix}_URI"), database=dg.EnvVar(f"{prefix}_DATABASE")
        )
    return MySQLResource(prefix=prefix, **_server(prefix))


def _server(prefix: str) -> dict[str, dg.EnvVar]:
    return {
        name: dg.EnvVar(f"{prefix}_{name.upper()}")
        for name in ("host", "port", "user", "password", "database")
    }


def source_resource_key(source: Source) -> str:
    """The resource key under which a source's database is found."""
    return f"{source.name}_database"


@dg.definitions
def resources() -> dg.Definitions:
    """One resource per server; steps share a process: their work is in the servers, and Spark starts once."""
    return dg.Definitions(
        resources={
            **{source_resource_key(source): _source_resource(source) for source in LINES.sources},
            "staging": PostgresResource(prefix="SOFTCART_STAGING", **_server("SOFTCART_STAGING")),
            "production": PostgresResource(
                prefix="SOFTCART_PRODUCTION", **_server("SOFTCART_PRODUCTION")
            ),
            "lake": LakeResource(uri=dg.EnvVar("SOFTCART_LAKE_URI")),
            "spark": SparkResource(),
            "output": OutputResource(directory=dg.EnvVar("SOFTCART_EXTRACTS_DIR")),
        },
        executor=dg.in_process_executor,
    )
