"""The lake's tables: merging, replay, repair after a kill, evolution, compaction. Without Spark."""

from __future__ import annotations

import os
import random
import secrets
import subprocess
import sys
import textwrap
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.lake import (
    FEBRUARY,
    INSTANT,
    JANUARY,
    NOW,
    ORDER,
    YESTERDAY,
    Loads,
    current,
    rows_of,
)

from softcart_assets import lake
from softcart_assets.lake import (
    compact,
    discard,
    pending_files,
    rebuild_table,
    refresh_table,
    rename_columns,
)


@pytest.fixture
def loads(request: pytest.FixtureRequest, tmp_path: Path) -> Loads:
    """A lake on this machine, or on S3."""
    if getattr(request, "param", "here") == "s3":
        return Loads(request.getfixturevalue("s3_lake"), "lake_shop")
    # A blank in the path: Arrow and URIs each write it differently.
    return Loads((tmp_path / "the lake").as_uri(), "lake_shop")


IN_EACH_STORE = pytest.mark.parametrize("loads", ["here", "s3"], indirect=True)


@IN_EACH_STORE
def test_inserts_updates_deletes_and_moves_between_months(loads: Loads) -> None:
    loads.add((1, JANUARY, "1.10"), (2, JANUARY, "2.00"), (3, FEBRUARY, "3.00"), (4, None, "4.00"))
    first = refresh_table(loads.table, loads.files)
    assert first == lake.RefreshResult(4, ("2026-01", "2026-02", "unknown"), ("load001",))

    loads.add((1, FEBRUARY, "1.20"), (2, JANUARY, "2.00", True), (5, FEBRUARY, "5.00"))
    loads.add((5, FEBRUARY, "5.50"), (9, JANUARY, "9.00", True))
    second = refresh_table(loads.table, loads.files)
    assert current(loads.table) == [
        (1, Decimal("1.20"), "2026-02"),
        (3, Decimal("3.00"), "2026-02"),
        (4, Decimal("4.00"), "unknown"),
        (5, Decimal("5.50"), "2026-02"),
    ]
    assert second == lake.RefreshResult(4, ("2026-01", "2026-02"), ("load002", "load003"))
    state = loads.table.state()
    assert state
    assert state.partitions.keys() == {"2026-02", "unknown"}
    assert "_deleted" not in rows_of(loads.table)[0]


def test_the_last_version_within_a_load_wins(loads: Loads) -> None:
    """Ingestion may meet a row twice in a load; eleven files, as 'load-10' comes after 'load-9' and
    not after 'load-1'.
    """
    versions = [(1, JANUARY, f"{n}.00") for n in range(22)]
    loads.add(*versions, parts=11)
    refresh_table(loads.table, list(reversed(loads.files)))
    assert current(loads.table) == [(1, Decimal("21.00"), "2026-01")]


def test_nothing_new_costs_nothing(loads: Loads) -> None:
    loads.add((1, JANUARY, "1.00"))
    assert pending_files(loads.table, loads.files) == loads.files
    refresh_table(loads.table, loads.files)
    assert pending_files(replace(loads.table), loads.files) == []
    again = refresh_table(loads.table, loads.files)
    assert again == lake.RefreshResult(1)


@IN_EACH_STORE
def test_files_of_uncommitted_loads_are_never_read(loads: Loads) -> None:
    loads.add((1, JANUARY, "1.00"))
    loads.add((1, JANUARY, "6.66"), (6, JANUARY, "6.66"), committed=False)
    refresh_table(loads.table, loads.files)
    loads.add((2, JANUARY, "2.00"))
    refresh_table(loads.table, loads.files)
    assert [row[0] for row in current(loads.table)] == [1, 2]
    state = loads.table.state()
    assert state
    assert state.files == tuple(file.path for file in loads.files)


@IN_EACH_STORE
def test_random_history_incrementally_equals_its_replay_and_a_model(loads: Loads) -> None:
    rng = random.Random(7)
    model: dict[int, tuple] = {}
    for _ in range(4):
        for _ in range(rng.randint(1, 2)):
            versions = []
            for key in rng.sample(range(30), 12):
                when = datetime(2026, rng.randint(1, 5), 1, tzinfo=UTC)
                amount, is_deleted = (
                    f"{rng.randint(0, 10**9)}.{rng.randint(0, 99):02}",
                    rng.random() < 0.3,
                )
                versions.append((key, when, amount, True) if is_deleted else (key, when, amount))
                model.pop(key, None)
                if not is_deleted:
                    model[key] = (key, Decimal(amount), f"{when:%Y-%m}")
            loads.add(*versions)
        result = refresh_table(loads.table, loads.files)
        assert result.rows == len(model)
        assert current(loads.table) == [model[key] for key in sorted(model)]
    rebuild_table(loads.table, loads.files)
    assert current(loads.table) == [model[key] for key in sorted(model)]


