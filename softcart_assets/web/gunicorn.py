"""Runs an application: gunicorn with a few processes, and threads."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Callable, Sequence
from typing import Any

from gunicorn.app.base import BaseApplication
from gunicorn.glogging import Logger

from softcart_assets.connections import setting
from softcart_assets.stack.server import StackError, port_is_free
from softcart_assets.web.app import HERE, LOG

_DIGITS = re.compile(r"(urn:uuid:[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})|\d{6,}")


class Masked(logging.Formatter):
    """Hides what may be a phone number, whoever has written the message, tracebacks included.
    What names an error stays.
    """

    def format(self, record: logging.LogRecord) -> str:
        """See `Formatter`."""
        return _DIGITS.sub(lambda found: found[1] or "…", super().format(record))


class MaskedLogger(Logger):  # type: ignore[misc]
    """Gunicorn's logger. Of a request that it cannot read, it would tell the address."""

    def setup(self, cfg: Any) -> None:
        """See `Logger`."""
        super().setup(cfg)
        for handler in self.error_log.handlers:
            handler.setFormatter(Masked(self.error_fmt, self.datefmt))


class _Server(BaseApplication):  # type: ignore[misc]
    def __init__(self, settings: dict[str, Any], make: Callable[[], Any]) -> None:
        self._settings, self._make = settings, make
        super().__init__()

    def load_config(self) -> None:
        for name, value in self._settings.items():
            self.cfg.set(name, value)

    def load(self) -> Any:
        return self._make()


def check_address(host: str, port: int, hosts_setting: str) -> None:
    """Raises `StackError` if the port is taken or the address is not this machine's.

    `hosts_setting`: the setting with the names by which people reach the proxy before the server.
    """
    if host not in HERE:
        raise StackError(
            f"It listens on this machine only ({' or '.join(HERE)}): secrets must not cross a "
            "network in plain text. Put a proxy with TLS before it, and tell its name by "
            f"{hosts_setting}."
        )
    if not port_is_free(port):
        raise StackError(f"Port {port} is taken. Choose another with --port.")


def public_hosts(hosts_setting: str) -> Sequence[str]:
    """The names in a setting, between commas or spaces."""
    return setting(hosts_setting, "").replace(",", " ").split()


def serve(
    make: Callable[[], Any], name: str, host: str, port: int, *, workers: int, threads: int
) -> None:
    """Serve until a signal. `make`: makes the application of a process."""
    _log()
    settings = {
        "bind": f"{host}:{port}",
        "workers": workers,
        "worker_class": "gthread",
        "threads": threads,
        "keepalive": 30,
        "timeout": 60,
        # Pages that stay open must not keep the server from ending.
        "graceful_timeout": 1,
        "logger_class": MaskedLogger,
        "accesslog": None,
        "loglevel": "warning",
        "proc_name": f"softcart {name}",
        # By it, any process of this user could stop the server or read its settings.
        "control_socket_disable": True,
    }
    _Server(settings, make).run()


def _log() -> None:
    """Requests go to standard output: time, method, rule, status, milliseconds, token. All else
    goes to standard error.
    """
    for log, stream, form in (
        (LOG, sys.stdout, "%(asctime)s %(message)s"),
        (logging.getLogger(), sys.stderr, "%(asctime)s %(levelname)s %(message)s"),
    ):
        handler = logging.StreamHandler(stream)
        handler.setFormatter(Masked(form))
        log.addHandler(handler)
    # No line tells these, and each request would ask the system for them.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    LOG.setLevel(logging.INFO)
    LOG.propagate = False
