"""Draws `docs/images/packages.svg`: the packages, layer by layer, and who imports whom.

The layers are those of the import contracts in `pyproject.toml`; the arrows are the imports in the
code. An arrow that follows from two others is left out. `make picture` writes the file, a test
compares it with the code.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

import grimp

REPOSITORY = Path(__file__).resolve().parents[1]
PICTURE = REPOSITORY / "docs" / "images" / "packages.svg"

PURPOSES = {
    "aggregates": "aggregates to the warehouse",
    "alerts": "tells people of problems",
    "assembly": "LINES, validated together",
    "audits": "what must hold of data",
    "bi": "dashboards in Superset",
    "cli": "the command softcart",
    "comments": "what columns mean",
    "components": "declarations to Dagster objects",
    "connections": "where the servers are",
    "contracts": "what readers may rely on",
    "dagster_private": "what Dagster hides",
    "dagster_storage": "keeps connections",
    "dbt": "the dbt project's manifest",
    "definitions": "Dagster's way in",
    "defs": "loops over the lines",
    "demo": "make demo",
    "derive": "files from declarations",
    "extracts": "files for BI tools",
    "findings": "what the doctor finds",
    "hdfs": "HDFS for Arrow",
    "identities": "customers who are one person",
    "ingestion": "copies, follows, proves",
    "inspire_app": "the fitness application",
    "interrupts": "obeys Ctrl-C",
    "jars": "Java libraries, pinned",
    "lake": "which change files count",
    "lineage": "what a query reads",
    "lines": "declarations, data only",
    "locks": "advisory locks",
    "migrations": "numbered SQL files",
    "ml": "models and scores",
    "pages": "dashboards",
    "paths": "where the files are",
    "preloaded": "what runs are forked from",
    "progress": "bars and status lines",
    "privacy": "what is held about a person",
    "publishing": "write, audit, publish",
    "resources": "handles on servers",
    "run_processes": "which runs are alive",
    "runs": "everything, in one process",
    "scaffold": "first files of a source",
    "seed_data": "made-up data",
    "serving": "the call centre",
    "spark": "aggregates in PySpark",
    "stack": "the local servers",
    "stores": "opens folders by URI",
    "views": "views made again",
    "warehouse_state": "what steps remember",
    "web": "limits, errors, the server",
}
"""What each package is for, in a few words."""

WIDTH, HEIGHT, GAP, ROW = 176, 44, 18, 78


def layers() -> list[list[str]]:
    """The packages of each layer, from the top, by their short names."""
    config = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    [contract] = [
        each for each in config["tool"]["importlinter"]["contracts"] if each["type"] == "layers"
    ]
    return [[_short(name) for name in layer.split(" | ")] for layer in contract["layers"]]


def imports(names: Sequence[str]) -> dict[str, set[str]]:
    """Package → the packages that it imports, without those that it reaches by way of others."""
    graph = grimp.build_graph("softcart_assets", "seed_data", "spark")
    known = set(names)
    direct: dict[str, set[str]] = {name: set() for name in names}
    for module in graph.modules:
        importer = _package(module)
        for other in graph.find_modules_directly_imported_by(module):
            imported = _package(other)
            if {importer, imported} <= known and importer != imported:
                direct[importer].add(imported)
    return {
        name: {
            other
            for other in others
            if not any(_reaches(direct, between, other) for between in others - {other})
        }
        for name, others in direct.items()
    }


def _reaches(direct: Mapping[str, set[str]], start: str, end: str) -> bool:
    return end in direct[start] or any(_reaches(direct, each, end) for each in direct[start])


def _short(name: str) -> str:
    return name.removeprefix("softcart_assets.")


def _package(module: str) -> str:
    parts = _short(module).split(".")
    return parts[0]


def draw() -> str:
    """The picture as SVG."""
    rows = layers()
    names = [name for row in rows for name in row]
    width = max(len(row) for row in rows) * (WIDTH + GAP) + GAP
    height = len(rows) * ROW + GAP
    places = {}
    for number, row in enumerate(rows):
        left = (width - len(row) * (WIDTH + GAP) + GAP) / 2
        for column, name in enumerate(row):
            places[name] = left + column * (WIDTH + GAP), GAP + number * ROW
    arrows = [
        _arrow(places[name], places[other])
        for name, others in imports(names).items()
        for other in sorted(others)
    ]
    boxes = [_box(name, *places[name]) for name in names]
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">',
            "<title>The packages of SoftCart and who imports whom</title>",
            "<style>text{font:600 13px system-ui,sans-serif;fill:#17202c}"
            "text.why{font:11px system-ui,sans-serif;fill:#566273}"
            "rect{fill:#fff;stroke:#2a55c4;stroke-width:1.2}"
            "path{fill:none;stroke:#8f9bab;stroke-width:1.1}</style>",
            '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7"'
            ' markerHeight="7" orient="auto"><path d="M0 0L8 4L0 8z" style="fill:#8f9bab"/>'
            "</marker></defs>",
            f'<rect width="{width}" height="{height}" style="fill:#f5f6f8;stroke:none"/>',
            *arrows,
            *boxes,
            "</svg>",
            "",
        ]
    )


def _box(name: str, x: float, y: float) -> str:
    middle = x + WIDTH / 2
    return (
        f'<rect x="{x:.0f}" y="{y}" width="{WIDTH}" height="{HEIGHT}" rx="7"/>'
        f'<text x="{middle:.0f}" y="{y + 19}" text-anchor="middle">{escape(name)}</text>'
        f'<text class="why" x="{middle:.0f}" y="{y + 34}" text-anchor="middle">'
        f"{escape(PURPOSES[name])}</text>"
    )


def _arrow(start: tuple[float, float], end: tuple[float, float]) -> str:
    """A curve from the foot of one box to the head of another."""
    x1, y1 = start[0] + WIDTH / 2, start[1] + HEIGHT
    x2, y2 = end[0] + WIDTH / 2, end[1]
    bend = max((y2 - y1) / 2, 12)
    # A long arrow between boxes one above the other goes round those that stand in between.
    aside = (WIDTH if x2 >= x1 else -WIDTH) if y2 - y1 > ROW and abs(x2 - x1) < WIDTH else 0
    return (
        f'<path d="M{x1:.0f} {y1}C{x1 + aside:.0f} {y1 + bend:.0f} {x2 + aside:.0f}'
        f' {y2 - bend:.0f} {x2:.0f} {y2}" marker-end="url(#tip)"/>'
    )


if __name__ == "__main__":
    PICTURE.write_text(draw())