MONTHS = (
    None,
    JANUARY,
    FEBRUARY,
    datetime(1, 1, 1, tzinfo=UTC),
    datetime(9999, 12, 31, tzinfo=UTC),
)
VERSION = st.tuples(
    st.integers(0, 5), st.sampled_from(MONTHS), st.sampled_from(["1.10", "2.20"]), st.booleans()
)


@settings(max_examples=60)
@given(
    has_key=st.booleans(),
    has_months=st.booleans(),
    loads_drawn=st.lists(
        st.tuples(
            st.lists(VERSION, max_size=8),
            st.booleans(),  # of the source's log, or of the whole table
            st.booleans(),  # whether a refresh follows
            st.integers(1, 3),
        ),
        min_size=1,
        max_size=6,
    ),
)
def test_any_history_merged_in_any_steps_equals_its_replay_and_a_model(
    tmp_path_factory: pytest.TempPathFactory,
    has_key: bool,
    has_months: bool,
    loads_drawn: list[tuple[list[tuple], bool, bool, int]],
) -> None:
    loads = Loads(tmp_path_factory.mktemp("lake").as_uri(), "lake_shop")
    loads.table = replace(
        loads.table,
        key=loads.table.key if has_key else (),
        partition_column="ordered_at" if has_months else None,
    )
    by_key: dict[int, tuple] = {}
    copies: Counter[tuple] = Counter()
    for drawn, is_log, is_refreshed, parts in loads_drawn:
        versions = []
        # A whole load replaces a table without a key. An empty one leaves no trace in the files.
        if not has_key and not is_log and drawn:
            copies = Counter()
        for key, at, amount, is_deleted in drawn:
            row = (key, at, Decimal(amount))
            # Without a key, a source's log deletes only rows that were there.
            deletes = is_deleted and (has_key or (is_log and copies[row] > 0))
            versions.append((*row, True) if deletes else row)
            copies[row] += -1 if deletes else 1
            by_key.pop(key, None)
            if not deletes:
                by_key[key] = row
        loads.add(*versions, parts=parts, operation="insert" if is_log else None)
        if is_refreshed:
            refresh_table(loads.table, loads.files)
    refresh_table(loads.table, loads.files)
    merged = sorted(current(loads.table, *ORDER, "_month"), key=str)
    wanted = list(by_key.values() if has_key else copies.elements())
    months = {row: f"{row[1]:%Y-%m}".zfill(7) if row[1] else "unknown" for row in wanted}
    assert merged == sorted(((*row, months[row] if has_months else "") for row in wanted), key=str)
    rebuild_table(loads.table, loads.files)
    assert sorted(current(loads.table, *ORDER, "_month"), key=str) == merged


# Only children use the lake: libraries of S3 and DuckDB start threads, which a fork leaves behind.
KILLED = """
import os, pickle, sys
from pathlib import Path
from pyarrow import fs
from support.lake import Loads, FEBRUARY, JANUARY, current, forked, on_deadly
from softcart_assets.lake import refresh_table

uri, notes = sys.argv[1], Path(sys.argv[2])

def show(loads):
    print([str(row) for row in current(loads.table)], flush=True)

def fill(folder, count, is_shown=False):
    loads = Loads(f"{uri}/{folder}", "lake_shop")
    loads.add((1, JANUARY, "1.00"), (2, JANUARY, "2.00"), (9, None, "9.00"))
    loads.add((7, JANUARY, "7.00"))
    loads.add((1, FEBRUARY, "1.50"), (2, JANUARY, "2.00", True), (3, JANUARY, "3.00"))
    for number in range(1, count + 1):
        refresh_table(loads.table, loads.files[:number])
        if is_shown:
            show(loads)
    (notes / str(folder)).write_bytes(pickle.dumps(loads.files))

def opened(folder):
    loads = Loads(f"{uri}/{folder}", "lake_shop")
    loads.files = pickle.loads((notes / str(folder)).read_bytes())
    return loads

def refresh(folder, dies_at=None):
    loads = opened(folder)
    table, handler = on_deadly(loads.table, dies_at)
    refresh_table(table, loads.files[:3])
    (notes / "changes").write_text(str(handler.changes))

def look(folder):
    loads = opened(folder)
    show(loads)
    refresh_table(loads.table, loads.files[:3])
    show(loads)
    # One more refresh, and nothing is left of the killed one.
    loads._loads = 3
    loads.add((3, JANUARY, "3.00"))
    refresh_table(loads.table, loads.files)
    there = loads.table.store.get_file_info(fs.FileSelector(loads.table.folder, recursive=True))
    names = [info.path.rpartition("/")[2] for info in there if info.is_file]
    print(names.count("0.parquet"), len(names), flush=True)

assert forked(fill, "first", 3, True) == 0
assert forked(fill, "count", 2) == 0
assert forked(refresh, "count") == 0
for step in range(1, int((notes / "changes").read_text()), int(sys.argv[3])):
    assert forked(fill, step, 2) == 0
    assert forked(refresh, step, step) == 9, step
    assert forked(look, step) == 0
"""


