"""One row in a hundred of a big database changed. How long until the copy is up to date again?

    python -m benchmarks incremental [--scale 1] [--only WORD]

First every tool loads everything, which is not measured. Then rows change, and each tool runs
again. Results go to `benchmarks/results/incremental.md`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks import ours, peers, rig
from benchmarks.copy import ORDERS, Bench, Measured, run_ours
from benchmarks.equality import truth
from benchmarks.peers import Task
from benchmarks.rig import CORES, Failed, Servers, Usage
from benchmarks.tables import order_lines, orders
from softcart_assets.connections import MySQLConnection

CURSOR = "updated_at"


@dataclass(frozen=True)
class Tool:
    """A tool: its first load of everything, its later loads, and the schema of its copy."""

    first: Callable[[Task], object]
    follow: Callable[[Task], Usage]
    schema: str = peers.SCHEMA


def our_incremental(task: Task) -> Usage:
    """Rows past the cursor, and rows that differ by a comparison of keys and cursors.

    So deletions are found too.
    """
    return run_ours(task, "load_without_checksums", "incremental", CURSOR)


def our_incremental_with_checksums(task: Task) -> Usage:
    """The same. The source also computes a checksum of every column, to prove the copy."""
    return run_ours(task, "load_tables", "incremental", CURSOR)


def our_cdc(task: Task) -> Usage:
    """The changes from the binary log."""
    return run_ours(task, "load_without_checksums", "cdc")


def dlt_first(task: Task) -> None:
    """Append everything to empty tables, which is faster than a merge."""
    peers.dlt_tuned(task, cursor=CURSOR, write_disposition="append")


def dlt_merge(task: Task) -> Usage:
    """Rows past the cursor, merged by key."""
    return peers.dlt_tuned(task, cursor=CURSOR, write_disposition="merge")


def sling_incremental(task: Task) -> Usage:
    """Rows past the cursor, merged by key."""
    return peers.sling(task, mode="incremental", cursor=CURSOR)


def by_hand_first(task: Task) -> None:
    """Text pipes, then the primary keys that a merge needs."""
    peers.pipes(task, CORES)
    with task.target.connect() as session:
        for table in task.tables:
            statement = (
                f"ALTER TABLE {peers.SCHEMA}.{table.name} ADD PRIMARY KEY ({', '.join(table.key)})"
            )
            session.execute(statement.encode())


def merge_by_hand(task: Task) -> Usage:
    """Rows past the cursor through a temporary table and ON CONFLICT."""
    return peers.merge_by_hand(task, CURSOR)


TOOLS = {
    "ours, incremental": Tool(our_incremental, our_incremental, ours.SCHEMA),
    "ours, incremental, and checksums by the source": Tool(
        our_incremental, our_incremental_with_checksums, ours.SCHEMA
    ),
    "ours, cdc": Tool(our_cdc, our_cdc, ours.SCHEMA),
    "merge by hand": Tool(by_hand_first, merge_by_hand),
    "dlt, tuned, merge": Tool(dlt_first, dlt_merge),
    "sling, incremental": Tool(sling_incremental, sling_incremental),
}


def change_rows(source: MySQLConnection, tables: Sequence[str]) -> int:
    """Change one order in a hundred and its lines. Returns the number of changed rows."""
    changed = 0
    amounts = {
        "orders": "total_amount = total_amount + 1",
        "order_lines": "unit_price = unit_price + 1",
    }
    with source.connect() as session, session.cursor() as cursor:
        # Later than every time in the table. Otherwise the rows of an earlier run would be the
        # latest, and a cursor would miss the new changes.
        for table in tables:
            cursor.execute(f"SELECT max({CURSOR}) + INTERVAL 1 SECOND FROM {table}")
            ((moment,),) = cursor.fetchall()
            changed += cursor.execute(
                f"UPDATE {table} SET {amounts[table]}, {CURSOR} = '{moment}' WHERE order_id % 100 "
                "= 7"
            )
        session.commit()
    return changed


def measure(bench: Bench, tools: dict[str, Tool]) -> tuple[int, dict[str, Measured]]:
    """Let every tool load everything, change rows, and measure how each tool catches up.

    Returns the number of changed rows, and the measurements by tool.
    """
    measured: dict[str, Measured] = {}
    tasks: dict[str, Task] = {}
    for number, (name, tool) in enumerate(tools.items()):
        tasks[name] = bench.task(f"bench_{number}")
        print(f"{name}: first load", flush=True)
        try:
            tool.first(tasks[name])
        except Failed as failure:
            measured[name] = Measured(failure=f"first load: {failure}")
    changed = change_rows(bench.source, [table.name for table in bench.tables])
    # The copies must equal the source as it is after the changes.
    bench.truth = truth(bench.source, bench.tables)
    for name, tool in tools.items():
        if name not in measured:
            try:
                usage = tool.follow(tasks[name])
                measured[name] = Measured(
                    usage, differences=bench.differences(tasks[name], tool.schema)
                )
                print(f"{name}: {usage.seconds:.2f} s", flush=True)
            except Failed as failure:
                measured[name] = Measured(failure=str(failure))
        bench.servers.drop_target(tasks[name].target.database)
    return changed, {name: measured[name] for name in tools}


def report(bench: Bench, changed: int, measured: dict[str, Measured]) -> list[str]:
    """The results as Markdown."""
    lines = [
        "# Incremental loads, side by side",
        "",
        f"{changed:,} of {bench.rows:,} rows changed: "
        f"{' and '.join(table.name for table in bench.tables)}, "
        "with an index on the cursor. Seconds until the copy is up to date again; tools used as a "
        "Python library report "
        "them themselves, without imports, beside those of the whole process. Copies were compared "
        "by content. Ours also finds "
        "deleted rows and writes the lake; the others do not.",
        "",
        "| way | seconds | process | CPU s | memory, MB | copy |",
        "|---|---:|---:|---:|---:|---|",
    ]
    for name, m in measured.items():
        if not m.usage:
            lines.append(f"| {name} | – | | | | failed: {m.failure} |")
            continue
        u = m.usage
        figures = (
            f"{u.seconds:.2f} | {u.process_seconds:.2f} | {u.cpu_seconds:.1f} | "
            f"{u.peak_bytes / 2**20:,.0f}"
        )
        lines.append(f"| {name} | {figures} | {'; '.join(m.differences) or 'equal'} |")
    return lines


def run(servers: Servers, scale: float = 1, only: str = "", repeat: int = 1) -> None:
    """Measure and report. With `only`, just tools with this word in their name, and no report is
    written.
    """
    number = int(ORDERS * scale)
    bench = Bench(servers, f"incremental_{number}", [orders(number), order_lines(number)])
    changed, measured = measure(bench, {name: tool for name, tool in TOOLS.items() if only in name})
    lines = report(bench, changed, measured)
    if only:
        print("\n".join(lines))
    else:
        rig.write_result("incremental", lines, servers)
