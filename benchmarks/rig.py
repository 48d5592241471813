"""Shared by all measurements of the ingestion: their own servers, and child processes to measure.

The modules next to this one have the measurements and their data.
"""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path
from typing import Any

import psutil
import psycopg
from filelock import FileLock, Timeout
from psycopg import sql

from softcart_assets.connections import (
    MongoConnection,
    MySQLConnection,
    PostgresConnection,
    staging,
)
from softcart_assets.lines.model import Source
from softcart_assets.paths import softcart_home
from softcart_assets.stack import Stack
from softcart_assets.stack.mysql import MySQL
from softcart_assets.stack.postgres import Postgres
from softcart_assets.stack.server import Server

CORES = os.cpu_count() or 1
RESULTS = Path(__file__).parent / "results"
_SAMPLE_SECONDS = 0.02
_LIMIT_SECONDS = 3600


_MYSQL_SOURCE = Source("bench", "mysql", "", ())
_MONGO_SOURCE = Source("bench_documents", "mongodb", "", ())


class _MySQL(MySQL):
    def command(self) -> list[str]:
        """The stack's server with all tables in memory, so that the speed of the disk does not
        count.
        """
        sizes = ["--innodb-buffer-pool-size=4G", "--innodb-log-file-size=1G"]
        return [*super().command(), *sizes]


class _Postgres(Postgres):
    def command(self) -> list[str]:
        """The stack's server with memory for the tables, and with every row in the WAL.

        A server with a replica logs every row too. Without that, figures would look too good.
        """
        sizes = [
            "--shared_buffers=2GB",
            "--wal_level=replica",
            "--max_wal_size=32GB",
            "--maintenance_work_mem=512MB",
        ]
        return [*super().command(), *sizes]


class _Stack(Stack):
    def servers(self) -> tuple[Server, ...]:
        """See `Stack`."""
        kinds: dict[type[Server], type[Server]] = {MySQL: _MySQL, Postgres: _Postgres}
        return tuple(
            kinds[type(s)](self.home, s.port, s.password, s.databases) if type(s) in kinds else s
            for s in super().servers()
        )


@dataclass(frozen=True)
class Servers:
    """The running servers and our folder.

    `mongo_product`: `mongod` or its stand-in. `processes`: those of MySQL and PostgreSQL.
    """

    home: Path
    mysql: MySQLConnection
    postgres: PostgresConnection
    mongo: MongoConnection
    mongo_product: str
    processes: tuple[psutil.Process, psutil.Process]

    def watched(self, work: Callable[[], Usage]) -> Usage:
        """Do some work, and note the processor time of MySQL and PostgreSQL for it."""
        before = [cpu_seconds(process) for process in self.processes]
        usage = work()
        mysql, postgres = (
            cpu_seconds(p) - earlier for p, earlier in zip(self.processes, before, strict=True)
        )
        return replace(usage, mysql_seconds=mysql, postgres_seconds=postgres)

    def source(self, database: str) -> MySQLConnection:
        """A database of the MySQL server. It is created if it is missing."""
        with self.mysql.connect() as admin:
            admin.query(f"CREATE DATABASE IF NOT EXISTS {database} CHARACTER SET utf8mb4")
        return replace(self.mysql, database=database)

    def target(self, database: str) -> PostgresConnection:
        """A fresh, empty PostgreSQL database."""
        self.drop_target(database)
        with self.postgres.connect(autocommit=True) as admin:
            admin.execute(f'CREATE DATABASE "{database}"')
            # The pages of earlier measurements are written now, not during the next one.
            admin.execute("CHECKPOINT")
        return replace(self.postgres, database=database)

    def drop_target(self, database: str) -> None:
        """Remove a database made by `target`."""
        with self.postgres.connect(autocommit=True) as admin:
            admin.execute(f'DROP DATABASE IF EXISTS "{database}" WITH (FORCE)')


