"""The one module that uses private interfaces of Dagster, which a new version may change.

`tests/unit/test_private_interfaces.py` fails then, and says which use is concerned.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import weakref
from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg
from dagster._cli import dev
from dagster._core.definitions.data_version import DATA_VERSION_TAG, DataProvenance
from dagster._core.events import RunFailureReason
from dagster._core.execution import context_creation_job
from dagster._core.launcher import CheckRunHealthResult, WorkerStatus
from dagster._core.scheduler.instigation import InstigatorType, TickStatus
from dagster._core.storage.event_log.schema import SqlEventLogStorageMetadata
from dagster._core.storage.runs.schema import RunStorageSqlMetadata
from dagster._core.storage.schedules.schema import ScheduleStorageSqlMetadata
from dagster._core.storage.tags import GRPC_INFO_TAG
from dagster._serdes import ConfigurableClassData
from dagster_postgres import DagsterPostgresStorage
from sqlalchemy.engine import Engine

__all__ = [
    "DATA_VERSION_TAG",
    "FINISHED_TICKS",
    "GRPC_INFO_TAG",
    "INSTIGATOR_IS_SENSOR",
    "STORAGE_TABLES",
    "CheckRunHealthResult",
    "ConfigurableClassData",
    "DataProvenance",
    "WorkerStatus",
    "dagster_dev",
    "fork_runs",
    "is_served_by_dev",
    "quieten_runs",
    "runs_in_code_server",
    "use_engine",
    "was_interrupted",
]

STORAGE_TABLES = {
    name: {column.name for column in table.columns}
    for metadata in (
        RunStorageSqlMetadata,
        SqlEventLogStorageMetadata,
        ScheduleStorageSqlMetadata,
    )
    for name, table in metadata.tables.items()
}
"""The tables that Dagster makes in its database, and their columns."""

INSTIGATOR_IS_SENSOR = InstigatorType.SENSOR
FINISHED_TICKS = [TickStatus.SKIPPED, TickStatus.SUCCESS, TickStatus.FAILURE]
"""The states of a tick of a sensor that has ended."""

WEBSERVER, DAEMON = "dagster_webserver", "dagster._daemon"
"""The modules that `dagster dev` runs as processes of their own."""


def is_served_by_dev() -> bool:
    """Whether `dagster dev` or `dg dev` has started this process, by whatever command.

    Every other command of `dg` sets the first of the two as well. It starts no runs.
    """
    return {"DAGSTER_IS_DEV_CLI", "DAGSTER_verbose"} <= os.environ.keys()


def runs_in_code_server(run: dg.DagsterRun) -> bool:
    """Whether a code server of the Dagster UI executes this run, and the run ends together with it.

    Dagster tells nobody, but its launcher notes the server in a tag of the run.
    """
    return GRPC_INFO_TAG in run.tags


def was_interrupted(result: dg.ExecuteInProcessResult) -> bool:
    """Whether Ctrl-C has ended a run with `raise_on_error=False`, which shows a failed step."""
    return any(
        event.job_failure_data.failure_reason == RunFailureReason.UNEXPECTED_TERMINATION
        for event in result.all_events
        if event.is_job_failure
    )


def fork_runs(preloaded: str) -> None:
    """Have the code server of this process fork its runs from one that has imported a module.

    By default a code server starts a new Python for each run, which imports everything again: two
    CPU seconds before the first step. In any other process this does nothing.
    """
    # Only a code server has it. Its class takes the context of its processes from an attribute.
    server: Any = sys.modules.get("dagster._grpc.server")
    if server is not None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([preloaded])
        server.DagsterApiServer._mp_ctx = property(lambda _: context, lambda *_: None)


def quieten_runs() -> None:
    """Have the runs of this process write only warnings and errors to its terminal.

    The UI shows every event of a run. By default the terminal does, too: 200 lines a minute.
    """

    def loggers(_: Any) -> Sequence[tuple[dg.LoggerDefinition, Mapping[str, object]]]:
        return [(dg.colored_console_logger, {"name": "dagster", "log_level": "WARNING"})]

    creation: Any = context_creation_job
    creation.default_system_loggers = loggers


def dagster_dev(arguments: Sequence[str], webserver: str) -> None:
    """Run `dagster dev` with another module as webserver, which takes the same options.

    `dagster dev` offers no choice. Raises `RuntimeError` if it starts anything else that we do not
    know: nothing may serve the UI in the place of our webserver.
    """
    module_of_dev: Any = dev
    start = module_of_dev.open_ipc_subprocess

    def ours(command: Sequence[str], **options: Any) -> Any:
        python, option, module, *others = command
        if option != "-m" or module not in (WEBSERVER, DAEMON):
            raise RuntimeError(f"`dagster dev` starts `{' '.join(command[:3])}`, not known here.")
        module = webserver if module == WEBSERVER else module
        return start([python, option, module, *others], **options)

    module_of_dev.open_ipc_subprocess = ours
    dev.dev_command(list(arguments))


def use_engine(storage: DagsterPostgresStorage, engine: Engine) -> None:
    """Let all parts of a storage connect by this engine. It is disposed of with the storage."""
    parts: Any = (storage.run_storage, storage.event_log_storage, storage.schedule_storage)
    for part in parts:
        part._engine = engine
    # An instance keeps the parts and not the storage. A code server makes one for every tick of a
    # sensor, so their connections would become many.
    weakref.finalize(storage.event_log_storage, engine.dispose)
