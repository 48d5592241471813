"""The aggregates of every line of business."""

import dagster as dg

from softcart_assets.assembly import LINES
from softcart_assets.components.aggregates import aggregates as aggregates_of
from spark.jobs import JOBS


@dg.definitions
def aggregates() -> dg.Definitions:
    """One op per line computes its aggregates."""
    return dg.Definitions(
        assets=[
            aggregates_of(line, [JOBS[job.name] for job in line.jobs])
            for line in LINES
            if line.jobs
        ]
    )
