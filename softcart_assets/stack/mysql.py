"""The local MySQL server: a real `mysqld` where there is one, otherwise MariaDB's."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

from softcart_assets.stack.server import USER, SqlServer, find_program


class MySQL(SqlServer):
    """MySQL or MariaDB, with a binary log that change data capture can read."""

    name = "mysql"
    title = "MySQL"
    programs = frozenset({"mysqld", "mariadbd"})
    stop_signal = signal.SIGTERM
    remedy = (
        "Install Debian's packages mariadb-server-core and mariadb-client-core, or put a mysqld "
        "on PATH."
    )
    scheme = "mysql"

    def products(self) -> dict[str, Path]:
        """See `Server`. Debian calls MariaDB's server `mysqld`, too: only its version tells."""
        found: dict[str, Path] = {}
        for program in filter(None, map(find_program, ("mysqld", "mariadbd"))):
            version = subprocess.run(
                [program, "--version"], capture_output=True, text=True, check=True
            ).stdout
            found.setdefault("MariaDB" if "MariaDB" in version else "MySQL", program)
        return dict(sorted(found.items(), reverse=True))  # MySQL before MariaDB

    @property
    def data_argument(self) -> str:
        """See `Server`."""
        return f"--datadir={self.data}"

    def initialise(self, data: Path) -> None:
        """See `Server`. The account comes from `_first_statements` at each start."""
        product, program = self.product
        if product == "MariaDB":
            # A shell script, which takes a path with a space for two. So no argument has a path of
            # ours.
            command = [
                "mariadb-install-db",
                "--no-defaults",
                # Root gets in by a socket file only, and there is none: nobody logs in as root.
                "--auth-root-authentication-method=socket",
                "--skip-test-db",
                "--skip-name-resolve",
                "--force",  # a machine whose own name cannot be looked up will do, too
                f"--datadir=./{data.name}",
            ]
        else:
            # Root gets a random password, which nobody keeps.
            command = [str(program), "--no-defaults", "--initialize", f"--datadir={data}"]
        environment = os.environ | {"TMPDIR": str(self._temporary())}
        self.run([*command, *self._user], cwd=data.parent, env=environment)

    def command(self) -> list[str]:
        """See `Server`."""
        product, program = self.product
        options = [
            # Loopback TCP only. The path of a socket file could be longer than the system allows.
            "--bind-address=127.0.0.1",
            f"--port={self.port}",
            "--socket=",
            "--skip-name-resolve",
            f"--pid-file={self.home / 'server.pid'}",
            f"--tmpdir={self._temporary()}",
            f"--init-file={self._first_statements()}",
            # What change data capture needs: whole rows, with the names of their columns.
            "--server-id=1",
            "--log-bin=binlog",
            "--binlog-row-image=FULL",
            "--binlog-row-metadata=FULL",
            # A captured table can still catch up after a week without a load.
            f"--binlog-expire-logs-seconds={7 * 24 * 3600}",
            # Each commit reaches the operating system, so a killed server loses nothing. Only a
            # crash of the whole machine may lose the last second. In exchange, small commits do not
            # wait for the disk.
            "--innodb-flush-log-at-trx-commit=2",
            "--sync-binlog=0",
            # The default demo stays in memory, and a laptop has memory left for Spark.
            "--innodb-buffer-pool-size=256M",
            "--performance-schema=OFF",
            "--default-time-zone=+00:00",
            "--character-set-server=utf8mb4",
            # The seed data are loaded with LOAD DATA LOCAL.
            "--local-infile=ON",
            "--max-allowed-packet=64M",
        ]
        if product == "MariaDB":
            # MySQL logs rows by default. A redo log that a bulk load does not fill at once.
            options += [
                "--binlog-format=ROW",
                "--gtid-strict-mode=ON",
                "--innodb-log-file-size=512M",
            ]
        else:
            options += [
                "--gtid-mode=ON",
                "--enforce-gtid-consistency=ON",
                "--innodb-redo-log-capacity=512M",
                "--mysqlx=OFF",
                "--secure-file-priv=NULL",
            ]
        return [str(program), "--no-defaults", self.data_argument, *self._user, *options]

    def prepare(self) -> None:
        """See `Server`."""
        from softcart_assets.connections import MySQLConnection

        prefix = next(iter(self.databases))
        server = MySQLConnection(prefix, "127.0.0.1", self.port, USER, self.password, database="")
        with server.connect() as session:
            # Nothing of ours belongs into the log that change data capture reads.
            session.query("SET sql_log_bin = 0")
            for database in self.databases.values():
                session.query(f"CREATE DATABASE IF NOT EXISTS `{database}` CHARACTER SET utf8mb4")

    @property
    def _user(self) -> list[str]:
        """Both servers refuse to run as root unless told so."""
        return ["--user=root"] if os.geteuid() == 0 else []

    def _temporary(self) -> Path:
        """Our own folder for temporary tables: MariaDB deletes everything in it when it starts."""
        folder = self.home / "tmp"
        folder.mkdir(exist_ok=True)
        return folder

    def _first_statements(self) -> Path:
        """A file of statements that the server runs before it listens. They can run again."""
        statements = [
            "SET sql_log_bin = 0",
            f"CREATE USER IF NOT EXISTS {USER}@'%' IDENTIFIED BY '{self.password}'",
            f"GRANT ALL ON *.* TO {USER}@'%' WITH GRANT OPTION",
        ]
        path = self.home / "init.sql"
        path.touch(mode=0o600)
        path.write_text("".join(f"{statement};\n" for statement in statements))
        return path
