"""Runs dbt in this process.

A process of its own would import dbt and read the manifest again for each op, some 6 CPU seconds
before its first query. Here dbt also ends with its run, however that ends. It must not go on when
the raw tables change again.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import dagster as dg

from softcart_assets.dbt import name_flags_at_once, server_named

_one_at_a_time = threading.Lock()
"""dbt keeps its flags, its log and its connections in global variables."""


class DbtFailed(RuntimeError):
    """dbt could not do what it was asked for. The message says what failed and why."""


def run_dbt(command: str, nodes: Sequence[str], project: Path, target: Path) -> list[Any]:
    """Run `dbt build` or `dbt test` for exactly these nodes. Returns dbt's result of each.

    `nodes`: paths in the project, with dots. `target`: the folder for the compiled SQL and dbt's
    own log. Progress goes to standard output. An interrupt cancels the queries that run, and is
    raised then. Raises `DbtFailed` if dbt did not come as far as the nodes.
    """
    last = _last_parsing(project)
    with _one_at_a_time, _interrupts_for_dbt():
        manifest = _parsed(project, last.stat().st_mtime_ns if last.exists() else 0, server_named())
        # A unit test has a path below its model's.
        options = ["--exclude-resource-type", "unit_test", "--indirect-selection", "empty"]
        arguments = [command, *_places(project, target), *options, "--select", *nodes]
        return list(_invoke(arguments, manifest).results)


def _last_parsing(project: Path) -> Path:
    return project / "target" / "partial_parse.msgpack"


def _places(project: Path, target: Path) -> list[str]:
    places = {
        "project-dir": project,
        "profiles-dir": project,
        "target-path": target,
        "log-path": target,
    }
    options = [text for name, path in places.items() for text in (f"--{name}", str(path))]
    # Nobody reads its copies of the manifest and of the results.
    return [*options, "--no-write-json"]


@lru_cache(maxsize=1)
def _parsed(project: Path, last_parsed_at: int, server: str) -> Any:
    """The manifest as dbt has it, for this op and the next one.

    dbt takes 1.3 CPU seconds for it even if it kept its last parsing, because it reads all files of
    the project again. The nodes name the `server`'s database.
    """
    arguments = ["parse", "--quiet", *_places(project, project / "target" / "parsed")]
    if last_parsed_at:
        arguments += ["--partial-parse-file-path", str(_last_parsing(project))]
    return _invoke(arguments)


def _invoke(arguments: list[str], manifest: Any = None) -> Any:
    # 1.2 CPU seconds, which only a run that needs dbt should pay.
    from dbt.cli.main import dbtRunner

    name_flags_at_once()
    done = dbtRunner(manifest=manifest).invoke(arguments)
    if isinstance(done.exception, KeyboardInterrupt):
        raise dg.DagsterExecutionInterruptedError
    if done.exception:
        raise DbtFailed(f"dbt {arguments[0]} failed.\n{done.exception}") from done.exception
    return done.result


@contextmanager
def _interrupts_for_dbt() -> Iterator[None]:
    """Have signals raise `KeyboardInterrupt`, as dbt expects. It then cancels its queries.

    It would take Dagster's own exception for any other, and its threads would go on.
    """
    if threading.current_thread() is not threading.main_thread():
        # Signals never come here.
        yield
        return
    numbers = (signal.SIGINT, signal.SIGTERM)
    kept = {number: signal.signal(number, signal.default_int_handler) for number in numbers}
    try:
        yield
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)
