"""How the cost of a publication follows the rows that changed.

    python -m benchmarks publication [--scale 1]

A fact of 2 million rows refers to two dimensions, and both servers are one. Results go to
`benchmarks/results/publication.md`.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from decimal import Decimal
from functools import partial

from benchmarks import rig
from benchmarks.rig import Servers, Usage
from softcart_assets.lines.model import Limit, Published
from softcart_assets.publishing.publish import publish
from softcart_assets.publishing.suite import audits_of
from softcart_assets.publishing.tables import UNKNOWN, PublishedTable, Reference

ROWS = 2_000_000
MEMBERS = 100_000

_TABLES = """
CREATE SCHEMA warehouse;
CREATE TABLE warehouse.dim_member AS
SELECT md5(i::text)::uuid AS member_key, i AS member_id, 'Member ' || i AS name
FROM generate_series(1, {members}) i;
CREATE TABLE warehouse.dim_day AS
SELECT d::date AS day FROM generate_series(timestamp '2020-01-01', '2025-12-31', '1 day') d;
CREATE TABLE warehouse.fct_sales AS
SELECT md5('sale' || i)::uuid AS sale_key, i AS sale_id, date '2020-01-01' + i % 2190 AS day,
       md5((1 + i % {members})::text)::uuid AS member_key, 1 + i % 5 AS quantity,
       (i % 90000)::numeric(12, 2) / 100 AS amount, (i % 9000)::numeric(12, 2) / 100 AS tax,
       timestamptz '2020-01-01' + i * interval '90 seconds' AS sold_at, 'web' AS channel,
       i % 50 = 0 AS is_cancelled
FROM generate_series(1, {rows}) i;
CREATE UNIQUE INDEX ON warehouse.fct_sales (sale_id);
ANALYZE warehouse.dim_member, warehouse.dim_day, warehouse.fct_sales;
"""

_ANY = Limit(Decimal("0.5"), "It is a benchmark.")
TABLES = (
    PublishedTable(Published("dim_member"), "warehouse", ("member_key",), "bench"),
    PublishedTable(Published("dim_day"), "warehouse", ("day",), "bench"),
    PublishedTable(
        Published(
            "fct_sales",
            indexes=(("day",), ("member_key",)),
            totals=("quantity", "amount", "tax"),
            latest="sold_at",
        ),
        "warehouse",
        ("sale_id",),
        "bench",
        references=(
            Reference("member_key", "dim_member", "member_key", UNKNOWN, _ANY),
            Reference("day", "dim_day", "day", "'1900-01-01'", _ANY),
        ),
    ),
)


def run(servers: Servers, scale: float = 1, only: str = "", repeat: int = 3) -> None:
    """Measure and report."""
    rows = int(ROWS * scale)
    lines = []
    for name, (found, changing) in measure(servers, rows, repeat).items():
        lines.append(
            f"| {name} | {_median([each.seconds for each in found]):.2f}"
            f" | {_median([each.cpu_seconds for each in found]):.2f}"
            f" | {_median([each.postgres_seconds for each in found]):.2f}"
            f" | {_median([each.postgres_seconds for each in changing]):.2f} |"
        )
    report = [
        f"# Publication of {rows:,} rows",
        "",
        f"`python -m benchmarks publication --scale {scale:g}` on {rig.CORES} cores, medians of "
        f"{repeat} publications. Times are in seconds. The last column is the UPDATE before, in "
        "staging.",
        "",
        "| publication | time | CPU, SoftCart | CPU, PostgreSQL | CPU, PostgreSQL, of the UPDATE |",
        "| --- | ---: | ---: | ---: | ---: |",
        *lines,
    ]
    (rig.RESULTS / "publication.md").write_text("\n".join(report) + "\n")


def measure(servers: Servers, rows: int, repeat: int) -> dict[str, tuple[list[Usage], list[Usage]]]:
    """Publish a fact of so many rows after different changes.

    Returns by case what each publication took, and what the change before it took.
    """
    staging = servers.target("publication_staging")
    production = servers.target("publication_production")
    with staging.connect() as session:
        statements = _TABLES.format(rows=rows, members=MEMBERS)
        session.execute(statements.encode())

    changed = rows // 100
    step = 0

    def change(what: str) -> None:
        nonlocal step
        step += 1
        with staging.connect(autocommit=True) as session:
            session.execute(
                f"UPDATE warehouse.fct_sales SET amount = amount + 1 WHERE {what}".encode()
            )

    def nothing() -> None:
        """Readers and writers rest."""

    def spread() -> None:
        change(f"sale_id % 100 = {step % 100}")

    def newest() -> None:
        change(f"sale_id > {rows - changed}")

    def copy() -> None:
        publish(staging, production, TABLES, audits_of(TABLES))

    cases: dict[str, Callable[[], None]] = {
        "first": nothing,
        "second": nothing,
        "nothing changed": nothing,
        "1% changed, spread over all rows": spread,
        "1% changed, the newest rows": newest,
    }
    measured: dict[str, tuple[list[Usage], list[Usage]]] = {}
    for name, prepare in cases.items():
        found, changing = measured[name] = [], []
        for _ in range(1 if name in ("first", "second") else repeat):
            changing.append(servers.watched(partial(timed, prepare)))
            found.append(servers.watched(partial(timed, copy)))
        print(f"{name}: {_median([each.seconds for each in found]):.2f} s", flush=True)
    return measured


def timed(work: Callable[[], object]) -> Usage:
    """Do some work in this process. Returns its time."""
    started, computed = time.monotonic(), time.process_time()
    work()
    seconds = time.monotonic() - started
    return Usage(seconds, seconds, time.process_time() - computed)


def _median(values: list[float]) -> float:
    return statistics.median(values)