@IN_EACH_STORE
def test_kill_9_at_each_change_of_the_file_system(loads: Loads, tmp_path: Path) -> None:
    """Readers find the old table or the new one. The next refresh makes the new one."""
    # A change counts before and after it, and the end of one is the beginning of the next. On S3,
    # every second one has to do.
    width = "2" if loads.table.lake_uri.startswith("file:") else "4"
    done = _run(KILLED, tmp_path, loads.table.lake_uri, str(tmp_path), width)
    assert done.returncode == 0, done.stderr
    _, old, new, *killed = done.stdout.splitlines()
    after_kill, repaired, left = killed[::3], killed[1::3], killed[2::3]
    switch = after_kill.index(new)
    assert len(after_kill) > 3
    assert switch > 0
    assert after_kill == [old] * switch + [new] * (len(after_kill) - switch)
    assert set(repaired) == {new}
    # January anew and as it was before, February and the unknown month. And the state.
    assert set(left) == {"4 5"}


# Kills a process at each change of a compaction. The list of files is a file of its own here.
COMPACTED = """
import json, sys
from pathlib import Path
from support.lake import Loads, JANUARY, current, forked, on_deadly
from softcart_assets.lake import (
    ChangeFile, compact, compaction, discard, pending_files, refresh_table, settle)

compaction.COMPACT_FROM_FILES = 4
root = Path(sys.argv[1])

def listed(loads):
    return [ChangeFile(*each) for each in json.loads((loads.root / "list").read_text())]

def list_(loads, files):
    (loads.root / "new").write_text(json.dumps([[f.path, f.load_id, f.load_date] for f in files]))
    (loads.root / "new").replace(loads.root / "list")

def filled(folder):
    loads = Loads(folder.as_uri(), "lake_shop")
    for number in range(4):
        loads.add((number % 3, JANUARY, f"{number}.00"))
    list_(loads, loads.files)
    assert forked(refresh_table, loads.table, loads.files) == 0
    return loads

def compacted(loads, dies_at=None, changes=None):
    table, handler = on_deadly(loads.table, dies_at)
    settle(table, listed(loads))
    exchanges = compact(table, listed(loads))
    if exchanges:
        list_(loads, [each.new for each in exchanges])
        discard(table, [file for each in exchanges for file in each.old])
    if changes:
        changes.write_text(str(handler.changes))

assert forked(compacted, filled(root / "first"), None, root / "changes") == 0
steps = int((root / "changes").read_text())
for step in range(1, steps + 1):
    loads = filled(root / str(step))
    assert forked(compacted, loads, step) == 9, step
    assert forked(compacted, loads) == 0
    files, state = listed(loads), loads.table.state()
    there = {str(path.relative_to(loads.root)) for path in loads.root.rglob("changes/**/*.parquet")}
    assert there == set(state.files) == {file.path for file in files}, step
    assert (len(there), state.incoming, pending_files(loads.table, files)) == (1, (), []), step
print(steps)
"""


