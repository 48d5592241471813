"""The local DynamoDB server: ministack, run by `dynamodb_server`."""

from __future__ import annotations

import os
import signal
import sys
from importlib.util import find_spec
from pathlib import Path

from softcart_assets.stack.server import USER, Server

REGION = "eu-central-1"
"""The region that its tables are in, as far as anybody asks."""


class DynamoDB(Server):
    """A server of DynamoDB's protocol, for whoever has no account at Amazon.

    It asks for no password: whoever may use this machine may use it. Each source has tables of its
    own, whose names begin with the source's.
    """

    name = "dynamodb"
    title = "DynamoDB"
    # A program of Python, whose own name depends on who starts it.
    programs = frozenset({"python", "python3", os.path.basename(os.path.realpath(sys.executable))})
    stop_signal = signal.SIGTERM
    remedy = "Install the package ministack (`make install` does)."
    address = "REGION"

    def products(self) -> dict[str, Path]:
        """See `Server`."""
        return {"ministack": Path(sys.executable)} if find_spec("ministack") else {}

    @property
    def data_argument(self) -> str:
        """See `Server`."""
        return f"--data={self.data}"

    def initialise(self, data: Path) -> None:
        """See `Server`. An empty folder is filled when the server ends."""
        data.mkdir(mode=0o700)

    def command(self) -> list[str]:
        """See `Server`."""
        return [
            str(self.product[1]),
            # Isolated from the user's Python settings.
            "-I",
            str(Path(__file__).with_name("dynamodb_server.py")),
            self.data_argument,
            f"--port={self.port}",
            f"--region={REGION}",
        ]

    def prepare(self) -> None:
        """See `Server`. There are no databases, only tables."""
        from botocore.exceptions import BotoCoreError, ClientError

        from softcart_assets.connections import DynamoConnection, ServerUnreachable

        prefix = next(iter(self.databases))
        connection = DynamoConnection(prefix, REGION, self._endpoint, USER, self.password)
        try:
            connection.client().list_tables(Limit=1)
        except (BotoCoreError, ClientError) as error:
            raise ServerUnreachable(f"{type(error).__name__}: {error}") from None

    def url(self, prefix: str) -> str:
        """See `Server`."""
        return self._endpoint

    def environment(self, prefix: str) -> dict[str, str]:
        """See `Server`."""
        return {
            f"{prefix}_REGION": REGION,
            f"{prefix}_ENDPOINT": self._endpoint,
            f"{prefix}_ACCESS_KEY_ID": USER,
            f"{prefix}_SECRET_ACCESS_KEY": self.password,
            f"{prefix}_TABLE_PREFIX": f"{self.databases[prefix]}.",
        }

    @property
    def _endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"
