"""The lake in a real HDFS, and Spark on a real YARN: four servers of Hadoop's on this machine."""

from __future__ import annotations

import gc
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import psutil
import pytest
from pyarrow import fs
from support.lake import FEBRUARY, JANUARY, Deadly, Loads, current, on_deadly, rows_of

from softcart_assets import jars
from softcart_assets.lake import LakeError, LakeTable, refresh_table
from softcart_assets.paths import REPOSITORY
from softcart_assets.stack import Stack, StackError
from softcart_assets.stack.server import Server
from softcart_assets.stores import open_lake

# An aggregate of a table in HDFS, on YARN: where its tasks ran is the result of the program.
ON_YARN = """
import os, sys
from pyspark.sql import functions as F
from softcart_assets.lake import LakeTable
from spark.lake import read, replace_table
from spark.session import build_session, stop_session

orders = LakeTable(sys.argv[1], sys.argv[2], "orders", ("id",), "ordered_at")
spark = build_session("on yarn", hive=False)
rows = read(spark, orders).groupBy("_month").agg(F.sum("amount").alias("amount"))
replace_table(LakeTable(sys.argv[1], "aggregates", "by_month"), rows)
containers = spark.range(1).rdd.map(lambda row: os.environ["CONTAINER_ID"]).collect()
print(spark.sparkContext.master, *containers)
stop_session(spark)
"""


