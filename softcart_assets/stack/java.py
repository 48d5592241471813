"""What the local servers on Java share: the program, its options, and the jars that Maven brings.

What one product alone needs is in its own module.
"""

from __future__ import annotations

import json
import os
import signal
import urllib.request
from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from threading import Lock
from typing import Any, ClassVar

import psutil

from softcart_assets import jars
from softcart_assets.stack.server import Server, StackError, find_program

HOST = "127.0.0.1"
_ANSWER_SECONDS = 10


class JavaServer(Server):
    """A server that Java runs. `product_name`: what it is, with its version."""

    programs = frozenset({"java"})
    stop_signal = signal.SIGTERM
    product_name: ClassVar[str]
    megabytes: ClassVar[int] = 256

    def products(self) -> dict[str, Path]:
        """See `Server`."""
        home = os.environ.get("JAVA_HOME")
        java = Path(home, "bin", "java") if home else find_program("java")
        return {self.product_name: java} if java else {}

    @property
    def data_argument(self) -> str:
        """See `Server`."""
        return f"-Dsoftcart.data={self.data}"

    @property
    def options(self) -> list[str]:
        """Options of Java for a server that works little. It is small, and starts quickly."""
        return [
            *(f"-Xmx{self.megabytes}m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"),
            "-Djava.net.preferIPv4Stack=true",
        ]


class LaterServer(JavaServer):
    """A server that may need others, which it starts. It is started again with their new ports."""

    port_argument = "-Dsoftcart.port="

    def __init__(self, home: Path, port: int, password: str, databases: Mapping[str, str]) -> None:
        super().__init__(home, port, password, databases)
        self._one_at_a_time = Lock()

    @property
    @abstractmethod
    def before(self) -> tuple[LaterServer, ...]:
        """The servers that have to run before this one."""

    @property
    def others(self) -> str:
        """The argument on the command line that names their ports."""
        return f"-Dsoftcart.others={','.join(str(server.port) for server in self.before)}"

    def up(self) -> None:
        """See `Server`. Starts what has to run before, too."""
        with self._one_at_a_time:
            for server in self.before:
                server.up()
            # It looks for the others where they were when it started.
            if (process := self.process()) and self.others not in process.cmdline():
                self.down()
            super().up()

    def _identity(self, process: psutil.Process) -> str:
        """See `Server`. It is not ready any more when one of the others was started again."""
        others = [started.pid for each in self.before if (started := each.process())]
        return f"{super()._identity(process)} {others}"

    def ask(self, port: int, path: str) -> Any:
        """The answer of a server at one of its addresses for programs.

        Raises `ServerUnreachable` if there is none.
        """
        from softcart_assets.connections import ServerUnreachable

        address = f"http://{HOST}:{port}/{path}"
        try:
            with urllib.request.urlopen(address, timeout=_ANSWER_SECONDS) as answer:
                return json.load(answer)
        except (OSError, ValueError) as error:
            raise ServerUnreachable(f"{address}: {error}") from None


def libraries(name: str) -> Path:
    """The folder of a set of jars, fetched when it is needed first. Raises `StackError`."""
    try:
        return jars.fetch(name)
    except jars.JarsError as error:
        raise StackError(str(error)) from None


def replace_file(file: Path, text: str) -> None:
    """Write a file in one step, because another program may be reading it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    new = file.with_suffix(f".{os.getpid()}.{id(file)}")
    new.write_text(text)
    new.replace(file)
