"""`make demo`: the whole road once, with progress while it works and a summary at the end.

Here belongs the telling of a run; what is run are the servers (`stack`), the seed data (`seed_data`) and every asset
and check of the code location, in one Dagster run that the UI shows afterwards.
"""

from __future__ import annotations

import os
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from rich.console import Console
from rich.table import Table

LAYERS = (
    "raw_shop",
    "raw_catalog",
    "lake",
    "staging",
    "warehouse",
    "aggregates",
    "production",
    "extracts",
)


SAMPLE_SECONDS = 3


class DemoFailed(RuntimeError):
    """A step of the run failed; the message names the steps and says where to read on."""


@dataclass
class PeakMemory:
    """Samples the memory that processes take together; shared pages are counted once (proportional set size)."""

    pids: list[int]
    peak_bytes: int = 0
    _stop: threading.Event = field(default_factory=threading.Event)

    def _processes(self) -> Iterator[psutil.Process]:
        for pid in self.pids:
            try:
                process = psutil.Process(pid)
                yield process
                yield from process.children(recursive=True)
            except psutil.NoSuchProcess:
                continue

    def _sample(self) -> int:
        total = 0
        for process in {p.pid: p for p in self._processes()}.values():
            try:
                total += process.memory_full_info().pss
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
        return total

    @contextmanager
    def measured(self) -> Iterator[None]:
        """Sample every few seconds while the block runs: adding up shared pages takes the kernel some milliseconds."""

        def watch() -> None:
            while not self._stop.wait(SAMPLE_SECONDS):
                self.peak_bytes = max(self.peak_bytes, self._sample())

        thread = threading.Thread(target=watch, daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._stop.set()
            thread.join()


@dataclass
class Stages:
    """Seconds per named stage, in order, each told on the console when it ends."""

    console: Console
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time the block under `name`."""
        started = time.monotonic()
        yield
        self.add(name, time.monotonic() - started)

    def add(self, name: str, seconds: float) -> None:
        """Note a stage that was timed elsewhere."""
        self.seconds[name] = self.seconds.get(name, 0.0) + seconds
        self.console.print(f"  [green]✓[/] {name:<34} {seconds:6.1f} s")


def materialize_everything(console: Console, stages: Stages):
    """Run every asset and check in one Dagster run against the instance in `DAGSTER_HOME`; returns its result.

    Raises `DemoFailed` if a step fails. Steps are told as they end.
    """
    import dagster as dg

    from softcart_assets.definitions import defs

    job = defs().resolve_implicit_global_asset_job_def()
    run_id = str(uuid.uuid4())
    done = threading.Event()

    def tell(instance: dg.DagsterInstance) -> None:
        """Follow the run's event log from its own thread: the run itself gives no sign until it ends."""
        cursor, started = None, {}
        of_type = {
            dg.DagsterEventType.STEP_START,
            dg.DagsterEventType.STEP_SUCCESS,
            dg.DagsterEventType.STEP_FAILURE,
        }
        with console.status("materialising …") as status:
            finished = False
            while not finished:
                finished = done.wait(0.5)
                connection = instance.get_records_for_run(run_id, cursor=cursor, of_type=of_type)
                cursor = connection.cursor
                for record in connection.records:
                    entry = record.event_log_entry
                    step, kind = entry.step_key or "", entry.get_dagster_event().event_type
                    if kind == dg.DagsterEventType.STEP_START:
                        started[step] = entry.timestamp
                        status.update(f"{step} …")
                    elif kind == dg.DagsterEventType.STEP_SUCCESS:
                        stages.add(step, entry.timestamp - started[step])
                    else:
                        console.print(f"  [red]✗ {step}[/]")

    with dg.DagsterInstance.get() as instance:
        follower = threading.Thread(target=tell, args=(instance,), daemon=True)
        follower.start()
        try:
            result = job.execute_in_process(
                instance=instance,
                run_id=run_id,
                raise_on_error=False,
                run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
            )
        finally:
            done.set()
            follower.join()
    if not result.success:
        failures = [
            f"{e.step_key}: {_root_cause(e.step_failure_data.error)}"
            for e in result.filter_events(_failed)
        ]
        raise DemoFailed(
            "\n  ".join(["These steps failed:", *failures, f"More in `make ui`, run {run_id}."])
        )
    return result


def _failed(event) -> bool:
    return event.is_step_failure


def _root_cause(error) -> str:
    """What went wrong first: Dagster wraps an asset's own error."""
    while error and error.cause:
        error = error.cause
    return error.message.strip() if error else "failed"


@contextmanager
def _output_to(log: Path) -> Iterator[Console]:
    """Send what libraries and the JVM print to a file; the console that comes out still reaches the terminal."""
    terminal = os.fdopen(os.dup(1), "w")
    kept = os.dup(1), os.dup(2)
    log.parent.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    with log.open("a") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        try:
            yield Console(file=terminal)
        finally:
            sys.stdout.flush()
            for number, original in enumerate(kept, start=1):
                os.dup2(original, number)
                os.close(original)
            terminal.close()


@dataclass(frozen=True)
class Report:
    """What a demo run came to: seconds per stage and in all, assets and rows per layer, peak memory in bytes."""

    stages: dict[str, float]
    seconds: float
    assets: dict[str, int]
    rows: dict[str, int]
    peak_bytes: int


def _count(result) -> tuple[Counter[str], Counter[str]]:
    """Materialised assets and their rows, per layer."""
    assets: Counter[str] = Counter()
    rows: Counter[str] = Counter()
    for event in result.get_asset_materialization_events():
        layer = event.asset_key.path[0]
        assets[layer] += 1
        count = event.materialization.metadata.get("dagster/row_count")
        rows[layer] += int(count.value) if count is not None else 0
    return assets, rows


def _summary(console: Console, result, report: Report, outputs: list[str]) -> None:
    table = Table("layer", "assets", "rows", title="What there is now", title_justify="left")
    table.columns[1].justify = table.columns[2].justify = "right"
    for layer in LAYERS:
        rows = report.rows.get(layer)
        table.add_row(layer, f"{report.assets.get(layer, 0):,}", f"{rows:,}" if rows else "–")
    console.print(table)
    checks = result.get_asset_check_evaluations()
    failed = [check for check in checks if not check.passed]
    console.print(f"Checks: {len(checks) - len(failed)} of {len(checks)} passed.")
    for check in failed:
        console.print(
            f"  [yellow]{check.severity.value.lower()}[/] {check.asset_key.to_user_string()}: {check.check_name}"
        )
    console.print(
        f"Seconds: {report.seconds:.0f} in all; peak memory, servers included: {report.peak_bytes / 2**30:.1f} GB."
    )
    console.print("Open:")
    for output in outputs:
        console.print(f"  {output}")


def run(scale: float, seed: int, home: Path) -> Report:
    """Start the servers, seed them, materialise everything, tell what came of it.

    Raises `DemoFailed`, `StackError` and what seeding raises.
    """
    from seed_data.cli import seed as seed_sources
    from softcart_assets.dbt import prepare_manifest
    from softcart_assets.stack import Stack

    console = Console()
    started = time.monotonic()
    stages = Stages(console)
    stack = Stack(home)
    with stages.stage("servers"):
        os.environ |= stack.up()
    memory = PeakMemory([psutil.Process().pid, *stack.pids()])
    with memory.measured():
        with stages.stage("seed data"):
            seed_sources(scale=scale, seed=seed)
        with stages.stage("dbt manifest"):
            prepare_manifest()
        with _output_to(home / "logs" / "demo.log") as stages.console:
            result = materialize_everything(stages.console, stages)
    assets, rows = _count(result)
    report = Report(
        stages.seconds, time.monotonic() - started, dict(assets), dict(rows), memory.peak_bytes
    )
    _summary(
        console,
        result,
        report,
        [
            f"file://{home / 'extracts' / 'dashboard.html'}   (the dashboard)",
            "make ui   (the Dagster UI)",
        ],
    )
    return report
