"""The local Hive metastore, and what it is told of the lake's tables."""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
import sys
import threading
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest
from support.hive import folders_in_hive
from support.lake import FEBRUARY, JANUARY, Loads, current

from softcart_assets.lake import State, commit, hive, refresh_table
from softcart_assets.lake.hive import Client, MetastoreDown, connected, publish, publish_all
from softcart_assets.paths import REPOSITORY
from softcart_assets.stack import Stack


@pytest.fixture
def loads(metastore: str, tmp_path: Path) -> Loads:
    return Loads((tmp_path / "the lake").as_uri(), f"lake_{secrets.token_hex(4)}")


def folders(state: State | None) -> list[str]:
    """The folders that the state of a table names."""
    assert state
    return sorted(partition.folder for partition in state.partitions.values())


# Kills a process at each change that it makes in the metastore: before it, and after it.
KILLED = """
import os, signal, sys
from dataclasses import replace
from pathlib import Path
from support.hive import folders_in_hive
from support.lake import Loads, FEBRUARY, JANUARY, forked
from softcart_assets.lake import hive, refresh_table
from softcart_assets.lake.hive import Client, connected, publish

root, database = Path(sys.argv[1]), sys.argv[2]
uri = os.environ["SOFTCART_HIVE_METASTORE_URI"]
CHANGES = ("create_database", "create_table", "alter_table", "add_partitions", "alter_partitions",
           "drop_table", "drop_partition")

def counted(dies_at, made):
    def maybe_die():
        made.append(1)
        if len(made) == dies_at:
            os.kill(os.getpid(), signal.SIGKILL)
    def wrapped(name, change):
        def call(*of, **named):
            if not name.startswith("create_database"):
                maybe_die()
            change(*of, **named)
            if not name.startswith("create_database"):
                maybe_die()
        return call
    for name in CHANGES:
        setattr(Client, name, wrapped(name, getattr(Client, name)))

def told(table, dies_at=None, counter=None):
    made = []
    counted(dies_at, made)
    publish(table, print)
    if counter:
        counter.write_text(str(len(made)))

def seen(table):
    with connected(uri) as client:
        return sorted(f for f in folders_in_hive(client, table) if not f.endswith("_empty"))

def named(table):
    return sorted(p.folder for p in table.state().partitions.values())

def case(number):
    loads = Loads((root / str(number)).as_uri(), f"{database}_{number}")
    loads.add((1, JANUARY, "1.00"), (2, JANUARY, "2.00"), (9, None, "9.00"))
    assert forked(refresh_table, loads.table, loads.files) == 0
    assert forked(told, loads.table) == 0
    old = named(loads.table)
    # A month comes, one changes, and one goes.
    loads.add((1, FEBRUARY, "1.50"), (2, JANUARY, "2.50"), (9, None, "9.00", True))
    assert forked(refresh_table, loads.table, loads.files) == 0
    return loads.table, old, named(loads.table)

table, old, new = case(0)
assert seen(table) == old != new
assert forked(told, table, None, root / "steps") == 0
assert seen(table) == new
for step in range(1, int((root / "steps").read_text()) + 1):
    table, old, new = case(step)
    assert forked(told, table, step) == 9, step
    found = seen(table)
    assert found in (old, new), (step, found, old, new)
    print("old" if found == old else "new")
    assert forked(told, table) == 0
    assert seen(table) == new, step
"""


