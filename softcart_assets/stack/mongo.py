"""The local MongoDB server: a real `mongod` where there is one, otherwise `nx-27017`.

The latter speaks MongoDB's protocol.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from softcart_assets.stack.server import Server, find_program

if TYPE_CHECKING:
    from pymongo import MongoClient

NOT_YET_INITIALIZED = 94
"""MongoDB's error code of a replica set member that has no configuration yet."""


class Mongo(Server):
    """MongoDB as a replica set of one member, without which it has no change streams."""

    name = "mongo"
    title = "MongoDB"
    programs = frozenset({"mongod", "nx-27017"})
    stop_signal = signal.SIGTERM
    remedy = "Put a mongod on PATH, or install the package nx-27017 (`make install` does)."
    address = "URI"

    def products(self) -> dict[str, Path]:
        """See `Server`."""
        candidates = {
            "mongod": find_program("mongod"),
            # A program of this environment, which need not be on PATH.
            "nx-27017": Path(sys.executable).with_name("nx-27017"),
        }
        return {
            name: program for name, program in candidates.items() if program and program.exists()
        }

    @property
    def data_argument(self) -> str:
        """See `Server`."""
        return f"--{'dbpath' if self._is_real else 'data-dir'}={self.data}"

    def initialise(self, data: Path) -> None:
        """See `Server`. Both products fill an empty folder when they start."""
        data.mkdir()

    def command(self) -> list[str]:
        """See `Server`."""
        _, program = self.product
        command = [str(program), self.data_argument, f"--port={self.port}"]
        if self._is_real:
            # A quarter of a gigabyte of cache instead of half the machine's memory.
            options = [
                "--bind_ip=127.0.0.1",
                "--nounixsocket",
                "--replSet=softcart",
                "--wiredTigerCacheSizeGB=0.25",
            ]
        else:
            # By default all servers share one process id file in /tmp. A stale file keeps the
            # server from starting.
            pid_file = self.home / "server.pid"
            pid_file.unlink(missing_ok=True)
            options = ["--host=127.0.0.1", f"--pid-file={pid_file}"]
        return [*command, *options]

    def prepare(self) -> None:
        """See `Server`. MongoDB makes a database when something is written into it.

        Makes a real MongoDB the primary of its replica set, if it is not yet.
        """
        from softcart_assets.connections import MongoConnection

        prefix, database = next(iter(self.databases.items()))
        with MongoConnection(prefix, self._uri, database).connect() as client:
            if self._is_real:
                self._become_primary(client)

    def url(self, prefix: str) -> str:
        """See `Server`."""
        return f"mongodb://127.0.0.1:{self.port}/{self.databases[prefix]}?directConnection=true"

    def environment(self, prefix: str) -> dict[str, str]:
        """See `Server`."""
        return {f"{prefix}_URI": self._uri, f"{prefix}_DATABASE": self.databases[prefix]}

    @property
    def _is_real(self) -> bool:
        return self.product[0] == "mongod"

    @property
    def _uri(self) -> str:
        # Directly, because a client would otherwise use the address in the configuration of the
        # replica set. After a change of the port, that one is old.
        return f"mongodb://127.0.0.1:{self.port}/?directConnection=true"

    def _become_primary(self, client: MongoClient[dict[str, Any]]) -> None:
        """Configure the replica set, and again after a change of the port, which is part of it."""
        from pymongo.errors import OperationFailure

        from softcart_assets.connections import ServerUnreachable

        members = [{"_id": 0, "host": f"127.0.0.1:{self.port}"}]
        try:
            config = client.admin.command("replSetGetConfig")["config"]
        except OperationFailure as error:
            if error.code != NOT_YET_INITIALIZED:
                raise
            client.admin.command("replSetInitiate", {"_id": "softcart", "members": members})
        else:
            if config["members"][0]["host"] != members[0]["host"]:
                # By force: without a member that it can reach, the set has no primary that could
                # change it.
                config |= {"members": members, "version": config["version"] + 1}
                client.admin.command("replSetReconfig", config, force=True)
        if not client.admin.command("hello")["isWritablePrimary"]:
            raise ServerUnreachable("It is not the primary of its replica set yet.")
