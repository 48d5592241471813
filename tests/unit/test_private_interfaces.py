"""The private interfaces of libraries that we use are still what we take them for."""

from __future__ import annotations

import inspect
import re
from contextlib import suppress
from pathlib import Path
from typing import Any
from unittest import mock

import dagster as dg
import pymysql
import pytest
from dagster._cli import dev
from dagster._core.execution import context_creation_job
from dagster._core.launcher import DefaultRunLauncher
from dagster._grpc import server
from dagster_postgres import (
    PostgresEventLogStorage,
    PostgresRunStorage,
    PostgresScheduleStorage,
)
from dagster_webserver import cli
from dbt_common.behavior_flags import BehaviorFlagRendered
from dbt_common.events import event_manager_client
from dbt_common.events.base_types import EventLevel
from dbt_common.events.event_manager import EventManager
from dbt_common.events.functions import fire_event
from dbt_common.events.types import Note

from softcart_assets.components.dbt_runs import drop_debug_events
from softcart_assets.dagster_private import (
    DAEMON,
    DATA_VERSION_TAG,
    GRPC_INFO_TAG,
    WEBSERVER,
    DataProvenance,
    dagster_dev,
    quieten_runs,
    runs_in_code_server,
)
from softcart_assets.dbt import name_flags_at_once
from softcart_assets.ingestion.connectors.mysql import private

REPOSITORY = Path(__file__).parents[2]


def test_dagster_the_launcher_tags_runs_that_a_code_server_executes() -> None:
    instance, client = mock.Mock(), mock.Mock(host="localhost", port=1, use_ssl=False)
    run = dg.DagsterRun(job_name="job")
    with suppress(Exception):  # it goes on to ask the server, which there is none of
        DefaultRunLauncher.launch_run_from_grpc_client(instance, run, client)
    _, tags = instance.add_run_tags.call_args.args
    assert runs_in_code_server(run.with_tags(tags))
    assert not runs_in_code_server(run)
    assert GRPC_INFO_TAG in tags


