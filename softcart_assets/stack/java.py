"""What the local servers on Java share: the program, its options, and the jars that Maven brings.

What one product alone needs is in its own module.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import ClassVar

from softcart_assets import jars
from softcart_assets.stack.server import Server, StackError, find_program


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


def libraries(name: str) -> Path:
    """The folder of a set of jars, fetched when it is needed first. Raises `StackError`."""
    try:
        return jars.fetch(name)
    except jars.JarsError as error:
        raise StackError(str(error)) from None
