"""How the cost of `make demo` grows with the data, at three sizes.

    python -m benchmarks demo [--scales 1,10,100] [--keep]

It measures the seconds per stage, the rows per second and the peak memory. Each size runs in a
process and a home of its own: first from empty servers to the finished dashboard, then again
without changes. Results go to `benchmarks/results/demo.md` and `demo.svg`.
"""

from __future__ import annotations

import itertools
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import altair
import pandas
import psutil

RESULTS = Path(__file__).parent / "results"
BYTES_PER_SCALE = 800 * 2**20
"""The most disk space for one unit of scale: sources, binary log, seed files, warehouses, lake."""


def measure(scale: float, home: Path) -> list[dict[str, Any]]:
    """The reports of a first and a second run at `scale`, in a process of their own."""
    reports = home / "reports.json"
    script = "import sys; from benchmarks.demo import child; child(float(sys.argv[1]), sys.argv[2])"
    # Each size has servers of its own, whatever the shell names.
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("SOFTCART_", "DAGSTER_"))
    }
    subprocess.run(
        [sys.executable, "-c", script, str(scale), str(reports)],
        env={**environment, "SOFTCART_HOME": str(home)},
        check=True,
    )
    found: list[dict[str, Any]] = json.loads(reports.read_text())
    return found


def child(scale: float, reports: str) -> None:
    """Run the demo twice and write its reports. The stack is stopped even after an error."""
    from softcart_assets.demo import run
    from softcart_assets.stack import Stack

    home = Path(os.environ["SOFTCART_HOME"])
    try:
        Path(reports).write_text(
            json.dumps([asdict(run(scale, seed=1, home=home)) for _ in range(2)])
        )
    finally:
        Stack(home).down()


def _table(title: str, rows: dict[str, dict[float, float]], form: str) -> list[str]:
    scales = sorted({scale for values in rows.values() for scale in values})
    factors = [f"×{b / a:g}: cost ×" for a, b in itertools.pairwise(scales)]
    lines = ["| " + " | ".join([title, *(f"scale {s:g}" for s in scales), *factors]) + " |"]
    lines.append("|---" + "|---:" * (len(scales) + len(factors)) + "|")
    for name, values in rows.items():
        cells = [format(values[s], form) if s in values else "–" for s in scales]
        growth = [
            f"{values[b] / values[a]:.1f}" if values.get(a) and b in values else "–"
            for a, b in itertools.pairwise(scales)
        ]
        lines.append("| " + " | ".join([name, *cells, *growth]) + " |")
    return lines


def write_report(measured: dict[float, list[dict[str, Any]]]) -> str:
    """The report as Markdown, also written to `results/` with its chart."""
    first = {scale: reports[0] for scale, reports in measured.items()}
    second = {scale: reports[1] for scale, reports in measured.items()}
    stages = list(dict.fromkeys(stage for report in first.values() for stage in report["stages"]))
    machine = (
        f"{os.cpu_count()} cores, {psutil.virtual_memory().total / 2**30:.0f} GB, "
        f"{platform.system()}"
    )
    totals = {
        "rows in raw tables": {
            s: sum(n for layer, n in r["rows"].items() if "raw" in layer) for s, r in first.items()
        },
        "rows in all layers": {s: sum(r["rows"].values()) for s, r in first.items()},
        "seconds, first run": {s: r["seconds"] for s, r in first.items()},
        "seconds, second run, nothing changed": {s: r["seconds"] for s, r in second.items()},
        "rows in all layers per second": {
            s: sum(r["rows"].values()) / r["seconds"] for s, r in first.items()
        },
        "peak memory, MB, servers included": {
            s: max(r["peak_bytes"] for r in reports) / 2**20 for s, reports in measured.items()
        },
    }
    text = "\n".join(
        [
            "# What `make demo` costs",
            "",
            f"Measured by `make bench` on {machine}. Scale 1 is the demo's default. The last "
            "columns "
            "say by what factor a figure grew from one scale to the next: 10 is linear.",
            "",
            *_table("whole run", totals, ",.0f"),
            "",
            *_table(
                "seconds per stage, first run",
                {s: {k: r["stages"][s] for k, r in first.items()} for s in stages},
                ".1f",
            ),
            "",
            *_table(
                "seconds per stage, second run",
                {s: {k: r["stages"][s] for k, r in second.items()} for s in stages},
                ".1f",
            ),
            "",
            "![seconds per stage](demo.svg)",
            "",
        ]
    )
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "demo.md").write_text(text)
    frame = pandas.DataFrame(
        [
            {"scale": f"×{scale:g}", "order": scale, "stage": stage, "seconds": seconds}
            for scale, report in first.items()
            for stage, seconds in report["stages"].items()
        ]
    )
    chart = altair.Chart(frame, title="Seconds per stage, first run").mark_bar()
    chart.encode(
        x=altair.X("seconds:Q").title("seconds"),
        y=altair.Y("scale:N").sort(field="order").title("scale"),
        color=altair.Color("stage:N").sort(stages),
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