@pytest.fixture(scope="module")
def hadoop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A home with Hadoop, running. Without its jars, the tests are skipped."""
    try:
        jars.fetch("hadoop")
    except jars.JarsUnavailable as reason:
        pytest.skip(str(reason))
    stack = Stack(tmp_path_factory.mktemp("hadoop"), sources=(), ignore_environment=True)
    try:
        stack.up(extras=["hadoop"])
        yield stack
    finally:
        stack.delete()


@pytest.fixture
def loads(hadoop: Stack, monkeypatch: pytest.MonkeyPatch) -> Loads:
    """A table of a lake in HDFS, whose path has what URIs write in another way."""
    environment = hadoop.env()
    monkeypatch.setenv("HADOOP_CONF_DIR", environment["HADOOP_CONF_DIR"])
    lake = f"{environment['SOFTCART_LAKE_URI']}/{secrets.token_hex(4)}%20%C3%A4%23%3F%3B"
    return Loads(lake, "lake_shop")


def named(stack: Stack, name: str) -> Server:
    """The server of that name."""
    (server,) = (server for server in stack.servers() if server.name == name)
    return server


def killed(server: Server) -> None:
    process = server.process()
    assert process
    process.send_signal(signal.SIGKILL)
    process.wait()


def test_the_servers_listen_on_loopback_only(hadoop: Stack) -> None:
    assert len(hadoop.pids()) == 5, "PostgreSQL's, and four of Hadoop's"
    for pid in hadoop.pids():
        listening = [
            each.laddr.ip
            for each in psutil.Process(pid).net_connections("tcp")
            if each.status == psutil.CONN_LISTEN
        ]
        assert listening
        assert {ip.removeprefix("::ffff:") for ip in listening} == {"127.0.0.1"}


def test_a_lake_in_hdfs_is_merged_without_java_here(loads: Loads) -> None:
    loads.add((1, JANUARY, "1.00"), (2, JANUARY, "2.00"), (9, None, "9.00"))
    refresh_table(loads.table, loads.files)
    loads.add((1, FEBRUARY, "1.50"), (9, None, "9.00", True))
    refresh_table(loads.table, loads.files)
    assert current(loads.table) == [
        (1, Decimal("1.50"), "2026-02"),
        (2, Decimal("2.00"), "2026-01"),
    ]


def test_names_in_hdfs_are_kept_as_they_are(loads: Loads) -> None:
    store = loads.table.store
    store.create_dir("a folder")
    names = ["a#b", "a?b", "a;b", "a%20b", "ä"]
    for name in names:
        with store.open_output_stream(f"a folder/{name}") as stream:
            stream.write(name.encode())
    found = store.get_file_info(fs.FileSelector("a folder"))
    assert sorted(info.base_name for info in found) == sorted(names)
    for name in names:
        with store.open_input_stream(f"a folder/{name}") as stream:
            assert stream.read() == name.encode()
    with pytest.raises(FileNotFoundError):
        store.open_input_stream("a folder/a")
    # A state of the lake must never be replaced by another one.
    with pytest.raises(OSError, match="exist"):
        store.move("a folder/a#b", "a folder/a?b")


def test_a_process_that_has_opened_hdfs_may_fork(loads: Loads) -> None:
    """The library's threads do not come along. Spark's Java is started by a fork, for example."""
    loads.table.store.create_dir("there")
    # What other tests have left ends here. In the child it might wait for threads for ever.
    gc.collect()
    child = os.fork()
    if not child:
        code = 2
        # Whatever happens, the child must not go on with the other tests.
        try:
            gc.collect()
            found = LakeTable(loads.table.lake_uri, "", "").store.get_file_info("there")
            code = int(found.type == fs.FileType.Directory)
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1
    subprocess.run(["true"], preexec_fn=lambda: None, check=True)


@pytest.mark.parametrize("name", ["datanode", "namenode"])
def test_kill_9_of_hdfs_during_a_merge(hadoop: Stack, loads: Loads, name: str) -> None:
    """The merge fails with one message. Nothing is lost, and the next one goes on."""
    loads.add((1, JANUARY, "1.00"), (2, JANUARY, "2.00"))
    refresh_table(loads.table, loads.files)
    before = current(loads.table)
    loads.add((1, FEBRUARY, "1.50"))
    server = named(hadoop, name)

    class Kills(Deadly):
        def _maybe_die(self) -> None:
            self.changes += 1
            # Before the file with the first month's rows.
            if self.changes == 3:
                killed(server)

    table, _ = on_deadly(loads.table)
    table.__dict__["store"] = fs.PyFileSystem(Kills(loads.table.store, None))
    with pytest.raises(LakeError, match=r"orders: the lake at hdfs://.* does not work: .*refresh"):
        refresh_table(table, loads.files)
    hadoop.up()
    again = replace(loads.table)
    assert current(again) == before
    refresh_table(again, loads.files)
    assert current(again) == [(1, Decimal("1.50"), "2026-02"), (2, Decimal("2.00"), "2026-01")]


def test_what_the_namenode_refuses_is_one_line(loads: Loads) -> None:
    store, root = open_lake(loads.table.lake_uri)
    with pytest.raises(OSError, match=r"^\w*Exception: [^\n]+$") as raised:
        store.create_dir(f"{root}/{'x' * 300}")
    assert "\tat " not in str(raised.value)


@pytest.mark.parametrize("other", ["hadoop", "s3-lake"])
def test_a_home_with_a_lake_gets_no_other_one(tmp_path: Path, other: str) -> None:
    (tmp_path / "lake").mkdir()
    tmp_path.chmod(0o700)
    with pytest.raises(StackError, match="set SOFTCART_HOME to another folder"):
        Stack(tmp_path, sources=(), ignore_environment=True).up(extras=[other])


def test_spark_on_yarn_reads_and_writes_the_lake(hadoop: Stack, loads: Loads) -> None:
    loads.add(*((n, JANUARY if n % 2 else FEBRUARY, f"{n}.25") for n in range(100)))
    refresh_table(loads.table, loads.files)
    environment = os.environ | hadoop.env() | {"PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(
        [sys.executable, "-c", ON_YARN, loads.table.lake_uri, loads.table.database],
        env=environment,
        cwd=hadoop.home,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    master, container = done.stdout.split()
    assert master == "yarn"
    assert container.startswith("container_")
    amounts = [
        row["amount"] for row in rows_of(LakeTable(loads.table.lake_uri, "aggregates", "by_month"))
    ]
    assert sorted(amounts) == [Decimal("2462.50"), Decimal("2512.50")]
