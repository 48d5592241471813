"""The base class of all local servers: a directory, a port, start and stop.

Each product has a subclass in a module next to this one. The subclass knows how to make a data
directory, how to start the server, and how to check that it answers.

No process id is stored. We look for a process of the right name with our data directory in its
command line. That works after a crash, a reboot or the loss of a file. It never finds a process
of somebody else.
"""

from __future__ import annotations

import os
import random
import shutil
import socket
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import psutil

START_SECONDS = 60
STOP_SECONDS = 30
LOG_LINES = 15

USER = "softcart"
"""The user that every local server has for us."""


class StackError(RuntimeError):
    """A local server cannot be started. The message says why and what helps."""


def port_is_free(port: int) -> bool:
    """Whether a server could listen on this loopback port now."""
    with socket.socket() as probe:
        # The servers set this option too. Otherwise the closing connections of a stopped server
        # (TIME_WAIT) would make its port look taken for a while.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def address_of(host: str, port: int) -> str:
    """Where a browser of this machine finds a server that listens there."""
    shown = "127.0.0.1" if host in ("0.0.0.0", "::") else host
    return f"http://{f'[{shown}]' if ':' in shown else shown}:{port}"


def ports_are_free(port: int, count: int) -> bool:
    """Whether a server could listen on so many loopback ports in a row now."""
    return all(port_is_free(each) for each in range(port, port + count))


def free_port(count: int = 1) -> int:
    """A free loopback port, chosen at random below the range of outgoing connections on Linux.

    `count`: it is the first of so many free ones in a row.

    The connection of any program may take a port of that range while our server is down. The choice
    is random, so that two stacks that start at the same moment do not choose the same port.
    """
    while not ports_are_free(port := random.randrange(20_000, 32_769 - count), count):
        pass
    return port


def find_program(name: str) -> Path | None:
    """The program on PATH, or in a folder of system programs. Most users' PATH lacks these."""
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin"])
    return Path(found) if (found := shutil.which(name, path=path)) else None


