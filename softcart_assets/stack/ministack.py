"""What the local servers of Amazon's protocols have in common: ministack, by `ministack_server`."""

from __future__ import annotations

import os
import signal
import sys
from importlib.util import find_spec
from pathlib import Path

from softcart_assets.stack.server import Server

REGION = "eu-central-1"
"""The region that they are in, as far as anybody asks."""


class Ministack(Server):
    """A server of one service of Amazon's, for whoever has no account there.

    `name` is that of the service.
    """

    # A program of Python, whose own name depends on who starts it.
    programs = frozenset({"python", "python3", os.path.basename(os.path.realpath(sys.executable))})
    stop_signal = signal.SIGTERM
    remedy = "Install the package ministack (`make install` does)."
    address = "REGION"
    key = ""
    """The only access key that the server takes, empty: any."""

    def products(self) -> dict[str, Path]:
        """See `Server`."""
        return {"ministack": Path(sys.executable)} if find_spec("ministack") else {}

    @property
    def data_argument(self) -> str:
        """See `Server`."""
        return f"--data={self.data}"

    def initialise(self, data: Path) -> None:
        """See `Server`. The server fills the empty folder."""
        data.mkdir(mode=0o700)

    def command(self) -> list[str]:
        """See `Server`."""
        return [
            str(self.product[1]),
            # Isolated from the user's Python settings.
            "-I",
            str(Path(__file__).with_name("ministack_server.py")),
            self.data_argument,
            f"--port={self.port}",
            f"--region={REGION}",
            f"--service={self.name}",
            f"--key={self.key}",
        ]

    def url(self, prefix: str) -> str:
        """See `Server`."""
        return f"http://127.0.0.1:{self.port}"
