"""`make demo`: everything once, with progress while it works and a summary at the end.

The demo starts the servers (`stack`), fills the sources (`seed_data`) and makes every asset that is
not up to date (`runs`). This module shows what happens. The UI shows the runs
afterwards.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import psutil
from rich.console import Console
from rich.table import Table

from seed_data.common.seeding import seed as seed_lines
from softcart_assets.assembly import LINES
from softcart_assets.connections import PostgresConnection, staging
from softcart_assets.dbt import prepare_manifest
from softcart_assets.ingestion.sinks.ods import rebuild
from softcart_assets.lines.model import Source
from softcart_assets.progress import Stages
from softcart_assets.runs import Outcome, materialize_everything
from softcart_assets.stack import Stack
from softcart_assets.web.applications import applications

SAMPLE_SECONDS = 6


class DemoFailed(RuntimeError):
    """A step of the run failed. The message names the steps and says where to read on."""


@dataclass
class PeakMemory:
    """Samples the memory that processes take together.

    It adds up proportional set sizes, so pages that several processes share count once.
    """

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
        # Servers that this process started are found twice: by their own id, and as its children.
        for process in {p.pid: p for p in self._processes()}.values():
            try:
                total += process.memory_full_info().pss
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
        return total

    @contextmanager
    def measured(self) -> Iterator[None]:
        """Sample every few seconds while the block runs.

        Not more often, because the kernel takes up to a tenth of a second for all shared pages.
        """

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


def layers(sources: Iterable[Source]) -> list[str]:
    """The groups of assets in the order in which data move through them."""
    sources = list(sources)
    return [
        *(source.reporting for source in sources if source.reported),
        *(source.schema for source in sources),
        *(source.lake for source in sources),
        *("staging", "identities", "warehouse", "aggregates", "ml", "production", "extracts"),
    ]


@contextmanager
def _output_to(log: Path) -> Iterator[Console]:
    """Send everything that libraries and the JVM print to a file.

    Yields a console that still reaches the terminal.
    """
    # File descriptors, not `sys.stdout`: the JVM and C libraries write to the descriptors.
    terminal = os.fdopen(os.dup(1), "w")
    kept = os.dup(1), os.dup(2)
    log.parent.mkdir(parents=True, exist_ok=True)
    # Python may still hold text that belongs to the terminal.
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
    """The figures of a demo run.

    `stages`: seconds per stage. `seconds`: the whole run. `assets` and `rows`: per layer.
    `peak_bytes`: the most memory that all processes took together, servers included.
    """

    stages: dict[str, float]
    seconds: float
    assets: dict[str, int]
    rows: dict[str, int]
    peak_bytes: int


def _count(outcome: Outcome) -> tuple[Counter[str], Counter[str]]:
    """Assets and their rows, per layer."""
    assets: Counter[str] = Counter()
    rows: Counter[str] = Counter()
    for event in outcome.materializations:
        layer = event.asset_key.path[0]
        assets[layer] += 1
        count = event.metadata.get("dagster/row_count")
        rows[layer] += int(str(count.value)) if count is not None else 0
    return assets, rows


def _summary(console: Console, outcome: Outcome, report: Report) -> None:
    table = Table("layer", "assets", "rows", title="What there is now", title_justify="left")
    table.columns[1].justify = table.columns[2].justify = "right"
    for layer in layers(LINES.sources):
        rows = report.rows.get(layer)
        table.add_row(layer, f"{report.assets.get(layer, 0):,}", f"{rows:,}" if rows else "–")
    console.print(table)
    failed = [check for check in outcome.checks if not check.passed]
    console.print(f"Checks: {len(outcome.checks) - len(failed)} of {len(outcome.checks)} passed.")
    for check in failed:
        console.print(
            f"  [yellow]{check.severity.value.lower()}[/] "
            f"{check.asset_key.to_user_string()}: {check.check_name}"
        )
    if outcome.waiting:
        names = ", ".join(key.to_user_string() for key in sorted(outcome.waiting))
        console.print(f"Not up to date, because something before them failed: {names}")
    console.print(
        f"The run took {report.seconds:.0f} s, and at most {report.peak_bytes / 2**30:.1f} GB of "
        "memory, servers included."
    )


def show_totals(
    console: Console, staging: PostgresConnection, sources: Iterable[Source]
) -> list[str]:
    """Show the running totals of sources beside a recount from raw. Returns what is wrong."""
    table = Table(
        *("running total", "measure", "in ods", "recounted"),
        title="Running totals of all keys and all time",
        title_justify="left",
    )
    table.columns[2].justify = table.columns[3].justify = "right"
    wrong = []
    declared = [(source, total) for source in sources for total in source.totals]
    with ThreadPoolExecutor(2) as threads:
        counts = threads.map(lambda each: rebuild.check(staging, *each), declared)
        for found in counts:
            if found.wrong:
                wrong.append(f"ods.{found.name}: {found.wrong:,} rows differ from a recount")
            for currency, measure in sorted({*found.kept, *found.counted}, key=str):
                key = (currency, measure)
                table.add_row(
                    found.name,
                    f"{measure} {currency or ''}".strip(),
                    *(f"{each.get(key, 0):,f}" for each in (found.kept, found.counted)),
                )
    if declared:
        console.print(table)
    return wrong


def _outputs(home: Path) -> list[str]:
    pages = (
        f"{(home / 'extracts' / f'{dashboard.name}.html').as_uri()}   ({dashboard.description})"
        for dashboard in (*LINES.dashboards, *LINES.own_dashboards)
    )
    # With too little to learn from there is none.
    reports = (
        f"{path.as_uri()}   (The report on the model {model.name}.)"
        for model in LINES.models
        if (path := home / "extracts" / f"{model.report}.html").is_file()
    )
    return [
        *pages,
        *reports,
        "make ui   (the Dagster UI)",
        ".venv/bin/softcart serve pages   (the pages and extracts, for others)",
        *(line for each in applications().values() for line in each.opened()),
    ]


def run(scale: float, seed: int, home: Path) -> Report:
    """Start the servers, fill the sources, make what is not up to date, show the outcome.

    Raises `DemoFailed` after the summary if a step failed. Raises `StackError` if a server does not
    start, and `SeedError` if a source cannot be filled.
    """
    console = Console()
    started = time.monotonic()
    stages = Stages(console)
    stack = Stack(home)
    with stages.stage("servers"):
        os.environ |= stack.up()
    memory = PeakMemory([psutil.Process().pid, *stack.pids()])
    with memory.measured(), _output_to(home / "logs" / "demo.log") as stages.console:
        # dbt parses in a process of its own, beside Spark, which often needs one core only.
        with stages.stage("seed data, dbt manifest"), ThreadPoolExecutor(1) as beside:
            manifest = beside.submit(prepare_manifest)
            # The aggregates go on with the session of Spark, whose Java is warm by then.
            seed_lines(LINES, scale=scale, seed=seed, keep_spark=True, console=stages.console)
            for each in applications().values():
                each.seeded()
            manifest.result()
        outcome = materialize_everything(stages.add, stages.failed, stages.console.status)
    assets, rows = _count(outcome)
    seconds = time.monotonic() - started
    report = Report(stages.seconds, seconds, dict(assets), dict(rows), memory.peak_bytes)
    wrong = []
    if outcome.runs or outcome.waiting:
        _summary(console, outcome, report)
        if not outcome.failures:
            wrong = show_totals(console, staging(), LINES.sources)
    else:
        where = ", ".join(f"{name} {each}" for name, each in outcome.positions.items())
        console.print(
            f"Unchanged since position {where}, checked at {datetime.now(UTC):%Y-%m-%d %H:%M:%S} "
            f"UTC. No run was started, in {report.seconds:.0f} s."
        )
    console.print("Open:")
    for output in _outputs(home):
        console.print(f"  {output}")
    # An audit that failed holds a line of business back without making a step fail.
    held = [
        f"{check.asset_key.to_user_string()}: {check.check_name}"
        for check in outcome.checks
        if not check.passed and check.severity == dg.AssetCheckSeverity.ERROR
    ]
    if outcome.failures or held or wrong:
        failed = [*outcome.failures, *(f"check {name}" for name in held), *wrong]
        raise DemoFailed("\n  ".join(["This failed:", *failed, "More in `make ui`, Runs."]))
    return report