def test_kill_9_at_each_step_of_a_compaction(tmp_path: Path) -> None:
    """Nothing is lost or left, and no table is built anew."""
    done = _run(COMPACTED, tmp_path, str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 12


def _run(
    program: str, folder: Path, *arguments: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    of_child = os.environ | {
        "SOFTCART_HOME": str(folder / "home"),
        "PYTHONPATH": os.pathsep.join(sys.path),
        **environment,
    }
    command = [sys.executable, "-c", textwrap.dedent(program), *arguments]
    return subprocess.run(
        command, env=of_child, cwd=folder, capture_output=True, text=True, check=False
    )


def test_columns_appear_and_grow_without_touching_old_months(loads: Loads) -> None:
    loads.add((1, JANUARY, "1.10"))
    loads.add((2, JANUARY, "2.20", 7), types=ORDER | {"pieces": pa.int32()})
    refresh_table(loads.table, loads.files)
    wider = {
        "id": ORDER["id"],
        "ordered_at": INSTANT,
        "amount": pa.decimal128(20, 4),
        "pieces": pa.int64(),
    }
    loads.add((3, FEBRUARY, "1234567890123456.0003", 2**40), types=wider)
    result = refresh_table(loads.table, loads.files)
    assert result.months == ("2026-02",)
    assert current(loads.table, "amount", "pieces") == [
        (Decimal("1.1000"), None),
        (Decimal("2.2000"), 7),
        (Decimal("1234567890123456.0003"), 2**40),
    ]
    # A month that is written again has the types of the new columns.
    loads.add((1, JANUARY, "1.20", 1), types=wider)
    refresh_table(loads.table, loads.files)
    assert current(loads.table, "amount", "pieces")[:2] == [
        (Decimal("1.2000"), 1),
        (Decimal("2.2000"), 7),
    ]


def test_a_change_of_type_that_loses_values_is_refused_until_the_old_files_are_struck_off(
    loads: Loads,
) -> None:
    loads.add((1, JANUARY, "1.10"))
    refresh_table(loads.table, loads.files)
    loads.add((1, JANUARY, 0.1), types=ORDER | {"amount": pa.float64()})
    with pytest.raises(
        lake.LakeError, match=r"orders: column 'amount' .*decimal128\(12, 2\).* double.*lake_files"
    ):
        refresh_table(loads.table, loads.files)
    assert current(loads.table) == [(1, Decimal("1.10"), "2026-01")]
    assert pending_files(loads.table, loads.files[1:]) == loads.files[1:]
    refresh_table(loads.table, loads.files[1:])
    assert current(loads.table) == [(1, 0.1, "2026-01")]


def test_compaction_keeps_history_and_nothing_is_merged_twice(loads: Loads) -> None:
    for n in range(lake.COMPACT_FROM_FILES):
        loads.add((n % 5, JANUARY, f"{n}.00"), (99, JANUARY, f"{n}.00", *([True] if n % 2 else [])))
        if n == 1:
            assert compact(loads.table, loads.files) == []
    refresh_table(loads.table, loads.files)
    before = current(loads.table)
    assert [each.old for each in compact(loads.table, loads.files)] == [tuple(loads.files)]
    # Killed here, before the list is exchanged: the new file is an orphan.
    assert pending_files(loads.table, loads.files) == loads.files
    refresh_table(loads.table, loads.files)
    assert current(loads.table) == before
    assert _versions(loads) == 2 * lake.COMPACT_FROM_FILES

    written = [each.new for each in compact(loads.table, loads.files)]
    discard(loads.table, loads.files)
    assert not any((loads.root / file.path).exists() for file in loads.files)
    assert pending_files(loads.table, written) == []
    rebuild_table(loads.table, written)
    assert current(loads.table) == before
    assert _versions(loads) == 2 * lake.COMPACT_FROM_FILES


def _versions(loads: Loads) -> int:
    """The row versions in the files that a table holds."""
    state = loads.table.state()
    assert state
    return sum(pq.read_metadata(loads.root / path).num_rows for path in state.files)


def test_small_tables_are_switched_whole_and_old_folders_go(loads: Loads) -> None:
    table = loads.table = replace(loads.table, partition_column=None)
    loads.add((1, JANUARY, "1.00"), (2, None, "2.00"))
    refresh_table(table, loads.files)
    before = table.state()
    loads.add((1, JANUARY, "1.00", True))
    refresh_table(table, loads.files)
    assert [row["id"] for row in rows_of(table)] == [2]
    # A query that has begun goes on reading what it began with.
    assert before
    assert (loads.root / before.partitions[""].folder / "0.parquet").exists()
    loads.add((2, JANUARY, "2.00", True))
    assert refresh_table(table, loads.files).rows == 0
    assert rows_of(table) == []
    folders = [path for path in (loads.root / table.folder).iterdir() if path.name != "_state"]
    assert len(folders) == 2  # the present one and the one before

    loads.table = replace(table, partition_column="ordered_at")  # declared anew: built anew
    loads.add((3, FEBRUARY, "3.00"))
    refresh_table(loads.table, loads.files)
    assert current(loads.table) == [(3, Decimal("3.00"), "2026-02")]


def test_without_a_key_the_last_load_is_the_table(loads: Loads) -> None:
    loads.table = replace(loads.table, key=())
    loads.add((1, JANUARY, "1.00"), (1, JANUARY, "1.00"), (2, FEBRUARY, "2.00"))
    assert refresh_table(loads.table, loads.files).rows == 3
    loads.add((1, JANUARY, "1.00"), (1, JANUARY, "1.00"))
    refresh_table(loads.table, loads.files)
    assert current(loads.table) == [(1, Decimal("1.00"), "2026-01")] * 2


def test_a_clock_that_was_set_back_changes_nothing(loads: Loads) -> None:
    """The times of loads go back, within a refresh, between two, and over midnight."""
    loads.add((1, JANUARY, "1.00"), (2, JANUARY, "2.00"))
    loads.add((1, JANUARY, "1.10"), (3, JANUARY, "3.00"), loaded_at=YESTERDAY)
    refresh_table(loads.table, loads.files)
    loads.add((2, JANUARY, "2.00", True), (3, JANUARY, "3.30"), loaded_at=NOW)
    loads.add((2, FEBRUARY, "2.20"), loaded_at=YESTERDAY)
    loads.add((3, JANUARY, "3.30", True), loaded_at=YESTERDAY - timedelta(days=400))
    right = [(1, Decimal("1.10"), "2026-01"), (2, Decimal("2.20"), "2026-02")]
    refresh_table(loads.table, loads.files)
    assert current(loads.table) == right
    rebuild_table(loads.table, loads.files)
    assert current(loads.table) == right


def test_without_a_key_the_last_load_counts_whatever_its_time(loads: Loads) -> None:
    loads.table = replace(loads.table, key=())
    one, two = (1, JANUARY, "1.00"), (2, FEBRUARY, "2.00")
    loads.add((9, JANUARY, "9.00"), loaded_at=NOW)
    loads.add((9, JANUARY, "9.00"), loaded_at=NOW, operation="insert")
    loads.add(one, one, one, two, loaded_at=YESTERDAY)
    loads.add((*one, True), two, loaded_at=YESTERDAY - timedelta(days=1), operation="update")
    rows = [(1, Decimal("1.00"), "2026-01")] * 2 + [(2, Decimal("2.00"), "2026-02")] * 2
    refresh_table(loads.table, loads.files)
    assert current(loads.table) == rows
    loads.add((*one, True), (*two, True), (*two, True), operation="delete", loaded_at=YESTERDAY)
    refresh_table(loads.table, loads.files)
    assert current(loads.table) == rows[:1]


def test_files_of_an_older_release_come_before_numbered_ones(loads: Loads) -> None:
    """They have no numbers. Among them, their times decide, as they did then."""
    loads.add((1, JANUARY, "1.20"), (3, JANUARY, "3.00"), is_numbered=False)
    loads.add((1, JANUARY, "1.10"), (2, JANUARY, "2.00"), loaded_at=NOW, is_numbered=False)
    refresh_table(loads.table, loads.files)
    assert [row[1] for row in current(loads.table)] == [*map(Decimal, ("1.20", "2", "3"))]
    loads.add((2, JANUARY, "2.20"), loaded_at=YESTERDAY)
    loads.add((3, JANUARY, "3.00", True), loaded_at=YESTERDAY)
    refresh_table(loads.table, loads.files)
    right = [(1, Decimal("1.20"), "2026-01"), (2, Decimal("2.20"), "2026-01")]
    assert current(loads.table) == right
    rebuild_table(loads.table, loads.files)
    assert current(loads.table) == right


def test_names_that_differ_in_case_are_two_columns(loads: Loads) -> None:
    """apache/flink-cdc#2144 (a column's case changes), prestodb/presto#4136 and apache/spark#22148
    (Parquet tells such names apart, Hive does not). A source's names may also be ours.
    """
    text = pa.string()
    plain = {"id": ORDER["id"], "ordered_at": INSTANT}
    loads.add((1, JANUARY, "a"), (2, JANUARY, "b"), types=plain | {"v": text})
    loads.add((1, JANUARY, "A"), types=plain | {"V": text})
    loads.rename()
    refresh_table(loads.table, loads.files)
    loads.add((3, JANUARY, "C", "m"), types=plain | {"V": text, "_MONTH": text}, parts=1)
    both = {"V_2": text, "v": text, "V": text}
    loads.add((4, JANUARY, "x", "d", "D"), (5, JANUARY, "y", "e", "E"), types=plain | both, parts=2)
    loads.rename()
    refresh_table(loads.table, loads.files)
    # What Hive and Spark write as v_2 and _month_2.
    columns = ("id", "v", "V_2", "V_2_2", "_MONTH_2", "_month")
    right = [
        (1, None, "A", None, None, "2026-01"),
        (2, "b", None, None, None, "2026-01"),
        (3, None, "C", None, "m", "2026-01"),
        (4, "d", "D", "x", None, "2026-01"),
        (5, "e", "E", "y", None, "2026-01"),
    ]
    assert current(loads.table, *columns) == right
    assert rename_columns(loads.table, loads.files) == []
    assert rename_columns(replace(loads.table, name="anew"), loads.files) == []
    rebuild_table(loads.table, loads.files)
    assert current(loads.table, *columns) == right


def test_the_key_may_be_a_name_that_differs_in_case(loads: Loads) -> None:
    loads.table = replace(loads.table, key=("ID",), partition_column=None)
    loads.add(("x", 1), ("y", 2), types={"id": pa.string(), "ID": pa.int64()})
    loads.add(("z", 2), types={"id": pa.string(), "ID": pa.int64()})
    loads.rename()
    refresh_table(loads.table, loads.files)
    assert current(loads.table, "id", "ID_2") == [("x", 1), ("z", 2)]


def test_a_table_too_big_for_the_memory_is_named(
    loads: Loads, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DuckDB's own error names neither the table nor our setting."""
    loads.add((1, JANUARY, "1.00"))
    monkeypatch.setenv("SOFTCART_LAKE_MEMORY", "1MB")
    with pytest.raises(lake.LakeError, match=r"\.orders: .*1MB of memory.* SOFTCART_LAKE_MEMORY"):
        refresh_table(loads.table, loads.files)


@pytest.mark.parametrize("key", [(), ("id",)])
def test_a_table_needs_little_memory(loads: Loads, tmp_path: Path, key: tuple[str, ...]) -> None:
    """The rows of other people's data set: 541,909 in a table without a key. With little memory
    600,000 rows are built, changed and read.
    """
    program = """
    import resource, sys
    from softcart_assets.lake import ChangeFile, LakeTable, refresh_table

    uri, key, *paths = sys.argv[1:]
    table = LakeTable(uri, "lake_shop", "orders", tuple(key.split()))
    files = [ChangeFile(path, path, "2026-03-01") for path in paths]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(refresh_table(table, files[:1]).rows, refresh_table(table, files).rows)
    print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
    """
    folder = "changes/shop/orders/load_date=2026-03-01"
    (loads.root / folder).mkdir(parents=True)
    count = 600_000
    paths = [f"{folder}/{name}-0.parquet" for name in ("load", "log")]
    numbers = pa.array(range(count), pa.int64())
    # Texts that differ: equal ones would take no room.
    texts = [secrets.token_hex(120) for _ in range(count)]
    own = {
        "_deleted": pa.repeat(False, count),
        "_loaded_at": pa.repeat(pa.scalar(NOW, INSTANT), count),
        "_position": pa.repeat("p", count),
        "_load_id": pa.repeat("load", count),
        "_version": pa.repeat(pa.scalar(1, pa.int64()), count),
        "_operation": pa.nulls(count, pa.string()),
    }
    rows = pa.table({"id": numbers, "text": texts, **own})
    pq.write_table(rows, loads.root / paths[0], row_group_size=100_000)
    some = rows.slice(0, 1000)
    changed = {
        "_version": pa.repeat(pa.scalar(2, pa.int64()), 1000),
        "_operation": pa.repeat("delete", 1000),
        "_deleted": pa.repeat(True, 1000),
    }
    for name, values in changed.items():
        some = some.set_column(some.schema.get_field_index(name), name, values)
    pq.write_table(some, loads.root / paths[1])
    arguments = (loads.table.lake_uri, " ".join(key), *paths)
    done = _run(program, tmp_path, *arguments, SOFTCART_LAKE_MEMORY="100MB")
    assert done.returncode == 0, done.stderr[-3000:]
    *counts, megabytes = map(int, done.stdout.split())
    assert counts == [600_000, 599_000]
    assert megabytes < 400
    assert not list((tmp_path / "home" / "spill").iterdir())


def test_a_table_that_was_never_loaded_is_no_error(loads: Loads) -> None:
    assert refresh_table(loads.table, []) == lake.RefreshResult(0)
    assert loads.table.state() is None