def test_kill_9_at_each_step_of_a_publication(metastore: str, tmp_path: Path) -> None:
    """Readers of Hive find the old rows or the new ones. The next publication goes on."""
    database = f"lake_{secrets.token_hex(4)}"
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path), database],
        env=os.environ | {"PYTHONPATH": f"{REPOSITORY}:{REPOSITORY / 'tests'}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = done.stdout.split()
    switch = found.index("new")
    assert 0 < switch < len(found) - 1
    assert found == ["old"] * switch + ["new"] * (len(found) - switch)


def test_readers_find_one_refresh_while_another_is_told(metastore: str, loads: Loads) -> None:
    table = loads.table
    loads.add((1, JANUARY, "0.00"), (2, FEBRUARY, "0.00"), (9, None, "9.00"))
    refresh_table(table, loads.files)
    publish(table, print)
    allowed, found = [folders(table.state())], []
    stopping = threading.Event()

    def look() -> None:
        with connected(metastore) as client:
            while not stopping.is_set():
                places = folders_in_hive(client, table)
                found.append([place for place in places if not place.endswith("_empty")])

    reader = threading.Thread(target=look)
    reader.start()
    try:
        for number in range(12):
            moved = JANUARY if number % 2 else None
            loads.add((1, JANUARY, f"{number}"), (2, FEBRUARY, f"{number}"), (9, moved, "9.00"))
            refresh_table(table, loads.files)
            allowed.append(folders(table.state()))
            publish(table, print)
    finally:
        stopping.set()
        reader.join()
    assert len(found) > 12
    assert [each for each in found if each not in allowed] == []


def test_who_tells_an_older_refresh_tells_the_newer_one_after_it(
    metastore: str, loads: Loads, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = loads.table = replace(loads.table, partition_column=None)
    loads.add((1, JANUARY, "1.00"))
    refresh_table(table, loads.files)
    put, overtaken = hive._put, []

    def overtake(*of: object) -> None:
        if not overtaken:
            overtaken.append(True)
            loads.add((1, FEBRUARY, "2.00"))
            refresh_table(table, loads.files)
            publish(table, print)
        put(*of)

    monkeypatch.setattr(hive, "_put", overtake)
    publish(table, print)
    with connected(metastore) as client:
        assert folders_in_hive(client, table) == folders(table.state())
    assert current(table, "id") == [(1,)]


def test_what_aggregates_keep_by_month_is_no_table_in_hive(metastore: str, loads: Loads) -> None:
    loads.add((1, JANUARY, "1.00"))
    refresh_table(loads.table, loads.files)
    kept = replace(loads.table, database=f"{loads.table.database}_by_month", partition_column=None)
    commit(
        kept, None, {"type": "struct", "fields": []}, {}, (), layout={"common": {}, "months": {}}
    )
    publish_all(metastore, loads.table.lake_uri)
    with connected(metastore) as client:
        assert folders_in_hive(client, loads.table) == folders(loads.table.state())
        assert kept.database not in client.get_all_databases()


def test_the_metastore_is_for_this_user_only(metastore: str, stack: Stack) -> None:
    address = urlsplit(metastore)
    *_, server = stack.servers()
    process = server.process()
    assert process
    listening = [
        each.laddr.ip for each in process.net_connections() if each.status == psutil.CONN_LISTEN
    ]
    assert listening == ["127.0.0.1"]
    if os.geteuid() != 0:
        pytest.skip("only root can be another user")
    # The call get_all_databases, which a process of ours gets an answer to.
    program = (
        "import socket, sys\n"
        "for port in map(int, sys.argv[2:]):\n"
        f"    there, here = ('127.0.0.1', {address.port}), (sys.argv[1], port)\n"
        "    s = socket.create_connection(there, 10, here)\n"
        "    try:\n"
        "        s.sendall(b'\\x80\\1\\0\\1\\0\\0\\0\\x11get_all_databases\\0\\0\\0\\0\\0')\n"
        "        print(min(len(s.recv(9)), 1))\n"
        "    except (ConnectionResetError, BrokenPipeError): print(0)\n"
    )

    def answers(user: int, *source: object) -> list[int]:
        command = ["/usr/bin/env", "python3", "-c", program, *map(str, source)]
        return [int(line) for line in subprocess.check_output(command, user=user).split()]

    assert answers(0, "127.0.0.1", 0) == [1]
    assert answers(65534, "127.0.0.1", 0) == [0]
    # Another address may have the port of a connection of ours.
    with ExitStack() as connections:
        ours = [
            connections.enter_context(socket.create_connection(("127.0.0.1", address.port or 0)))
            for _ in range(8)
        ]
        ports = [each.getsockname()[1] for each in ours]
        assert answers(65534, "127.0.0.2", *ports) == [0] * len(ports)
        assert answers(0, "127.0.0.3", *ports) == [1] * len(ports)


def test_the_metastore_outlives_its_database(metastore: str, stack: Stack, loads: Loads) -> None:
    """PostgreSQL is killed and comes back. The metastore itself is killed, and knows all again."""
    loads.add((1, JANUARY, "1.00"))
    refresh_table(loads.table, loads.files)
    publish(loads.table, print)
    _, postgres, *_, server = stack.servers()
    for victim in (postgres, server):
        process = victim.process()
        assert process
        process.kill()
        process.wait()
        assert stack.up(metastore=True)["SOFTCART_HIVE_METASTORE_URI"] == metastore
        with connected(metastore) as client:
            assert folders_in_hive(client, loads.table) == folders(loads.table.state())
    with socket.socket() as probe:
        probe.connect(("127.0.0.1", urlsplit(metastore).port))


def test_kill_9_of_the_metastore_during_a_publication(
    metastore: str, stack: Stack, loads: Loads, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Readers find the old rows, and whoever tells says so. The next publication goes on."""
    table, change = loads.table, Client.alter_partitions
    loads.add((1, JANUARY, "1.00"))
    refresh_table(table, loads.files)
    publish(table, print)
    old = folders(table.state())
    loads.add((1, FEBRUARY, "1.50"), (2, JANUARY, "2.00"))
    refresh_table(table, loads.files)
    *_, server = stack.servers()

    def killed(*of: object) -> None:
        process = server.process()
        assert process
        process.kill()
        process.wait()
        change(*of)

    told: list[str] = []
    with monkeypatch.context() as patch:
        # It switches the readers.
        patch.setattr(Client, "alter_partitions", killed)
        publish(table, told.append)
    assert told == [
        f"Hive does not know of {table.full_name} yet. `softcart up` starts the metastore."
    ]
    assert stack.up(metastore=True)["SOFTCART_HIVE_METASTORE_URI"] == metastore
    with connected(metastore) as client:
        found = folders_in_hive(client, table)
        assert [place for place in found if not place.endswith("_empty")] == old
        publish(table, print)
        assert folders_in_hive(client, table) == folders(table.state()) != old


def test_another_program_at_the_address_is_no_metastore() -> None:
    """The port of a metastore that is down is free for others, who do not speak its protocol."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        answers = threading.Thread(target=lambda: other.accept()[0].close())
        answers.start()
        uri = f"thrift://127.0.0.1:{other.getsockname()[1]}"
        with pytest.raises(MetastoreDown, match="cannot be reached"), connected(uri) as client:
            client.get_all_databases()
        answers.join()
