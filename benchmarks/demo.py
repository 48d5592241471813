"""What `make demo` costs: the first time, with nothing changed, and after changes.

    python -m benchmarks demo [--scales 1,10] [--keep]

Each size has a home of its own with its own servers. Each run is a process of its own, as on the
command line. It measures seconds per stage, processor time, and the peak memory. Results go to
`benchmarks/results/demo.md` and `demo.svg`.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any

import altair
import pandas
import psutil

from benchmarks.rig import cpu_seconds, machine
from seed_data.common.packages import seeds_of
from softcart_assets.assembly import LINES
from softcart_assets.stack import Stack

RESULTS = Path(__file__).parent / "results"
BYTES_PER_SCALE = 800 * 2**20
"""The most disk space for one unit of scale: sources, binary log, seed files, warehouses, lake."""

SHARE = 0.01
"""The share of the rows that change between two runs."""

FIRST, UNCHANGED, SPREAD, NEWEST = RUNS = (
    "first",
    "nothing changed",
    "1% changed, over all history",
    "1% changed, the newest",
)
"""The runs of each size, in this order."""

GOALS = {
    1: {FIRST: 90, UNCHANGED: 5, SPREAD: 20, NEWEST: 15},
    10: {FIRST: 240, UNCHANGED: 8, SPREAD: 60, NEWEST: 60},
}
"""Seconds on two quiet cores, by scale."""


@dataclass(frozen=True)
class Measured:
    """One run. `seconds`: the whole process, imports included. `changed`: rows changed before it.

    `cpu_seconds`: the processor time of the process and its children. `server_seconds`: that of the
    servers. `report`: what the demo itself reports, see `softcart_assets.demo.Report`.
    """

    seconds: float
    cpu_seconds: float
    server_seconds: float
    changed: int
    report: dict[str, Any]


def measure(scale: float, home: Path) -> dict[str, Measured]:
    """Every run at `scale`. The servers are stopped even after an error."""
    # Each size has servers of its own, whatever the shell names.
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("SOFTCART_", "DAGSTER_"))
    } | {"SOFTCART_HOME": str(home)}
    stack = Stack(home, ignore_environment=True)
    found = {}
    try:
        for name in RUNS:
            changed = 0
            if name in (SPREAD, NEWEST):
                changed = int(_call(environment, home, "change", name)[0])
            before = _server_seconds(stack)
            started = time.monotonic()
            told, cpu = _call(environment, home, "run_demo", scale)
            seconds = time.monotonic() - started
            servers = _server_seconds(stack) - before
            found[name] = Measured(seconds, cpu, servers, changed, json.loads(told))
            print(f"scale {scale:g}, {name}: {seconds:.1f} s", flush=True)
    finally:
        stack.down()
    return found


def _call(
    environment: Mapping[str, str], home: Path, function: str, argument: object
) -> tuple[str, float]:
    """Call a function of this module in a new process. Returns its result and processor time."""
    result = home / "result.json"
    process = subprocess.Popen(
        [
            sys.executable,
            "-c",
            f"from benchmarks import demo; demo.{function}({argument!r}, {str(result)!r})",
        ],
        env=environment,
    )
    # Unlike `Popen.wait`, this also returns the processor time.
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{function}({argument!r}) failed in {home}, see above.")
    return result.read_text(), used.ru_utime + used.ru_stime


def run_demo(scale: float, result: str) -> None:
    """Run the demo and write its report. It runs in a child process."""
    from softcart_assets.demo import run

    report = run(scale, seed=1, home=Path(os.environ["SOFTCART_HOME"]))
    Path(result).write_text(json.dumps(asdict(report)))


def change(name: str, result: str) -> None:
    """Change rows of all sources and write their number. It runs in a child process."""
    os.environ |= Stack(Path(os.environ["SOFTCART_HOME"])).env()
    changed = 0
    for line, data in seeds_of(LINES):
        if data.change:
            sources = {source.name: source for source in line.sources}
            changed += data.change(sources, SHARE, name == NEWEST)
    Path(result).write_text(str(changed))


def _server_seconds(stack: Stack) -> float:
    return sum(cpu_seconds(psutil.Process(pid)) for pid in stack.pids())


def _row(*cells: object) -> str:
    return f"| {' | '.join(map(str, cells))} |"


def _runs(measured: Mapping[float, Mapping[str, Measured]]) -> list[str]:
    """The table with each run and its goal."""
    lines = [
        _row(
            "scale", "run", "rows changed", "seconds", "goal", "", "CPU s", "of the servers", "MB"
        ),
        "|---:|---|" + "---:|" * 3 + "---|" + "---:|" * 3,
    ]
    for scale, runs in measured.items():
        for name, run in runs.items():
            goal = GOALS.get(int(scale), {}).get(name) if scale == int(scale) else None
            lines.append(
                _row(
                    f"{scale:g}",
                    name,
                    f"{run.changed:,}" if run.changed else "–",
                    f"{run.seconds:.1f}",
                    f"≤ {goal}" if goal else "–",
                    ("reached" if run.seconds <= goal else "**not reached**") if goal else "",
                    f"{run.cpu_seconds + run.server_seconds:.1f}",
                    f"{run.server_seconds:.1f}",
                    f"{run.report['peak_bytes'] / 2**20:,.0f}",
                )
            )
    return lines


def _stages(scale: float, runs: Mapping[str, Measured]) -> list[str]:
    """The table with the seconds per stage at one scale."""
    stages = list(dict.fromkeys(s for run in runs.values() for s in run.report["stages"]))
    lines = [_row(f"scale {scale:g}: seconds", *runs), "|---|" + "---:|" * len(runs)]
    for stage in stages:
        seconds = [run.report["stages"].get(stage) for run in runs.values()]
        lines.append(_row(stage, *("–" if s is None else f"{s:.1f}" for s in seconds)))
    between = [run.seconds - sum(run.report["stages"].values()) for run in runs.values()]
    return [*lines, _row("start, end and between stages", *(f"{s:.1f}" for s in between))]


def _rows(measured: Mapping[float, Mapping[str, Measured]]) -> list[str]:
    """The sizes in words."""
    lines = []
    for scale, runs in measured.items():
        rows: dict[str, int] = runs[FIRST].report["rows"]
        raw = sum(count for layer, count in rows.items() if layer.startswith("raw"))
        lines.append(
            f"- scale {scale:g}: {raw:,} rows in raw tables, {sum(rows.values()):,} in all layers"
        )
    return lines


def write_report(measured: Mapping[float, Mapping[str, Measured]]) -> str:
    """The report as Markdown, also written to `results/` with its chart."""
    lines = [
        "# What `make demo` costs",
        "",
        "Each run is a process of its own. Scale 1 is the default. CPU seconds are those of the "
        "run and the servers together. The goals are for two quiet cores.",
        "",
        *_rows(measured),
        "",
        *_runs(measured),
        "",
    ]
    for scale, runs in measured.items():
        lines += [*_stages(scale, runs), ""]
    lines += [
        "![seconds per stage](demo.svg)",
        "",
        f"Measured on {machine()}, on {date.today()} by `python -m benchmarks "
        f"{' '.join(sys.argv[1:])}`.",
        "",
    ]
    text = "\n".join(lines)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "demo.md").write_text(text)
    frame = pandas.DataFrame(
        [
            {"run": f"×{scale:g}, {name}", "stage": stage, "seconds": seconds}
            for scale, runs in measured.items()
            for name, run in runs.items()
            for stage, seconds in run.report["stages"].items()
        ]
    )
    chart = altair.Chart(frame, title="Seconds per stage").mark_bar()
    chart.encode(
        x=altair.X("seconds:Q").title("seconds"),
        y=altair.Y("run:N").sort(None).title(None),
        color=altair.Color("stage:N").sort(list(dict.fromkeys(frame["stage"]))),
    ).properties(width=700).save(str(RESULTS / "demo.svg"))
    return text


def run(scales: Sequence[float], *, keep: bool) -> None:
    """Measure and report every size that the disk allows. `keep`: keep the data of each size."""
    measured = {}
    for scale in scales:
        home = Path(tempfile.mkdtemp(prefix=f"softcart-bench-{scale:g}-"))
        if shutil.disk_usage(home).free < scale * BYTES_PER_SCALE:
            print(f"scale {scale:g}: left out, {home} has too little space free")
            continue
        print(f"scale {scale:g} in {home}", flush=True)
        try:
            measured[scale] = measure(scale, home)
        finally:
            if not keep:
                shutil.rmtree(home)
        # After each size, so that an interrupted run leaves a report too.
        print(write_report(measured))
