"""The local MongoDB server: a real `mongod` where there is one, otherwise SecantusDB.

SecantusDB speaks MongoDB's protocol. Its licence is GPL-2.0, so it runs as a program of its own and
nothing of ours imports it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from softcart_assets.stack.server import (
    START_SECONDS,
    STOP_SECONDS,
    USER,
    Server,
    StackError,
    find_program,
    free_port,
)

if TYPE_CHECKING:
    from pymongo import MongoClient


NOT_FOR_ANYBODY = 13
"""MongoDB's error code of a command that needs a login."""
ALREADY_INITIALIZED = 23
"""MongoDB's error code of a replica set that has its configuration."""


class Mongo(Server):
    """MongoDB as a replica set of one member, without which it has no change streams."""

    name = "mongo"
    title = "MongoDB"
    # SecantusDB is a program of Python, whose own name depends on who starts it.
    programs = frozenset(
        {"mongod", "python", "python3", os.path.basename(os.path.realpath(sys.executable))}
    )
    stop_signal = signal.SIGTERM
    remedy = "Put a mongod on PATH, or install the package secantusdb (`make install` does)."
    address = "URI"

    def products(self) -> dict[str, Path]:
        """See `Server`."""
        mongod = find_program("mongod")
        found = {"mongod": mongod} if mongod else {}
        if find_spec("secantus"):
            found["SecantusDB"] = Path(sys.executable)
        return found

    @property
    def data_argument(self) -> str:
        """See `Server`."""
        return f"--{'dbpath' if self._is_real else 'storage-path'}={self.data}"

    def initialise(self, data: Path) -> None:
        """See `Server`. Both products fill an empty folder when they start."""
        data.mkdir(mode=0o700)
        if not self._is_real:
            self._make_user_of_secantus(data)

    def command(self) -> list[str]:
        """See `Server`."""
        if not self._is_real:
            return [*self._secantus(self.data_argument, self.port), "--auth"]
        # A replica set whose users need a password wants a key for its members, too.
        key = self.home / "key"
        key.unlink(missing_ok=True)
        key.touch(mode=0o600)
        key.write_text(self.password.encode().hex())  # "-" and "_" are refused in a key
        return [
            str(self.product[1]),
            self.data_argument,
            f"--port={self.port}",
            "--bind_ip=127.0.0.1",
            "--nounixsocket",
            "--replSet=softcart",
            f"--keyFile={key}",
            # A quarter of a gigabyte of cache instead of half the machine's memory.
            "--wiredTigerCacheSizeGB=0.25",
        ]

    def prepare(self) -> None:
        """See `Server`. MongoDB makes a database when something is written into it.

        Makes our user of a real MongoDB, and makes it the primary of its replica set.
        """
        from softcart_assets.connections import MongoConnection

        prefix, database = next(iter(self.databases.items()))
        if self._is_real:
            with MongoConnection(prefix, self._uri(), database).connect() as anybody:
                self._make_user_of_mongod(anybody)
        with MongoConnection(prefix, self._uri(self._login), database).connect() as client:
            if self._is_real:
                self._become_primary(client)
            # SecantusDB asked for no password while it made our user. At our first visit, a second
            # user is somebody's who came in then.
            elif (
                not self._ready_file.exists()
                and client.admin["system.users"].count_documents({}) > 1
            ):
                raise StackError(
                    f"While the data in {self.data} were made, somebody on this machine made a "
                    f"user there. Remove {self.home} and start again."
                )

    def url(self, prefix: str) -> str:
        """See `Server`."""
        database = self.databases[prefix]
        options = "authSource=admin&directConnection=true"
        return f"mongodb://{USER}@127.0.0.1:{self.port}/{database}?{options}"

    def environment(self, prefix: str) -> dict[str, str]:
        """See `Server`."""
        return {
            f"{prefix}_URI": self._uri(self._login),
            f"{prefix}_DATABASE": self.databases[prefix],
        }

    @property
    def _is_real(self) -> bool:
        return self.product[0] == "mongod"

    @property
    def _login(self) -> str:
        return f"{USER}:{self.password}@"

    def _uri(self, login: str = "", port: int | None = None) -> str:
        # Directly, because a client would otherwise use the address in the configuration of the
        # replica set. After a change of the port, that one is old.
        return f"mongodb://{login}127.0.0.1:{port or self.port}/?directConnection=true"

    def _secantus(self, data_argument: str, port: int) -> list[str]:
        # A file of our own, even if empty. Otherwise it would read one in the user's home.
        settings = self.home / "secantusd.toml"
        settings.touch()
        return [
            str(self.product[1]),
            # Not its script in .venv/bin, which dies when the clone moves. And isolated from the
            # user's Python settings.
            *("-I", "-m", "secantus"),
            f"--config={settings}",
            data_argument,
            "--host=127.0.0.1",
            f"--port={port}",
            "--cache-size=256M",
            # As MongoDB does by default for a replica set: what it has confirmed survives kill -9.
            "--sync-on-commit",
            # A followed collection can still catch up after a week without a load.
            f"--oplog-retention-seconds={7 * 24 * 3600}",
            "--oplog-max-entries=1000000",
        ]

    def _make_user_of_secantus(self, data: Path) -> None:
        """Start SecantusDB once without passwords. Its first user can be made no other way."""
        import pymongo

        port = free_port()
        with (
            self.log.open("wb") as log,
            subprocess.Popen(
                self._secantus(f"--storage-path={data}", port),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.home,
            ) as process,
        ):
            try:
                with pymongo.MongoClient[dict[str, Any]](
                    self._uri(port=port),
                    serverSelectionTimeoutMS=START_SECONDS * 1000,
                    socketTimeoutMS=START_SECONDS * 1000,
                ) as client:
                    self._create_user(client)
            except pymongo.errors.PyMongoError as error:
                raise StackError(
                    f"{self.title} could not be set up: {type(error).__name__}. See {self.log}."
                ) from None
            finally:
                process.terminate()
                # What it has confirmed survives a kill.
                try:
                    process.wait(STOP_SECONDS)
                except subprocess.TimeoutExpired:
                    process.kill()

    def _make_user_of_mongod(self, anybody: MongoClient[dict[str, Any]]) -> None:
        """Configure a new replica set and make our user.

        MongoDB allows both without a password, from this machine, until there is a user.
        """
        from pymongo.errors import OperationFailure

        try:
            anybody.admin.command(
                "replSetInitiate", {"_id": "softcart", "members": self._members()}
            )
        except OperationFailure as error:
            if error.code == NOT_FOR_ANYBODY:
                return
            if error.code != ALREADY_INITIALIZED:
                raise
        self._require_primary(anybody)
        self._create_user(anybody)

    def _create_user(self, client: MongoClient[dict[str, Any]]) -> None:
        client.admin.command("createUser", USER, pwd=self.password, roles=["root"])

    def _become_primary(self, client: MongoClient[dict[str, Any]]) -> None:
        """Configure the replica set again after a change of the port, which is part of it."""
        config = client.admin.command("replSetGetConfig")["config"]
        if config["members"][0]["host"] != self._members()[0]["host"]:
            # By force: without a member that it can reach, the set has no primary that could
            # change it.
            config |= {"members": self._members(), "version": config["version"] + 1}
            client.admin.command("replSetReconfig", config, force=True)
        self._require_primary(client)

    def _members(self) -> list[dict[str, Any]]:
        return [{"_id": 0, "host": f"127.0.0.1:{self.port}"}]

    @staticmethod
    def _require_primary(client: MongoClient[dict[str, Any]]) -> None:
        from softcart_assets.connections import ServerUnreachable

        if not client.admin.command("hello")["isWritablePrimary"]:
            raise ServerUnreachable("It is not the primary of its replica set yet.")
