"""Runs dbt in this process.

A process of its own would import dbt and read the manifest again for each op, some 6 CPU seconds
before its first query. Here dbt also ends with its run, however that ends. It must not go on when
the raw tables change again.
"""

from __future__ import annotations

import gc
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import dagster as dg

from softcart_assets.dbt import keep_values_out_of_errors, name_flags_at_once, server_named

_one_at_a_time = threading.Lock()
"""dbt keeps its flags, its log and its connections in global variables."""


_SELECTED = "selected_by_softcart"
"""The tag of the nodes that a run of dbt is for."""


class DbtFailed(RuntimeError):
    """dbt could not do what it was asked for. The message says what failed and why."""


def run_dbt(command: str, nodes: Sequence[str], project: Path, target: Path) -> list[Any]:
    """Run `dbt build` or `dbt test` for exactly these nodes. Returns dbt's result of each.

    `nodes`: their ids in the manifest. `target`: the folder for the compiled SQL. Progress goes to
    standard output. An interrupt cancels the queries that run, and is raised then. Raises
    `DbtFailed` if dbt did not come as far as the nodes.
    """
    chosen = set(nodes)
    with _one_at_a_time, _interrupts_for_dbt():
        manifest = _manifest(project)
        # One name for all. dbt compares each name that it is given with each node of the project,
        # four times.
        for name, node in manifest.nodes.items():
            node.tags = [tag for tag in node.tags if tag != _SELECTED]
            node.tags += [_SELECTED] if name in chosen else []
        options = ["--indirect-selection", "empty", "--select", f"tag:{_SELECTED}"]
        arguments = [command, *_places(project, target), *options]
        return list(_invoke(arguments, manifest).results)


def prepare_dbt(project: Path) -> None:
    """Import dbt and parse the project for later runs, which takes seconds.

    Call it in a thread of its own while the process waits for others. Raises `DbtFailed`.
    """
    with _one_at_a_time:
        _manifest(project)


def _manifest(project: Path) -> Any:
    last = _last_parsing(project)
    return _parsed(project, last.stat().st_mtime_ns if last.exists() else 0, server_named())


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
    # Nobody reads its copies of the manifest and of the results. Its loggers format each of some
    # 3,000 events before they drop those below their level: a sixth of the processor time.
    return [*options, "--no-write-json", "--log-level", "none", "--log-level-file", "none"]


@lru_cache(maxsize=1)
def _parsed(project: Path, last_parsed_at: int, server: str) -> Any:
    """The manifest as dbt has it, for this op and the next one.

    dbt takes 1.3 CPU seconds for it even if it kept its last parsing, because it reads all files of
    the project again. The nodes name the `server`'s database.
    """
    arguments = ["parse", *_places(project, project / "target" / "parsed")]
    if last_parsed_at:
        arguments += ["--partial-parse-file-path", str(_last_parsing(project))]
    # Nothing of this becomes garbage. To look for it costs a second, now and in each later search.
    gc.disable()
    try:
        return _invoke(arguments)
    finally:
        gc.freeze()
        gc.enable()


def _tell(event: Any) -> None:
    print(f"{datetime.now(UTC):%H:%M:%S}  {event.info.msg}")


def _invoke(arguments: list[str], manifest: Any = None) -> Any:
    # 1.2 CPU seconds, which only a run that needs dbt should pay.
    from dbt.cli.main import dbtRunner

    name_flags_at_once()
    keep_values_out_of_errors()
    drop_debug_events()
    done = dbtRunner(manifest, callbacks=[_tell]).invoke(arguments)
    if isinstance(done.exception, KeyboardInterrupt):
        raise dg.DagsterExecutionInterruptedError
    if done.exception:
        raise DbtFailed(f"dbt {arguments[0]} failed.\n{done.exception}") from done.exception
    return done.result


@cache
def drop_debug_events() -> None:
    """Have dbt make no message of a debug event: 28 per node, and nobody reads them."""
    from dbt_common.events.base_types import BaseEvent, EventLevel
    from dbt_common.events.event_manager import EventManager
    from dbt_common.events.event_manager_client import ctx_set_event_manager

    class WithoutDebug(EventManager):
        def fire_event(
            self,
            e: BaseEvent,
            level: EventLevel | None = None,
            node: Any = None,
            force_warn_or_error_handling: bool = False,
        ) -> None:
            if (level or e.level_tag()) not in (EventLevel.DEBUG, EventLevel.TEST):
                super().fire_event(e, level, node, force_warn_or_error_handling)

    ctx_set_event_manager(WithoutDebug())


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
