"""How long a page takes, how large it gets and what it leaves out, by the number of order lines.

    python -m benchmarks pages [--scale 1]

The page is the shop's, of generated data of two years. Results go to `benchmarks/results/pages.md`.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from benchmarks import rig
from benchmarks.rig import Servers
from softcart_assets.lines.shop.pages import SALES
from softcart_assets.pages.kit.render import build_page
from softcart_assets.publishing.publish import publish
from tests.support.published import TABLES
from tests.support.warehouse import create_warehouse

ROWS = (60_000, 150_000, 600_000)
"""Order lines. There are 2.5 of them in an order."""

LIMIT_BYTES = 800_000


def run(servers: Servers, scale: float = 1, only: str = "", repeat: int = 3) -> None:
    """Measure and report. Raises `rig.Failed` if a page is larger than a page may be."""
    lines = []
    for rows in (int(each * scale) for each in ROWS):
        staging, production = (
            servers.target(f"pages_{kind}_{rows}") for kind in ("staging", "production")
        )
        create_warehouse(staging, orders=rows * 2 // 5)
        publish(staging, production, TABLES, audits=())
        with tempfile.TemporaryDirectory() as folder:
            page = build_page(production, SALES, Path(folder) / "page.html")
        if page.bytes >= LIMIT_BYTES:
            raise rig.Failed(f"a page of {rows:,} order lines has {page.bytes:,} bytes")
        says = page.rung.says if page.rung else ""
        lines.append(f"| {rows:,} | {page.seconds:.1f} | {page.bytes / 1000:.0f} | {says} |")
        print(lines[-1], flush=True)
    report = [
        "# Pages",
        "",
        f"`python -m benchmarks pages --scale {scale:g}` on {rig.CORES} cores: the shop's page of "
        "generated orders of 25 months, built once.",
        "",
        "| order lines | seconds to build | KB | what it contains |",
        "| ---: | ---: | ---: | --- |",
        *lines,
    ]
    (rig.RESULTS / "pages.md").write_text("\n".join(report) + "\n")