@contextmanager
def servers(home: Path | None = None) -> Iterator[Servers]:
    """The measurements' own servers. At the end they stop. Their data stay in `home`."""
    home = home or softcart_home() / "bench"
    # A setting of the shell could lead a measurement to a real server.
    for name in [name for name in os.environ if name.startswith(("SOFTCART_", "DAGSTER_"))]:
        del os.environ[name]
    stack = _Stack(home, sources=(_MYSQL_SOURCE, _MONGO_SOURCE), ignore_environment=True)
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = FileLock(home / "bench.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise SystemExit(f"Another benchmark is running in {home}. Wait for its end.") from None
    try:
        os.environ.update(stack.up())
        mysql_server, postgres_server, mongo_server, *_ = stack.servers()
        postgres = staging()
        with postgres.connect() as admin:
            # The stack hashes its passwords with one iteration. Some tools refuse so few.
            admin.execute("SET scram_iterations = 4096")
            admin.execute(
                sql.SQL("ALTER ROLE {} PASSWORD {}").format(
                    sql.Identifier(postgres.user), postgres.password
                )
            )
        # Kept, because their processor time is read before and after each measurement.
        processes = mysql_server.process(), postgres_server.process()
        assert processes[0], "MySQL has ended"
        assert processes[1], "PostgreSQL has ended"
        yield Servers(
            home,
            MySQLConnection.from_env(_MYSQL_SOURCE.env_prefix),
            postgres,
            MongoConnection.from_env(_MONGO_SOURCE.env_prefix),
            mongo_server.product[0],
            (processes[0], processes[1]),
        )
    finally:
        stack.down()
        lock.release()


class Failed(RuntimeError):
    """A measured process failed. The text is the end of its output."""


@dataclass(frozen=True)
class Usage:
    """The time and memory of a process with all its children.

    `seconds` and `cpu_seconds`: those of the work, if the process reports them. Otherwise they are
    those of the whole process. `process_seconds`: the time of the whole process. `peak_bytes`: the
    greatest sum of resident memory. `report`: all that the process reported. `mysql_seconds` and
    `postgres_seconds`: the processor time of the servers meanwhile.
    """

    seconds: float
    process_seconds: float
    cpu_seconds: float = 0.0
    peak_bytes: int = 0
    report: dict[str, Any] = field(default_factory=dict[str, Any])
    mysql_seconds: float = 0.0
    postgres_seconds: float = 0.0


def watch(
    command: Sequence[str], *, job: object = None, env: Mapping[str, str] | None = None, log: Path
) -> Usage:
    """Run a command to its end and measure it. It gets `job` as JSON in $JOB.

    The last line of its output may be JSON with the `seconds` and `cpu_seconds` of its work,
    without start-up and imports. Raises `Failed`.
    """
    environment = {**os.environ, **(env or {}), "JOB": json.dumps(job)}
    log.parent.mkdir(parents=True, exist_ok=True)
    peak = 0
    started = time.monotonic()
    with log.open("w+") as output:
        process = subprocess.Popen(
            command, env=environment, stdout=output, stderr=subprocess.STDOUT, cwd=log.parent
        )
        finished = threading.Event()

        def sample() -> None:
            nonlocal peak
            while not finished.wait(_SAMPLE_SECONDS):
                peak = max(peak, _resident_bytes(process.pid))
                if time.monotonic() - started > _LIMIT_SECONDS:
                    _kill(process.pid)

        sampler = threading.Thread(target=sample)
        sampler.start()
        try:
            # Unlike `Popen.wait`, this also returns the processor time of the process.
            _, status, resources = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        except BaseException:
            _kill(process.pid)
            raise
        finally:
            finished.set()
            sampler.join()
        elapsed = time.monotonic() - started
        output.seek(0)
        said = output.read()
    if process.returncode:
        raise Failed(f"{last_words(said)} (exit code {process.returncode})")
    last = said.rstrip().rpartition("\n")[2]
    report = json.loads(last) if re.fullmatch(r"\{.*\}", last) else {}
    cpu = report.get("cpu_seconds", resources.ru_utime + resources.ru_stime)
    return Usage(report.get("seconds", elapsed), elapsed, cpu, peak, report)


def _resident_bytes(pid: int) -> int:
    try:
        root = psutil.Process(pid)
        return sum(process.memory_info().rss for process in [root, *root.children(recursive=True)])
    except psutil.NoSuchProcess:
        return 0


def cpu_seconds(root: psutil.Process) -> float:
    """The processor time of a process and its children, even of those that have ended."""
    total = 0.0
    for process in [root, *root.children(recursive=True)]:
        with suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            total += times.user + times.system + times.children_user + times.children_system
    return total


def _kill(pid: int) -> None:
    with suppress(psutil.NoSuchProcess):
        root = psutil.Process(pid)
        for process in [*root.children(recursive=True), root]:
            process.kill()


def last_words(said: str) -> str:
    """The last line that looks like the reason, short enough for a table."""
    lines = [
        line.strip() for line in re.sub(r"\x1b\[[0-9;]*m", "", said).splitlines() if line.strip()
    ]
    for telling in (
        r"^[\w.]*(Error|Exception|error|ERROR|FATAL)\b.*: ",
        r"(?i)error|fatal|exception|fail",
        "",
    ):
        if found := [number for number, line in enumerate(lines) if re.search(telling, line)]:
            return " ".join(lines[found[-1] : found[-1] + 2])[:250].replace("|", "/")
    return "it said nothing"


def python(module: str, name: str) -> list[str]:
    """The command that runs function `name` of a module of ours in a process of its own."""
    return [sys.executable, "-c", f"from benchmarks.{module} import {name}; {name}()"]


def machine() -> str:
    """The machine in one line."""
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    memory = psutil.virtual_memory().total / 2**30
    return (
        f"{CORES} cores ({model[1] if model else platform.machine()}), {memory:.0f} GB, "
        f"{platform.system()}"
    )


def versions(servers: Servers) -> str:
    """The versions of the servers in one line."""
    with (
        servers.mysql.connect() as source,
        psycopg.connect(**connection(servers.postgres)) as target,
    ):
        version = source.get_server_info()  # type: ignore[no-untyped-call]
        return f"{version}, PostgreSQL {target.info.server_version // 10000}"


def connection(postgres: PostgresConnection) -> dict[str, Any]:
    """A PostgreSQL connection as libpq's parameters."""
    return {
        "host": postgres.host,
        "port": postgres.port,
        "user": postgres.user,
        "password": postgres.password,
        "dbname": postgres.database,
    }


def write_result(name: str, lines: Sequence[str], servers: Servers | None = None) -> None:
    """Write and print `results/<name>.md`. It ends with machine, versions, date and command."""
    arguments = " ".join(sys.argv[1:])
    of_servers = f" with {versions(servers)}," if servers else ""
    footer = [
        "",
        f"Measured on {machine()},{of_servers} on {date.today()} by `python -m benchmarks "
        f"{arguments}`.",
        "",
    ]
    text = "\n".join([*lines, *footer])
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.md").write_text(text)
    print(text, flush=True)
