"""The local stack: separate homes, crashes, taken ports, servers of the user's own, and its
commands.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import dagster as dg
import psutil
import psycopg
import pytest
from pymongo import MongoClient
from pymongo.errors import OperationFailure

from softcart_assets.cli import settings
from softcart_assets.connections import (
    MongoConnection,
    MySQLConnection,
    PostgresConnection,
    ServerUnreachable,
    staging,
)
from softcart_assets.dagster_private import GRPC_INFO_TAG
from softcart_assets.lines.model import Source
from softcart_assets.paths import REPOSITORY
from softcart_assets.stack import Stack, StackError
from softcart_assets.stack import stack as stack_module
from softcart_assets.stack.derived import mysql_script
from softcart_assets.stack.mongo import Mongo
from softcart_assets.stack.mysql import MySQL
from softcart_assets.stack.postgres import WAYS_FROM_ROOT
from softcart_assets.stack.server import alive_after, free_port
from softcart_assets.stack.ui import serve

SOFTCART = [sys.executable, "-c", "from softcart_assets.cli import app; app(prog_name='softcart')"]


@pytest.fixture(scope="module")
def own_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A second home with servers that these tests may kill."""
    home = tmp_path_factory.mktemp("own")
    yield home
    Stack(home, ignore_environment=True).delete()


@pytest.fixture
def own(own_home: Path, monkeypatch: pytest.MonkeyPatch) -> Stack:
    """A second stack beside the tests' own, running; the environment leads to it."""
    own = Stack(own_home, ignore_environment=True)
    for name, value in own.up().items():
        monkeypatch.setenv(name, value)
    return own


def _write(value: int) -> None:
    with MySQLConnection.from_env("SOFTCART_SHOP").connect() as client:
        client.query("CREATE TABLE IF NOT EXISTS kept (value INT)")
        client.query(f"INSERT INTO kept VALUES ({value})")
        client.commit()
    with staging().connect() as client:
        client.execute("CREATE TABLE IF NOT EXISTS kept (value int)")
        client.execute("INSERT INTO kept VALUES (%s)", [value])
    connection = MongoConnection.from_env("SOFTCART_CATALOG")
    with connection.connect() as client:
        client[connection.database].kept.insert_one({"_id": str(value), "value": value})


def _read() -> list[set[int]]:
    with MySQLConnection.from_env("SOFTCART_SHOP").connect() as client:
        with client.cursor() as cursor:
            cursor.execute("SELECT value FROM kept")
            mysql = {value for (value,) in cursor.fetchall()}
    with staging().connect() as client:
        postgres = {value for (value,) in client.execute("SELECT value FROM kept")}
    connection = MongoConnection.from_env("SOFTCART_CATALOG")
    with connection.connect() as client:
        return [mysql, postgres, {row["value"] for row in client[connection.database].kept.find()}]


def _processes(stack: Stack) -> dict[str, psutil.Process]:
    return {server.name: process for server in stack.servers() if (process := server.process())}


def _export(monkeypatch: pytest.MonkeyPatch, stack: Stack) -> None:
    for name, value in stack.up().items():
        monkeypatch.setenv(name, value)


def test_two_stacks_run_beside_each_other(stack: Stack, own: Stack) -> None:
    ports = [server.port for each in (stack, own) for server in each.servers()]
    assert len(set(ports)) == len(ports)
    assert not set(stack.pids()) & set(own.pids())


def test_up_again_changes_nothing(own: Stack) -> None:
    before, pids = own.env(), own.pids()
    assert own.up() == before
    assert own.pids() == pids


def test_secrets_are_for_the_owner_only(own: Stack) -> None:
    assert own.home.joinpath("stack.json").stat().st_mode & 0o777 == 0o600
    passwords = [server.password for server in own.servers()]
    assert len(set(passwords)) == len(passwords)
    for pid in own.pids():
        assert not any(
            password in " ".join(psutil.Process(pid).cmdline()) for password in passwords
        )


def test_servers_listen_on_loopback_only(own: Stack) -> None:
    for pid in own.pids():
        listening = [
            c.laddr.ip
            for c in psutil.Process(pid).net_connections()
            if c.status == psutil.CONN_LISTEN
        ]
        assert listening == ["127.0.0.1"]