def is_alive(process: psutil.Process) -> bool:
    """Whether the process still works. A zombie does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def alive_after(processes: Sequence[psutil.Process], seconds: float) -> list[psutil.Process]:
    """Wait up to `seconds` until all processes have ended. Returns those that have not."""
    deadline = time.monotonic() + seconds
    while (alive := list(filter(is_alive, processes))) and time.monotonic() < deadline:
        time.sleep(0.02)
    return alive


class Server(ABC):
    """One local server in `home/<name>`.

    `port`: the port that it listens on, now or after its start. `databases`: prefix of the
    environment variables → database, for each database of the server.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    programs: ClassVar[frozenset[str]]
    """The possible names of the server's process."""
    stop_signal: ClassVar[int]
    remedy: ClassVar[str]
    """What to do when no product is installed."""
    port_argument: ClassVar[str] = "--port="
    """What stands before the port on the command line."""
    ports: ClassVar[int] = 1
    """How many ports in a row it listens on."""
    start_seconds: ClassVar[int] = START_SECONDS
    """How long its start may take."""
    address: ClassVar[str]
    """The setting by which users name a server of their own: `<prefix>_HOST`, for example."""

    def __init__(self, home: Path, port: int, password: str, databases: Mapping[str, str]) -> None:
        self.databases = dict(databases)
        self.home = home / self.name
        self.data = self.home / "data"
        self.log = self.home / "server.log"
        self.password = password
        running = self.process()
        self.port = self._port_of(running) if running else port

    @property
    @abstractmethod
    def data_argument(self) -> str:
        """The command line argument that names the data directory. It identifies the process."""

    @abstractmethod
    def products(self) -> dict[str, Path]:
        """The installed products that can be this server, the preferred first: name → program."""

    @cached_property
    def product(self) -> tuple[str, Path]:
        """The product in use and its program.

        It is the product that made the data directory, because another one could not read it.
        Without a data directory, it is the preferred product.
        """
        products = self.products()
        made_by = (
            self._product_file.read_text()
            if self._product_file.exists()
            else next(iter(products), None)
        )
        if made_by is None:
            names = " and ".join(f"{prefix}_{self.address}" for prefix in self.databases)
            raise StackError(
                f"There is no {self.title} server here. {self.remedy} "
                f"Or name servers of your own with {names}."
            )
        if made_by not in products:
            raise StackError(
                f"The data in {self.data} were made by {made_by}, which is not installed any more. "
                f"Install it again. Or remove {self.home} to start with empty data."
            )
        return made_by, products[made_by]

    @abstractmethod
    def initialise(self, data: Path) -> None:
        """Make a new data directory."""

    @abstractmethod
    def command(self) -> list[str]:
        """The command line, with `data_argument` and the port after `port_argument`."""

    @abstractmethod
    def prepare(self) -> None:
        """Make the databases that are missing. Raises `connections.ServerUnreachable` if the
        server cannot be used (yet).

        Import client libraries inside: they take 0.4 s, too long to find out that all servers run.
        """

    @abstractmethod
    def url(self, prefix: str) -> str:
        """The URL of the database of that prefix, without the password."""

    @abstractmethod
    def environment(self, prefix: str) -> dict[str, str]:
        """The environment variables that name this server's database of that prefix."""

    def process(self) -> psutil.Process | None:
        """The running server process, or None."""
        for process in psutil.process_iter(["name", "cmdline"]):
            if process.info["name"] in self.programs and self.data_argument in (
                process.info["cmdline"] or ()
            ):
                return process
        return None

    def up(self) -> None:
        """Start the server unless it runs, and wait until it can be used. Raises `StackError`."""
        # Several attempts, because another program may take the port between our check and the
        # start of the server.
        if (process := self.process()) and self._has_lost_its_home(process):
            self.down()
        for last_attempt in (False, False, True):
            process = self.process()
            if process and self._is_ready(process):
                return
            if self._becomes_ready(process or self._start(), raise_when_dead=last_attempt):
                return
            time.sleep(1)

    def down(self) -> bool:
        """Stop the server, after `STOP_SECONDS` by force. Returns whether it ran."""
        process = self.process()
        if not process:
            return False
        # It may end by itself at any moment.
        with suppress(psutil.NoSuchProcess):
            process.send_signal(self.stop_signal)
            if alive_after([process], STOP_SECONDS):
                process.kill()
                alive_after([process], STOP_SECONDS)
        return True

    def _has_lost_its_home(self, process: psutil.Process) -> bool:
        """Whether our folder is not the one that the process works in.

        Somebody has removed or moved that one under the running server. Its data are gone with it.
        """
        work = f"/proc/{process.pid}/cwd"
        try:
            return not any(
                folder.exists() and os.path.samefile(work, folder)
                for folder in (self.home, self.data)
            )
        except OSError:  # a container may forbid to look at another user's process
            return not self.data.exists()

    def run(
        self,
        command: list[str],
        *,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        input: str | None = None,
    ) -> None:
        """Run a preparatory command. Raises `StackError` with the end of its output if it fails."""
        done = subprocess.run(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            cwd=cwd,
            env=env,
            input=input,
        )
        if done.returncode:
            raise StackError(
                f"{self.title}: `{' '.join(command)}` failed:\n"
                + "\n".join(done.stdout.splitlines()[-LOG_LINES:])
            )

    def _start(self) -> psutil.Process:
        """Start the process. First make a missing data directory, and change a taken port."""
        self.home.mkdir(parents=True, exist_ok=True)
        if not self.data.exists():
            # Under another name until it is complete. A kill could leave a part of it.
            unfinished = self.home / "data.unfinished"
            shutil.rmtree(unfinished, ignore_errors=True)
            self.initialise(unfinished)
            self._product_file.write_text(self.product[0])
            unfinished.rename(self.data)
        if not ports_are_free(self.port, self.ports):
            self.port = free_port(self.ports)
        if self.log.exists():
            self.log.replace(self.log.with_suffix(".previous.log"))
        with self.log.open("wb") as log:
            # A session of its own: neither Ctrl-C nor the end of the terminal reaches the server.
            started = psutil.Popen(
                self.command(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                cwd=self.home,
            )
        return started

    def _becomes_ready(self, process: psutil.Process, *, raise_when_dead: bool) -> bool:
        """Wait until the server can be used. False if it died instead."""
        from softcart_assets.connections import ServerUnreachable  # see `prepare`

        deadline = time.monotonic() + self.start_seconds
        while True:
            reason = f"nothing listens on port {self.port}."
            try:
                if self._listens(process):
                    self.prepare()
                    self._ready_file.write_text(self._identity(process))
                    return True
            except ServerUnreachable as error:
                reason = str(error)
            if not is_alive(process):
                if not raise_when_dead:
                    return False
                reason = "it ended at once."
                break
            if time.monotonic() > deadline:
                reason = f"it does not answer after {self.start_seconds} s. {reason}"
                break
            time.sleep(0.05)
        lines = (
            self.log.read_text(errors="replace").splitlines()[-LOG_LINES:]
            if self.log.exists()
            else []
        )
        raise StackError(
            "\n".join([f"{self.title} did not start: {reason}", f"The end of {self.log}:", *lines])
        )

    def _is_ready(self, process: psutil.Process) -> bool:
        """Whether this process was seen to have all databases and still listens.

        Needs no client library.
        """
        if not self._ready_file.exists() or self._ready_file.read_text() != self._identity(process):
            return False
        return self._listens(process)

    def _listens(self, process: psutil.Process) -> bool:
        """Whether this very process listens on our port. Another program may have been faster."""
        try:
            connections = process.net_connections("tcp")
        except psutil.NoSuchProcess:
            return False
        except psutil.AccessDenied:
            # In a container, the server may run as another user. Then somebody listens, and only
            # the login shows that it is our server.
            return not port_is_free(self.port)
        return any(
            c.status == psutil.CONN_LISTEN and c.laddr.port == self.port for c in connections
        )

    @property
    def _product_file(self) -> Path:
        return self.home / "product"

    @property
    def _ready_file(self) -> Path:
        return self.home / "ready"

    def _identity(self, process: psutil.Process) -> str:
        """The process and its databases. After one more is declared, the server is not ready."""
        return f"{process.pid} {process.create_time()} {' '.join(sorted(self.databases.values()))}"

    def _port_of(self, process: psutil.Process) -> int:
        before = self.port_argument
        (port,) = (argument for argument in process.cmdline() if argument.startswith(before))
        return int(port.removeprefix(before))


class SqlServer(Server):
    """A server whose databases have users and tables, reached by host and port."""

    scheme: ClassVar[str]
    """The beginning of its URLs."""
    address = "HOST"

    def url(self, prefix: str) -> str:
        """See `Server`."""
        return f"{self.scheme}://{USER}@127.0.0.1:{self.port}/{self.databases[prefix]}"

    def environment(self, prefix: str) -> dict[str, str]:
        """See `Server`."""
        return {
            f"{prefix}_HOST": "127.0.0.1",
            f"{prefix}_PORT": str(self.port),
            f"{prefix}_USER": USER,
            f"{prefix}_PASSWORD": self.password,
            f"{prefix}_DATABASE": self.databases[prefix],
        }
