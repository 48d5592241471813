"""The lake in a real HDFS, and Spark on a real YARN and on a real cluster of its own."""

from __future__ import annotations

import gc
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import psutil
import pyarrow as pa
import pytest
from pyarrow import fs
from support.lake import (
    FEBRUARY,
    INSTANT,
    JANUARY,
    NOW,
    Deadly,
    Loads,
    current,
    fill,
    on_deadly,
    rows_of,
)

from softcart_assets import jars
from softcart_assets.lake import LakeError, LakeTable, lake_table, refresh_table
from softcart_assets.paths import REPOSITORY
from softcart_assets.stack import Stack, StackError
from softcart_assets.stack.hadoop import ResourceManager
from softcart_assets.stack.server import Server, free_port
from softcart_assets.stack.spark import SparkMaster
from softcart_assets.stores import open_lake
from spark.jobs import JOBS, aggregate_table
from spark.months import forget

JOB = JOBS["agg_stock_cover_by_store_product"]
SOLD = NOW - timedelta(days=2)
KEY, MONEY = pa.decimal128(20, 0), pa.decimal128(12, 2)

# Computes an aggregate. Then its session ends, as if its cluster had ended it, and harm is done.
# Computes the aggregate again, with what is left of the session and with the next one.
TWICE = """
import sys, time
from pathlib import Path
from softcart_assets.resources.spark import SparkResource
from spark.jobs import JOBS, SessionLost, write_aggregate

resource, job, lake, go = SparkResource(), JOBS[sys.argv[1]], sys.argv[2], Path(sys.argv[3])
session = resource.session_for(0)
print(write_aggregate(session, job, lake))
session.sparkContext._jsc.sc().stop()
try:
    write_aggregate(session, job, lake)
except SessionLost as error:
    print(error, flush=True)
while not go.exists():
    time.sleep(0.1)
print(write_aggregate(resource.session_for(0), job, lake))
"""


@pytest.fixture(scope="module")
def hadoop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A home with Hadoop and a Spark cluster, running. Without its jars, the tests are skipped."""
    try:
        jars.fetch("hadoop")
    except jars.JarsUnavailable as reason:
        pytest.skip(str(reason))
    stack = Stack(tmp_path_factory.mktemp("hadoop"), sources=(), ignore_environment=True)
    try:
        stack.up(extras=["hadoop", "spark"])
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
    assert len(hadoop.pids()) == 7, "PostgreSQL's, four of Hadoop's, and two of Spark's"
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


@pytest.fixture(scope="module")
def sales(hadoop: Stack) -> str:
    """The URI of the home's own lake, with what the job reads."""
    lake = hadoop.env()["SOFTCART_LAKE_URI"]
    orders = [(1, 1, "paid"), (2, 1, "paid"), (3, 2, "paid"), (4, 1, "cancelled")]
    lines = [(1, "pan", 14), (2, "pan", 14), (3, "pot", 56), (4, "pan", 99)]
    stock = [(1, "pan", 10, 4), (1, "pot", 5, 2), (2, "pot", 0, 2)]
    columns = {
        "orders": {
            "id": pa.array([Decimal(n) for n, *_ in orders], KEY),
            "customer_id": pa.array([Decimal(7)] * len(orders), KEY),
            "store_id": pa.array([Decimal(store) for _, store, _ in orders], KEY),
            "status": [status for *_, status in orders],
            "ordered_at": pa.array([SOLD] * len(orders), INSTANT),
            "device": ["mobile"] * len(orders),
            "currency": ["EUR"] * len(orders),
        },
        "order_lines": {
            "order_id": pa.array([Decimal(n) for n, *_ in lines], KEY),
            "line_number": pa.array([1] * len(lines), pa.int32()),
            "product_id": [product for _, product, _ in lines],
            "quantity": pa.array([quantity for *_, quantity in lines], pa.int32()),
            **{
                name: pa.array([Decimal("1.00")] * len(lines), MONEY)
                for name in ("unit_price", "unit_cost", "discount_amount")
            },
            "created_at": pa.array([SOLD] * len(lines), INSTANT),
        },
        "inventory": {
            "store_id": pa.array([Decimal(store) for store, *_ in stock], KEY),
            "product_id": [product for _, product, *_ in stock],
            "quantity_on_hand": pa.array([on_hand for *_, on_hand, _ in stock], pa.int32()),
            "reorder_point": pa.array([point for *_, point in stock], pa.int32()),
        },
    }
    for source, declared in JOB.inputs:
        fill(lake_table(source, declared, lake), pa.table(columns[declared.name]))
    return lake


