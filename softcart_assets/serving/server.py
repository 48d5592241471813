"""Runs the application: gunicorn with a few processes, and threads for pages that stay open."""

from __future__ import annotations

import logging
import re
import secrets
import sys
from collections.abc import Callable
from typing import Any

from gunicorn.app.base import BaseApplication
from gunicorn.glogging import Logger

from softcart_assets.connections import PostgresConnection, setting
from softcart_assets.serving.app import HERE, LOG, create_app
from softcart_assets.serving.asking import Asking, ready
from softcart_assets.serving.desk import Desk
from softcart_assets.serving.limits import Limits
from softcart_assets.stack.server import StackError, port_is_free

THREADS = 64
"""Of a process. Each page that stays open has one."""

HOSTS = "SOFTCART_CALL_CENTRE_HOSTS"
"""The setting with the names by which people reach the proxy before the server."""

_DIGITS = re.compile(r"(urn:uuid:[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})|\d{6,}")


class _Masked(logging.Formatter):
    """Hides what may be a phone number, whoever has written the message, tracebacks included.
    What names an error stays.
    """

    def format(self, record: logging.LogRecord) -> str:
        return _DIGITS.sub(lambda found: found[1] or "…", super().format(record))


class MaskedLogger(Logger):  # type: ignore[misc]
    """Gunicorn's logger. Of a request that it cannot read, it would tell the address."""

    def setup(self, cfg: Any) -> None:
        """See `Logger`."""
        super().setup(cfg)
        for handler in self.error_log.handlers:
            handler.setFormatter(_Masked(self.error_fmt, self.datefmt))


class _Server(BaseApplication):  # type: ignore[misc]
    def __init__(self, settings: dict[str, Any], make: Callable[[], Any]) -> None:
        self._settings, self._make = settings, make
        super().__init__()

    def load_config(self) -> None:
        for name, value in self._settings.items():
            self.cfg.set(name, value)

    def load(self) -> Any:
        return self._make()


def serve(desk: Desk, staging: PostgresConnection, host: str, port: int, workers: int) -> None:
    """Serve until a signal.

    Raises `StackError` if the port is taken or the address is not this machine's, and
    `ServerUnreachable`.
    """
    if host not in HERE:
        raise StackError(
            f"The call centre listens on this machine only ({' or '.join(HERE)}): tokens must not "
            "cross a network in plain text. Put a proxy with TLS before it, and its name in "
            f"{HOSTS}."
        )
    if not port_is_free(port):
        raise StackError(f"Port {port} is taken. Choose another with --port.")
    ready(staging, desk)
    # All processes inherit both: a session of one is good for the others, and they count together.
    limits, secret = Limits(), secrets.token_bytes(32)
    hosts = setting(HOSTS, "").replace(",", " ").split()
    _log()
    settings = {
        "bind": f"{host}:{port}",
        "workers": workers,
        "worker_class": "gthread",
        "threads": THREADS,
        "keepalive": 30,
        "timeout": 60,
        # Pages that stay open must not keep the server from ending.
        "graceful_timeout": 1,
        "logger_class": MaskedLogger,
        "accesslog": None,
        "loglevel": "warning",
        "proc_name": "softcart call-centre",
        # By it, any process of this user could stop the server or read its settings.
        "control_socket_disable": True,
    }
    _Server(settings, lambda: create_app(Asking(staging, desk), limits, secret, hosts)).run()


def _log() -> None:
    """Requests go to standard output: time, method, rule, status, milliseconds, token. All else
    goes to standard error.
    """
    for log, stream, form in (
        (LOG, sys.stdout, "%(asctime)s %(message)s"),
        (logging.getLogger(), sys.stderr, "%(asctime)s %(levelname)s %(message)s"),
    ):
        handler = logging.StreamHandler(stream)
        handler.setFormatter(_Masked(form))
        log.addHandler(handler)
    LOG.setLevel(logging.INFO)
    LOG.propagate = False