def test_the_source_has_the_binary_log_that_change_data_capture_needs(own: Stack) -> None:
    connection = MySQLConnection.from_env("SOFTCART_SHOP").connect()
    with connection, connection.cursor() as cursor:
        cursor.execute(
            "SELECT @@log_bin, @@binlog_format, @@binlog_row_image, @@binlog_row_metadata, "
            "@@time_zone"
        )
        assert cursor.fetchone() == (1, "ROW", "FULL", "FULL", "+00:00")


def test_servers_come_back_after_kill_9_with_all_that_was_committed(
    own: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    value = int(time.time())
    _write(value)
    for process in (killed := _processes(own)).values():
        process.kill()
        process.wait()
    # Process ids are used again after a reboot: let the stale files name a living process, this
    # one.
    postmaster = own.home / "postgres" / "data" / "postmaster.pid"
    postmaster.write_text(
        postmaster.read_text().replace(str(killed["postgres"].pid), str(os.getpid()))
    )
    _export(monkeypatch, own)
    found = _read()
    assert [value in values for values in found] == [True] * 3, found


@pytest.mark.parametrize("name", ["mysql", "postgres", "mongo"])
def test_one_killed_server_leaves_the_others_alone(own: Stack, name: str) -> None:
    before = _processes(own)
    before[name].kill()
    before[name].wait()
    own.up()
    after = _processes(own)
    assert {each for each in before if before[each] != after[each]} == {name}


def test_postgres_comes_back_while_a_query_of_the_killed_server_still_works(own: Stack) -> None:
    def query() -> None:
        with staging().connect() as client, pytest.raises(psycopg.OperationalError):
            client.execute("SELECT count(*) FROM generate_series(1, 10000000000)")

    working = threading.Thread(target=query)
    working.start()
    with staging().connect(autocommit=True) as client:
        others = "SELECT query FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
        while not any("generate_series" in text for (text,) in client.execute(others)):
            time.sleep(0.05)
    _processes(own)["postgres"].kill()
    own.up()
    working.join()


def test_a_taken_port_is_exchanged_and_data_are_kept(
    own: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    value = int(time.time()) + 1
    _write(value)
    own.down()
    before = {server.name: server.port for server in own.servers()}
    with (
        socket.create_server(("127.0.0.1", before["mysql"])),
        socket.create_server(("127.0.0.1", before["postgres"])),
    ):
        _export(monkeypatch, own)
        after = {server.name: server.port for server in own.servers()}
        assert {name for name in before if before[name] != after[name]} == {"mysql", "postgres"}
        found = _read()
    assert [value in values for values in found] == [True] * 3, found


def test_the_state_is_right_again_after_a_kill_between_start_and_note(own: Stack) -> None:
    state = own.home / "stack.json"
    port = own.servers()[0].port
    state.write_text(state.read_text().replace(str(port), "1"))
    assert own.env()["SOFTCART_SHOP_PORT"] == str(port)
    own.up()
    assert f'"port": {port}' in state.read_text()


def test_a_running_server_gets_the_database_of_a_source_that_is_declared_later(
    own: Stack, own_home: Path
) -> None:
    more = (*own.sources, Source("key", "mysql", "", ()), Source("papers", "mongodb", "", ()))
    before = _processes(own)
    later = Stack(own_home, sources=more, ignore_environment=True)
    env = later.up()
    assert _processes(later) == before
    assert env["SOFTCART_PAPERS_DATABASE"] == "papers"
    assert env["SOFTCART_KEY_DATABASE"] == "key"
    connection = MySQLConnection(
        "SOFTCART_KEY",
        env["SOFTCART_KEY_HOST"],
        int(env["SOFTCART_KEY_PORT"]),
        env["SOFTCART_KEY_USER"],
        env["SOFTCART_KEY_PASSWORD"],
        env["SOFTCART_KEY_DATABASE"],
    )
    with connection.connect() as client:
        client.query("CREATE TABLE kept (value INT)")
    # Another command may know fewer sources: nothing is taken away, and the table stays.
    own.up()
    later.up()
    with connection.connect() as client:
        client.query("DROP TABLE kept")


def test_a_server_that_no_source_needs_is_not_started(tmp_path: Path) -> None:
    stack = Stack(tmp_path, sources=[Source("papers", "mongodb", "", ())], ignore_environment=True)
    try:
        env = stack.up()
        assert set(_processes(stack)) == {"postgres", "mongo"}
        assert [each.partition(":")[0] for each in env["SOFTCART_LOCAL_PREFIXES"].split()] == [
            "SOFTCART_STAGING",
            "SOFTCART_PRODUCTION",
            "SOFTCART_DAGSTER",
            "SOFTCART_PAPERS",
            "SOFTCART_HIVE_METASTORE",
            "SOFTCART_LAKE",
            "SOFTCART_EXTRACTS",
        ]
    finally:
        stack.delete()


def test_the_script_for_docker_compose_makes_databases_and_users(
    mysql97: MySQLConnection,
) -> None:
    sources = [Source("key", "mysql", "", ()), Source("crm", "mysql", "", (), prefix="SOFTCART_C")]
    odd = r"""it's "$1" `2` \n \'; %"""
    # As the image does: it reads the file into a script that has this function.
    statements = subprocess.run(
        ["bash", "-eu", "-c", f"docker_process_sql() {{ cat; }}\n{mysql_script(sources)}"],
        env=os.environ | {"SOFTCART_KEY_PASSWORD": odd, "SOFTCART_C_PASSWORD": "two"},
        text=True,
        capture_output=True,
        check=True,
    ).stdout
    with mysql97.connect() as root:
        for statement in statements.split(";\n")[:-1]:
            root.query(statement)
        for user, password in (("key", odd), ("crm", "two")):
            own = replace(mysql97, user=user, password=password, database=user)
            with own.connect() as client:
                client.query("CREATE TABLE t (i INT)")
                client.query("SHOW BINARY LOG STATUS")
        with pytest.raises(ServerUnreachable):
            replace(mysql97, user="crm", password="two", database="key").connect()
        for user in ("key", "crm"):
            root.query(f"DROP DATABASE `{user}`")
            root.query(f"DROP USER `{user}`")


def test_a_half_made_data_directory_is_made_again(tmp_path: Path) -> None:
    (tmp_path / "mysql" / "data.unfinished").mkdir(parents=True)
    (tmp_path / "mysql" / "data.unfinished" / "ibdata1").write_bytes(b"torn")
    server = MySQL(tmp_path, free_port(), "secret", {"SOFTCART_SHOP": "shop"})
    try:
        server.up()
    finally:
        assert server.down()


def test_two_commands_at_once_start_each_server_once(own: Stack) -> None:
    own.down()
    commands = [subprocess.Popen([*SOFTCART, "up"], stdout=subprocess.DEVNULL) for _ in range(2)]
    assert [command.wait() for command in commands] == [0, 0]
    assert len(own.pids()) == 5
    commands_of_all = [
        process.info["cmdline"] or () for process in psutil.process_iter(["cmdline"])
    ]
    assert sum(f"--datadir={own.home}/mysql/data" in command for command in commands_of_all) == 1


def test_a_command_that_waits_too_long_says_for_what(
    own: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stack_module, "LOCK_SECONDS", 0.1)
    with (
        own._lock(),
        pytest.raises(StackError, match="Another command has been starting or stopping"),
    ):
        own.up()


def test_a_server_that_does_not_start_shows_its_log(tmp_path: Path) -> None:
    (tmp_path / "mysql" / "data").mkdir(parents=True)  # without a single table
    server = MySQL(tmp_path, free_port(), "secret", {"SOFTCART_SHOP": "shop"})
    with pytest.raises(StackError, match="MySQL did not start: it ended at once") as failure:
        server.up()
    assert f"The end of {server.log}:" in str(failure.value)
    assert "ERROR" in str(failure.value)


def test_data_are_not_given_to_another_product(tmp_path: Path) -> None:
    server = MySQL(tmp_path, free_port(), "secret", {"SOFTCART_SHOP": "shop"})
    server.home.mkdir()
    (server.home / "product").write_text("AuroraDB")
    with pytest.raises(StackError, match="were made by AuroraDB, which is not installed any more"):
        server.up()


def test_servers_that_the_user_names_are_not_started(
    stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SOFTCART_LOCAL_PREFIXES")  # what is set now counts as the user's
    for name in ("SOFTCART_CATALOG_URI", "SOFTCART_LAKE_URI", "SOFTCART_EXTRACTS_DIR"):
        monkeypatch.delenv(name)
    mine = Stack(tmp_path)
    try:
        env = mine.up()
        assert set(_processes(mine)) == {"mongo"}
    finally:
        mine.down()
    assert "SOFTCART_SHOP_HOST" not in env
    assert env["SOFTCART_LAKE_URI"] == (tmp_path / "lake").as_uri()


def test_an_evaluated_environment_does_not_hide_the_local_servers(own: Stack) -> None:
    # `own` exports what `softcart env` prints.
    own.down()
    assert set(_processes(Stack(own.home))) == set()
    Stack(own.home).up()
    assert len(own.pids()) == 4


def test_a_server_that_the_user_names_after_the_environment_was_evaluated_is_used(
    own: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    local = set(own.env())
    monkeypatch.setenv("SOFTCART_SHOP_HOST", "prod")
    monkeypatch.setenv("SOFTCART_CATALOG_URI", "mongodb://prod")
    env = Stack(own.home).env()
    assert {name for name in local - set(env) if name.endswith(("HOST", "URI"))} == {
        "SOFTCART_SHOP_HOST",
        "SOFTCART_CATALOG_URI",
    }
    assert env["SOFTCART_STAGING_HOST"] == "127.0.0.1"


def test_a_server_that_dotenv_names_after_the_environment_was_evaluated_is_used(
    own: Stack, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    mine = "".join(
        f"SOFTCART_SHOP_{end}=prod\n" for end in ("HOST", "USER", "PASSWORD", "DATABASE")
    )
    (tmp_path / ".env").write_text(f"{mine}SOFTCART_STAGING_PORT=1\n")
    monkeypatch.setattr(settings, "REPOSITORY", tmp_path)
    settings.read_dotenv()
    assert os.environ["SOFTCART_SHOP_HOST"] == "prod"
    assert "SOFTCART_SHOP_PORT" not in os.environ  # that of our own server
    env = Stack(own.home).env()
    assert "SOFTCART_SHOP_HOST" not in env
    assert env["SOFTCART_STAGING_PORT"] == str(own.servers()[1].port)


@pytest.mark.parametrize(
    ("kind", "prefix"),
    [(MySQLConnection, "SOFTCART_SHOP"), (PostgresConnection, "SOFTCART_STAGING")],
)
def test_a_wrong_password_is_refused_without_showing_it(own: Stack, kind, prefix: str) -> None:
    connection = replace(kind.from_env(prefix), password="not-the-password")
    with pytest.raises(
        ServerUnreachable, match=f"Check {prefix}_HOST, _PORT, _USER, _PASSWORD"
    ) as refusal:
        connection.connect()
    assert "not-the-password" not in str(refusal.value)


def test_mongodb_asks_for_a_password(own: Stack) -> None:
    connection = MongoConnection.from_env("SOFTCART_CATALOG")
    anybody = replace(connection, uri=f"mongodb://{connection.uri.rpartition('@')[2]}")
    with anybody.connect() as client:
        with pytest.raises(OperationFailure, match="requires authentication"):
            client[anybody.database].list_collection_names()
        with pytest.raises(OperationFailure, match="requires authentication"):
            client.admin.command("createUser", "me", pwd="mine", roles=["root"])
    with pytest.raises(ServerUnreachable, match="Check SOFTCART_CATALOG_URI") as refusal:
        replace(connection, uri=connection.uri.replace("softcart:", "softcart:x")).connect()
    assert "softcart:x" not in str(refusal.value)


def test_a_user_who_came_in_while_mongodb_was_made_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SecantusDB asks for no password until it has a user."""
    server = Mongo(tmp_path, free_port(), "secret", {"SOFTCART_CATALOG": "catalog"})
    create = Mongo._create_user

    def and_another(self: Mongo, client: MongoClient) -> None:
        create(self, client)
        roles = [{"role": "root", "db": "admin"}]
        client.shop.command("createUser", "softcart", pwd="mine", roles=roles)

    monkeypatch.setattr(Mongo, "_create_user", and_another)
    try:
        with pytest.raises(StackError, match="somebody on this machine made a user"):
            server.up()
    finally:
        server.down()


def test_nothing_of_the_servers_lies_outside_the_home(own: Stack) -> None:
    """A log in a folder of everybody's could be a link of somebody else's, or be his already."""
    outside = {
        file.path
        for pid in own.pids()
        for file in psutil.Process(pid).open_files()
        if file.mode != "r" and not Path(file.path).is_relative_to(own.home)
    }
    assert outside == set()


@pytest.fixture
def odd_home(tmp_path: Path) -> Iterator[Path]:
    """A home whose path has spaces, brackets and letters beyond ASCII."""
    home = tmp_path / "Mein Klon [für (zwei)] 'ß'"
    yield home
    Stack(home, ignore_environment=True).delete()


def test_the_path_of_the_home_may_have_any_character(
    odd_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """mariadb-install-db takes a path with a space for two."""
    monkeypatch.setenv("LC_ALL", "C")
    for _ in range(2):
        odd = Stack(odd_home, ignore_environment=True)
        _export(monkeypatch, odd)
        _write(1) if _ == 0 else None
        assert _read() == [{1}, {1}, {1}]
        odd.down()


def test_servers_whose_home_was_removed_are_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack = Stack(tmp_path / "home", ignore_environment=True)
    try:
        _export(monkeypatch, stack)
        _write(1)
        before = _processes(stack)
        shutil.rmtree(stack.home)
        _export(monkeypatch, stack)
        assert not any(process.is_running() for process in before.values())
        _write(2)
        assert _read() == [{2}, {2}, {2}]
        # Moved away, and another one in its place.
        before = _processes(stack)
        stack.home.rename(tmp_path / "moved")
        shutil.copytree(tmp_path / "moved", stack.home, ignore=shutil.ignore_patterns("data"))
        stack.up()
        assert not any(process.is_running() for process in before.values())
        shutil.rmtree(stack.home)
        assert len(stack.down()) == 4
        assert stack.pids() == []
    finally:
        stack.down()


def test_an_existing_home_is_for_its_owner_only(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    stack = Stack(tmp_path, sources=[], ignore_environment=True)
    try:
        stack.up()
        assert tmp_path.stat().st_mode & 0o777 == 0o700
        tmp_path.chmod(0o755)
        stack.up()
        assert tmp_path.stat().st_mode & 0o777 == 0o700
    finally:
        stack.delete()


def test_an_open_folder_of_something_else_is_not_taken_for_a_home(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(StackError, match=r"Others may look into .* \(mode 755\)"):
        Stack(tmp_path, ignore_environment=True).up()
    assert tmp_path.stat().st_mode & 0o777 == 0o755


def test_nobody_enters_mysql_as_root_without_a_password(own: Stack) -> None:
    with pytest.raises(ServerUnreachable, match="Access denied"):
        replace(MySQLConnection.from_env("SOFTCART_SHOP"), user="root", password="").connect()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has to become another user")
def test_postgres_runs_as_nobody_where_namespaces_are_forbidden(tmp_path: Path) -> None:
    stub = tmp_path / "bin" / "unshare"
    stub.parent.mkdir()
    stub.write_text("#!/bin/sh\nexit 1\n")
    stub.chmod(0o755)
    tmp_path.chmod(0o700)  # as /root is: nobody could not enter without the capability
    home = tmp_path / "home"
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("SOFTCART_")
    }
    environment |= {"SOFTCART_HOME": str(home), "PATH": f"{stub.parent}:{os.environ['PATH']}"}
    postgres_only = {
        **{f"SOFTCART_SHOP_{end}": "elsewhere" for end in ("HOST", "USER", "PASSWORD", "DATABASE")},
        "SOFTCART_CATALOG_URI": "mongodb://elsewhere",
        "SOFTCART_CATALOG_DATABASE": "catalog",
    }
    stack = Stack(home, ignore_environment=True)
    try:
        subprocess.run(
            [*SOFTCART, "up"],
            env=environment | postgres_only,
            check=True,
            stdout=subprocess.DEVNULL,
        )
        assert _processes(stack)["postgres"].uids().effective == 65534
    finally:
        stack.down()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has to become another user")
@pytest.mark.parametrize("way", WAYS_FROM_ROOT, ids=lambda way: way[0])
def test_a_clone_in_the_home_of_root_is_in_reach_of_postgres(
    tmp_path: Path, way: tuple[str, ...]
) -> None:
    if subprocess.run([*way, "true"]).returncode:
        pytest.skip(f"{way[0]} is refused here")
    tmp_path.chmod(0o700)
    file = tmp_path / "binary"
    file.touch(mode=0o600)
    assert (
        subprocess.run([*way, "test", "-r", str(file)]).returncode == 0
    )  # by access(2), as initdb asks


def test_commands_tell_and_use_the_settings(own: Stack) -> None:
    def softcart(*arguments: str, status: int = 0) -> str:
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith("SOFTCART_")
        }
        result = subprocess.run(
            [*SOFTCART, *arguments],
            env=environment | {"SOFTCART_HOME": str(own.home)},
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        assert result.returncode == status, result.stdout
        assert "Traceback" not in result.stdout
        return result.stdout

    password = own.env()["SOFTCART_STAGING_PASSWORD"]
    told = softcart("status")
    assert f"postgresql://softcart@127.0.0.1:{own.env()['SOFTCART_STAGING_PORT']}/staging" in told
    assert password not in told
    printed = subprocess.run(
        ["sh", "-c", 'eval "$1"; printenv SOFTCART_STAGING_PASSWORD', "sh", softcart("env")],
        text=True,
        capture_output=True,
    ).stdout
    assert printed == f"{password}\n"
    assert (
        softcart("run", "--", "sh", "-c", "printenv DAGSTER_HOME; exit 3", status=3)
        == f"{own.home}/dagster\n"
    )
    assert "nonesuch: No such file" in softcart("run", "nonesuch", status=127)
    assert "binary log with whole rows and column names" in softcart("doctor")
    assert softcart("down").startswith("Stopped: MySQL, PostgreSQL, MongoDB, DynamoDB.")
    assert softcart("down").startswith("Stopped: nothing ran.")


def test_env_of_a_stack_that_never_was_is_one_message(tmp_path: Path) -> None:
    result = subprocess.run(
        [*SOFTCART, "env"],
        env=os.environ | {"SOFTCART_HOME": str(tmp_path / "none")},
        text=True,
        capture_output=True,
    )
    assert result.returncode == 1
    assert result.stderr == f"There is no stack in {tmp_path}/none yet. `softcart up` starts it.\n"


def test_a_folder_that_is_no_home_is_not_deleted(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(StackError, match="not the home of a stack"):
        Stack(tmp_path).delete()
    assert (tmp_path / "thesis.tex").exists()


def test_the_ui_cleans_up_after_the_one_before_and_leaves_no_process_behind(
    stack: Stack, tmp_path: Path
) -> None:
    @dg.job
    def job() -> None:
        """Nothing."""

    with dg.DagsterInstance.get() as instance:
        left, other, killed = (
            instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED, tags=tags).run_id
            for tags in ({GRPC_INFO_TAG: "{}"}, {}, {})
        )
    # As `dagster asset materialize` begins a run.
    started = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import dagster as dg, time; from softcart_assets.run_processes import note_process; "
            f"note_process(dg.DagsterInstance.get(), {killed!r}); print(flush=True); "
            "time.sleep(99)",
        ],
        stdout=subprocess.PIPE,
    )
    assert started.stdout
    started.stdout.readline()
    started.kill()
    started.wait()
    (tmp_path / "location.py").write_text(
        "import dagster as dg\n\ndefs = dg.Definitions(assets=[])\n"
    )
    (tmp_path / "workspace.yaml").write_text("load_from: [{python_file: location.py}]\n")
    port = free_port()
    program = (
        "from pathlib import Path; from softcart_assets.stack.ui import serve; "
        f"raise SystemExit(serve(Path({str(tmp_path)!r}), {port}))"
    )
    command = psutil.Popen(
        [sys.executable, "-c", program], cwd=REPOSITORY, stdout=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 60
    while True:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/server_info", timeout=5).close()
            break
        except OSError:
            assert time.monotonic() < deadline, "the webserver does not answer"
            assert command.poll() is None
            time.sleep(0.2)
    with dg.DagsterInstance.get() as instance:
        assert instance.get_run_by_id(left).status == dg.DagsterRunStatus.FAILURE
        assert instance.get_run_by_id(killed).status == dg.DagsterRunStatus.FAILURE
        assert instance.get_run_by_id(other).status == dg.DagsterRunStatus.STARTED
    with pytest.raises(StackError, match="runs already"):
        serve(tmp_path, free_port())
    family = command.children(recursive=True)
    assert len(family) >= 3  # dagster dev, webserver, daemon, code server
    # Twice, as an impatient person does: the second must not end the cleaning up.
    command.send_signal(signal.SIGINT)
    time.sleep(0.5)
    command.send_signal(signal.SIGINT)
    assert command.wait(60) == 0
    assert alive_after(family, 0) == []
