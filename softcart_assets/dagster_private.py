"""The one module that uses private interfaces of Dagster, which a new version may change.

`tests/unit/test_private_interfaces.py` fails then, and says which use is concerned.
"""

from __future__ import annotations

import dagster as dg
from dagster._core.launcher import CheckRunHealthResult, WorkerStatus
from dagster._core.storage.tags import GRPC_INFO_TAG

__all__ = ["GRPC_INFO_TAG", "CheckRunHealthResult", "WorkerStatus", "runs_in_code_server"]


def runs_in_code_server(run: dg.DagsterRun) -> bool:
    """Whether a code server of the Dagster UI executes this run, and the run ends together with it.

    Dagster tells nobody, but its launcher notes the server in a tag of the run.
    """
    return GRPC_INFO_TAG in run.tags