def test_dbt_does_not_look_for_its_flags_on_the_call_stack(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # So that it is as it was afterwards.
    monkeypatch.setattr(
        BehaviorFlagRendered, "_default_source", BehaviorFlagRendered._default_source
    )
    name_flags_at_once()
    with mock.patch("inspect.stack", side_effect=AssertionError):
        BehaviorFlagRendered({"name": "flag", "default": True, "docs_url": ""}, {})


def test_dbt_makes_no_message_of_a_debug_event(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_manager_client, "_EVENT_MANAGER", EventManager())
    drop_debug_events.cache_clear()
    drop_debug_events()
    told: list[str] = []

    def tell(message: Any) -> None:
        told.append(message.info.msg)

    event_manager_client.add_callback_to_manager(tell)
    for level in EventLevel:
        fire_event(Note(msg=level.value), level=level)
    assert told == ["info", "warn", "error"]
    drop_debug_events.cache_clear()


def test_dagster_runs_write_only_warnings_to_the_terminal(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    # So that it is as it was afterwards.
    kept = context_creation_job.default_system_loggers
    monkeypatch.setattr(context_creation_job, "default_system_loggers", kept)
    quieten_runs()

    @dg.asset
    def talkative(context) -> None:  # type: ignore[no-untyped-def]
        context.log.info("a trifle")
        context.log.warning("a danger")

    assert dg.materialize([talkative]).success
    told = capfd.readouterr()
    assert "a danger" in told.err
    assert "a trifle" not in told.err
    assert "RUN_SUCCESS" not in told.err


def test_dagster_dev_starts_two_modules_and_ours_takes_the_place_of_the_webserver() -> None:
    """tests/integration/test_ui_guard.py shows that it serves."""
    source = inspect.getsource(dev.dev_command_impl)
    started = re.findall(
        r"\w*subprocess\w*\(\s*\[\s*sys.executable,\s*\"-m\",\s*\"([\w.]+)\"", source
    )
    assert started == [WEBSERVER, DAEMON]
    assert source.count("open_ipc_subprocess(") == 2


def test_dagster_dev_may_start_nothing_that_we_do_not_know() -> None:
    commands: list[list[str]] = []

    def run(_: list[str]) -> None:
        for module in (WEBSERVER, DAEMON, "dagster_other"):
            dev.open_ipc_subprocess(["python", "-m", module, "--port", "1"])

    with (
        mock.patch.object(dev, "open_ipc_subprocess", lambda command: commands.append(command)),
        mock.patch.object(dev, "dev_command", run),
        pytest.raises(RuntimeError, match="dagster_other"),
    ):
        dagster_dev([], "ours")
    assert commands == [
        ["python", "-m", "ours", "--port", "1"],
        ["python", "-m", DAEMON, "--port", "1"],
    ]


def test_a_code_server_starts_its_runs_by_the_context_that_we_replace() -> None:
    """tests/e2e/test_automation.py shows that runs are then forked, and end with the server."""
    assert 'self._mp_ctx = multiprocessing.get_context("spawn")' in inspect.getsource(
        server.DagsterApiServer.__init__
    )
    started = inspect.getsource(server.DagsterApiServer.StartRun)
    assert set(re.findall(r"_mp_ctx\.(\w+)\(", started)) == {"Queue", "Event", "Process"}


def test_dagster_tags_an_event_with_its_data_version_and_what_it_was_made_of() -> None:
    @dg.asset(code_version="1")
    def one() -> dg.MaterializeResult[None]:
        return dg.MaterializeResult(data_version=dg.DataVersion("of one"))

    @dg.asset(code_version="2", deps=[one])
    def two() -> None: ...

    found = dg.materialize([one, two]).get_asset_materialization_events()
    tags = [event.step_materialization_data.materialization.tags or {} for event in found]
    assert tags[0][DATA_VERSION_TAG] == "of one"
    assert tags[1][DATA_VERSION_TAG]
    origin = DataProvenance.from_tags(tags[1])
    assert origin
    assert origin.code_version == "2"
    assert {key.path[0]: each.value for key, each in origin.input_data_versions.items()} == {
        "one": "of one"
    }


def test_dagsters_webserver_makes_its_application_by_the_name_that_we_replace() -> None:
    serve = cli.host_dagster_ui_with_workspace_process_context
    assert "app = create_app_from_workspace_process_context(" in inspect.getsource(serve)


@pytest.mark.parametrize(
    ("part", "connect"),
    [
        (PostgresRunStorage, "connect"),
        (PostgresEventLogStorage, "_connect"),
        (PostgresScheduleStorage, "connect"),
    ],
)
def test_dagsters_storage_connects_by_the_engine_that_we_replace(part: type, connect: str) -> None:
    """tests/integration/test_dagster_storage.py shows that it then keeps its connections."""
    assert "create_pg_connection(self._engine)" in inspect.getsource(getattr(part, connect))


def test_dagster_dev_sets_what_no_other_command_does() -> None:
    source = inspect.getsource(dev)
    for name in ("DAGSTER_IS_DEV_CLI", "DAGSTER_verbose"):
        assert f'os.environ["{name}"]' in source
    packages = Path(dg.__file__).parents[1].glob("dagster*")
    files = [file for package in packages for file in package.rglob("*.py")]
    sets = 'environ["DAGSTER_verbose"]'
    assert [file for file in files if sets in file.read_text()] == [Path(dev.__file__)]


def test_pymysql_has_the_private_methods_that_read_a_binary_log() -> None:
    parameters = {
        name: list(inspect.signature(getattr(pymysql.connections.Connection, name)).parameters)
        for name in private.NAMES
    }
    assert parameters == {
        "_execute_command": ["self", "command", "sql"],
        "_read_ok_packet": ["self"],
        "_force_close": ["self"],
    }


def test_pymysql_keeps_its_socket_in_the_private_attribute_sock() -> None:
    connection = pymysql.connections.Connection(host="", defer_connect=True)
    assert connection._sock is None  # type: ignore[attr-defined]
    assert "self._sock = " in inspect.getsource(pymysql.connections.Connection.connect)


def test_pymysql_leaves_the_rows_of_a_query_in_its_private_stream() -> None:
    """`private.take_rows` reads them there, and `connections` sets two times for answers."""
    connection = inspect.getsource(pymysql.connections.Connection)
    assert 'self._rfile = sock.makefile("rb")' in connection
    assert "self._sock.settimeout(self._read_timeout)" in connection
    assert "self._sock.settimeout(self._write_timeout)" in connection
    assert "self._result.unbuffered_active" in connection
    assert "self.unbuffered_active = True" in inspect.getsource(pymysql.connections.MySQLResult)


@pytest.mark.parametrize(("library", "module"), [("dagster", "softcart_assets/dagster_private.py")])
def test_one_module_uses_the_private_interfaces_of(library: str, module: str) -> None:
    private = re.compile(rf"^\s*(from|import) {library}\w*(\.\w+)*\._", re.MULTILINE)
    users = [
        str(file.relative_to(REPOSITORY))
        for folder in ("softcart_assets", "seed_data", "spark")
        for file in (REPOSITORY / folder).rglob("*.py")
        if private.search(file.read_text())
    ]
    assert users == [module]
