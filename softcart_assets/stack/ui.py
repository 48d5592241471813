"""Runs Dagster's webserver and daemon as children of one command, and ends all of them with it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
from filelock import FileLock, Timeout

from softcart_assets.connections import LOOPBACK, SettingError
from softcart_assets.stack.server import (
    StackError,
    address_of,
    alive_after,
    free_port,
    port_is_free,
)

USUAL_PORT = 3000
PASSWORD = "SOFTCART_UI_PASSWORD"
STOP_SECONDS = 1.0
"""So long processes may take to end by themselves. A webserver waits for its browsers, for ever.

By force is as good: a run that is killed is marked as failed at the next start, its transactions
are rolled back, and its locks are free at once.
"""


def serve(
    repository: Path,
    port: int | None = None,
    host: str = "127.0.0.1",
    tell: Callable[[str], None] = lambda address: None,
) -> int:
    """Run `dagster dev` until it ends, or until SIGINT, SIGTERM or SIGHUP.

    The workspace is `repository/workspace.yaml`. All settings come from the environment. `port`:
    by default `USUAL_PORT` or a free one. `tell` gets the address before Dagster starts. Returns
    the exit code, 0 after a signal. Raises `StackError` if another UI serves this DAGSTER_HOME, or
    if the port is taken, and `SettingError` if others could use the UI without a password.
    """
    if host not in LOOPBACK and not os.environ.get(PASSWORD):
        raise SettingError(
            f"On {host}, whoever reaches this machine could use the UI. Set {PASSWORD} first."
        )
    home = Path(os.environ["DAGSTER_HOME"])
    # Beside the lock: who cannot have that looks there.
    address = home / "ui.address"
    try:
        with FileLock(home / "ui.lock", blocking=False):
            address.unlink(missing_ok=True)
            if port is None:
                # Another clone or another program may use the usual port.
                port = USUAL_PORT if port_is_free(USUAL_PORT) else free_port()
            elif not port_is_free(port):
                raise StackError(
                    f"Another program uses port {port}. Name another one, or none: then the UI "
                    "takes a free one."
                )
            address.write_text(address_of(host, port))
            tell(address.read_text())
            _fail_dead_runs()
            return _dagster_dev(repository, port, host)
    except Timeout:
        where = f" at {address.read_text()}" if address.exists() else ""
        raise StackError(
            f"A Dagster UI of {home} runs already{where}. Use it, or end it first."
        ) from None


def _fail_dead_runs() -> None:
    """Mark runs as failed whose processes are gone, such as those that ended with an earlier UI.

    Otherwise Dagster would believe that they still run, and no run that shares a pool with them
    would start.
    """
    import dagster as dg

    from softcart_assets.dagster_private import runs_in_code_server
    from softcart_assets.run_processes import fail_dead_runs, is_alive

    unfinished = [
        dg.DagsterRunStatus.STARTING,
        dg.DagsterRunStatus.STARTED,
        dg.DagsterRunStatus.CANCELING,
    ]
    with dg.DagsterInstance.get() as instance:
        fail_dead_runs(instance)
        # Of runs that had not begun when their code server ended, nobody knows the process. A run
        # may also have outlived a UI that was killed.
        for run in instance.get_runs(dg.RunsFilter(statuses=unfinished)):
            if runs_in_code_server(run) and not is_alive(instance, run.run_id):
                instance.report_run_failed(
                    run, "The run's process ended together with the Dagster UI."
                )


def _dagster_dev(repository: Path, port: int, host: str) -> int:
    # These signals then raise KeyboardInterrupt as Ctrl-C does, and the children are ended below.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    # In a session of its own, Ctrl-C reaches only us. At the end, the session shows all of its
    # processes: after a signal, `dagster dev` may leave its daemon and code servers running.
    # Its successor, `dg dev`, does not read workspace.yaml, so the advice to use it is hidden.
    process = subprocess.Popen(
        [
            *(
                sys.executable,
                "-W",
                "ignore:Function `dev_command` is superseded",
                "-m",
                "softcart_assets.stack.dev",
            ),
            *("-w", "workspace.yaml", "-h", host, "-p", str(port)),
            # The daemon tells each tick of each sensor, although the UI shows them all.
            *("--log-level", "warning"),
        ],
        cwd=repository,
        start_new_session=True,
    )
    try:
        return process.wait()
    except KeyboardInterrupt:
        process.send_signal(signal.SIGINT)
        return 0
    finally:
        _end_session(process.pid)


def _end_session(leader: int) -> None:
    """Wait until all processes of a session have ended, after `STOP_SECONDS` by force.

    A further signal is impatience: then force comes at once, and nothing is left behind.
    """
    patience = STOP_SECONDS
    while True:
        try:
            alive_after(list(_session(leader)), patience)
            # Looked for again: one of them may have started another meanwhile.
            for survivor in _session(leader):
                with suppress(psutil.NoSuchProcess):
                    survivor.kill()
            return
        except KeyboardInterrupt:
            patience = 0


def _session(leader: int) -> Iterator[psutil.Process]:
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) == leader:
                yield process
        except ProcessLookupError:
            continue
