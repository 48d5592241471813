"""Runs the call centre."""

from __future__ import annotations

import secrets

from softcart_assets.connections import PostgresConnection
from softcart_assets.serving.app import create_app
from softcart_assets.serving.asking import Asking, ready
from softcart_assets.serving.desk import Desk
from softcart_assets.web import gunicorn
from softcart_assets.web.limits import Limits

THREADS = 64
"""Of a process. Each page that stays open has one."""

HOSTS = "SOFTCART_CALL_CENTRE_HOSTS"
"""The setting with the names by which people reach the proxy before the server."""


def serve(desk: Desk, staging: PostgresConnection, host: str, port: int, workers: int) -> None:
    """Serve until a signal.

    Raises `StackError` if the port is taken or the address is not this machine's, and
    `ServerUnreachable`.
    """
    gunicorn.check_address(host, port, HOSTS)
    ready(staging, desk)
    # All processes inherit both: a session of one is good for the others, and they count together.
    limits, secret = Limits(), secrets.token_bytes(32)
    hosts = gunicorn.public_hosts(HOSTS)
    gunicorn.serve(
        lambda: create_app(Asking(staging, desk), limits, secret, hosts),
        "call-centre",
        host,
        port,
        workers=workers,
        threads=THREADS,
    )
