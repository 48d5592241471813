"""MySQL servers of a test's own, with options of their own."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from support.mysql97 import RealMySQL, Unavailable

from softcart_assets.connections import MySQLConnection
from softcart_assets.stack.mysql import MySQL
from softcart_assets.stack.server import STOP_SECONDS, USER, alive_after, free_port

PRODUCTS = (MySQL, RealMySQL)
"""MariaDB, and real MySQL. Parametrise tests with them."""


class Optioned:
    """A server with further options, in front of its product. `restart` gives it others."""

    options: tuple[str, ...] = ()

    def command(self) -> list[str]:
        """See `Server`. The last of two options counts."""
        return [*super().command(), *self.options]  # type: ignore[misc]

    def run(self, command: list[str], **how: Any) -> None:
        """See `Server`."""
        # MySQL wants to know this one when it makes its data folder.
        early = [o for o in self.options if "lower-case" in o and "--initialize" in command]
        super().run([*command, *early], **how)  # type: ignore[misc]

    def initialise(self, data: Path) -> None:
        """See `Server`. The first server of its kind makes its data, and the others copy them."""
        early = [option for option in self.options if "lower-case" in option]
        kind = "-".join([self.product[0], *early]).replace("=", "-")  # type: ignore[attr-defined]
        made = self.home.parents[1] / f"{kind}.data"  # type: ignore[attr-defined]
        if not made.exists():
            super().initialise(made)  # type: ignore[misc]
            # Two servers of one name could not replicate from each other.
            (made / "auto.cnf").unlink(missing_ok=True)
        shutil.copytree(made, data)

    def restart(self, *options: str) -> None:
        """Start the server again, with these options only."""
        self.down()  # type: ignore[attr-defined]
        self.options = options
        self.up()  # type: ignore[attr-defined]

    def connection(self, database: str = "shop", **others: str) -> MySQLConnection:
        """The way in. `others`: another user and password."""
        user, password = others.get("user", USER), others.get("password", self.password)  # type: ignore[attr-defined]
        return MySQLConnection(
            "SOFTCART_SHOP",
            "127.0.0.1",
            self.port,  # type: ignore[attr-defined]
            user,
            password,
            database,
        )


@contextmanager
def own_server(product: type[MySQL], home: Path, *options: str) -> Iterator[Any]:
    """A running server with an empty database `shop`. Skips the test if there is none here."""
    kind = type(product.__name__, (Optioned, product), {"options": options})
    databases = {"SOFTCART_SHOP": "shop"}
    folder = home / secrets.token_hex(4)
    server = kind(folder, free_port(), secrets.token_urlsafe(12), databases)
    try:
        server.products()
    except Unavailable as reason:
        pytest.skip(str(reason))
    server.up()
    try:
        yield server
    finally:
        # Nobody reads its data any more, so it need not end in order.
        if process := server.process():
            process.kill()
            alive_after([process], STOP_SECONDS)
        shutil.rmtree(folder)