COVER = [
    (1, "pan", 10, 4, 28, Decimal("1.0000"), Decimal("10.0"), "low"),
    (1, "pot", 5, 2, 0, Decimal("0.0000"), None, "ok"),
    (2, "pot", 0, 2, 56, Decimal("2.0000"), Decimal("0.0"), "out"),
]
"""What the job makes of `sales`, as other tests want it of the job on this machine."""


def applications(stack: Stack) -> dict[str, set[str]]:
    """All programs that either cluster was given, by their ids."""
    resources, master = named(stack, "resourcemanager"), named(stack, "sparkmaster")
    assert isinstance(resources, ResourceManager)
    assert isinstance(master, SparkMaster)
    of_yarn = resources.ask(resources.port + 4, "ws/v1/cluster/apps")["apps"] or {}
    of_master = master.state()
    return {
        "yarn": {each["id"] for each in of_yarn.get("app", ())},
        "spark": {each["id"] for each in of_master["activeapps"] + of_master["completedapps"]},
    }


def kept_rows(table: LakeTable) -> list[tuple]:
    return sorted(tuple(row[name] for name in JOB.columns) for row in rows_of(table))


def of_clients(stack: Stack, **more: str) -> dict[str, str]:
    return os.environ | stack.env() | {"PYTHONPATH": str(REPOSITORY)} | more


@pytest.mark.parametrize(
    ("cluster", "mode"), [("yarn", "client"), ("yarn", "cluster"), ("spark", "client")]
)
def test_a_job_alone_gives_what_it_gives_here(
    hadoop: Stack, sales: str, cluster: str, mode: str
) -> None:
    for function in JOB.by_month:
        forget(function, sales)
    submit = Path(sys.executable).with_name("spark-submit")
    master = hadoop.env()["SOFTCART_SPARK_MASTER"] if cluster == "spark" else cluster
    script = JOB.module.__file__
    assert script
    assert master.startswith(cluster)
    table = aggregate_table(JOB, sales)
    before, known = table.state(), applications(hadoop)
    done = subprocess.run(
        [submit, "--master", master, "--deploy-mode", mode, script],
        env=of_clients(hadoop),
        cwd=hadoop.home,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    # In cluster mode, what the job prints is in the log of its container.
    assert ("3 rows" in done.stdout) == (mode == "client")
    assert table.state() != before
    assert kept_rows(table) == COVER
    ran = applications(hadoop)
    assert {name: len(ran[name] - known[name]) for name in ran} == {
        name: int(name == cluster) for name in ran
    }


def test_a_program_goes_on_after_its_session_has_ended_and_yarn_was_killed(
    hadoop: Stack, sales: str, tmp_path: Path
) -> None:
    table, go = aggregate_table(JOB, sales), tmp_path / "go"
    program = [sys.executable, "-c", TWICE, JOB.name, sales, str(go)]
    with subprocess.Popen(
        program,
        env=of_clients(hadoop, SOFTCART_SPARK_MASTER="yarn"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as running:
        try:
            assert running.stdout
            assert running.stdout.readline() == "3\n"
            lost = running.stdout.readline()
            before = table.state()
            for name in ("resourcemanager", "nodemanager"):
                killed(named(hadoop, name))
            assert kept_rows(table) == COVER
            hadoop.up()
            go.touch()
            rows, errors = running.communicate()
        finally:
            running.kill()
    assert running.returncode == 0, errors
    assert lost.startswith(
        f"Spark on yarn has ended while aggregates.{JOB.name} was computed, which keeps its last "
        "rows: "
    )
    assert rows == "3\n"
    assert table.state() != before
    assert kept_rows(table) == COVER


def test_a_cluster_that_is_down_is_named(
    hadoop: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By default, Spark would wait for YARN for 15 minutes, and then print Java's calls."""
    resources = named(hadoop, "resourcemanager")
    assert isinstance(resources, ResourceManager)
    resources.write_settings(tmp_path)
    place = f":{resources.port}<"
    site = (tmp_path / "yarn-site.xml").read_text()
    (tmp_path / "yarn-site.xml").write_text(
        site.replace(place, f":{free_port()}<").replace(">30000<", ">1000<")
    )
    done = subprocess.run(
        [sys.executable, "-c", "from spark.session import build_session; build_session('none')"],
        env=of_clients(hadoop, SOFTCART_SPARK_MASTER="yarn", HADOOP_CONF_DIR=str(tmp_path)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    told = done.stderr.rstrip().splitlines()[-1]
    assert "Spark on yarn gives no session: " in told
    assert told.endswith("Check that the cluster runs, and SOFTCART_SPARK_MASTER.")
