"""The local Superset, in a virtual environment of its own. Its metadata are in PostgreSQL."""

from __future__ import annotations

import hashlib
import json
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path

from filelock import FileLock

from softcart_assets.paths import REPOSITORY
from softcart_assets.stack.postgres import Postgres
from softcart_assets.stack.server import LOG_LINES, USER, Server, StackError

SUPERSET = "SOFTCART_SUPERSET"
"""The prefix of the settings of a Superset."""
_INSIDE = Path(__file__).with_name("in_superset")
_LOCK = _INSIDE / "requirements.lock"
_SECONDS = 30


def environment() -> Path:
    """The folder of Superset's own virtual environment, whether it is complete or not.

    Another lock makes it another folder.
    """
    pinned = hashlib.sha256(_LOCK.read_bytes()).hexdigest()[:12]
    return Path(sys.prefix) / "superset" / pinned


def is_installed() -> bool:
    """Whether Superset is here, as its lock says."""
    return _stamp().exists()


def install() -> Path:
    """Install Superset, unless it is here. Returns its Python. Raises `StackError`.

    It takes a minute or two, and 800 MB.
    """
    folder = environment()
    folder.parent.mkdir(exist_ok=True)
    python = folder / "bin" / "python"
    with FileLock(folder.with_suffix(".install")):
        if not is_installed():
            _uv("venv", "--clear", "--python", sys.executable, str(folder))
            hashes = ("--require-hashes", "--compile-bytecode")
            _uv("pip", "sync", *hashes, "--python", str(python), str(_LOCK))
            # Last, so that an installation that was broken off is repeated.
            _stamp().touch()
    return python


def _stamp() -> Path:
    return environment() / "complete"


def _uv(*arguments: str) -> None:
    # It knows the sources of packages that pip is configured for.
    done = subprocess.run(
        [REPOSITORY / "bootstrap.sh", "uv", *arguments], capture_output=True, text=True, check=False
    )
    if done.returncode:
        told = "\n".join(done.stderr.splitlines()[-LOG_LINES:])
        raise StackError(f"Superset cannot be installed:\n{told}")


class Superset(Server):
    """A Superset with one user, who may do everything. It also starts the PostgreSQL it needs."""

    # Not as what users ask for: both are in one file.
    name = "bi"
    title = "Superset"
    programs = frozenset({"python"})
    stop_signal = signal.SIGTERM
    remedy = "Run `make superset`."
    # It reads 150 packages.
    start_seconds = 300
    address = "URI"

    def __init__(
        self,
        home: Path,
        port: int,
        password: str,
        databases: Mapping[str, str],
        *,
        postgres: Postgres,
    ) -> None:
        super().__init__(home, port, password, databases)
        self._postgres = postgres

    def up(self) -> None:
        """See `Server`. Raises `StackError` if Superset cannot be installed."""
        install()
        self._postgres.up()
        super().up()

    def products(self) -> dict[str, Path]:
        """See `Server`."""
        return {"Superset 6.1": environment() / "bin" / "python"} if is_installed() else {}

    @property
    def data_argument(self) -> str:
        """See `Server`."""
        return f"--data={self.data}"

    def initialise(self, data: Path) -> None:
        """See `Server`. Makes the tables in a database of its own, which takes some minutes."""
        self._postgres.make_database(self.name, self.password)
        data.mkdir(mode=0o700)
        self.run([*self._program(), f"--data={data}", f"--initialise={USER}"], cwd=self.home)

    def command(self) -> list[str]:
        """See `Server`."""
        return [*self._program(), self.data_argument, f"--port={self.port}"]

    def prepare(self) -> None:
        """See `Server`."""
        from softcart_assets.connections import ServerUnreachable

        try:
            urllib.request.urlopen(f"{self.url(SUPERSET)}/health", timeout=_SECONDS).close()
        except (urllib.error.URLError, OSError) as error:
            raise ServerUnreachable(f"{self.title} does not answer: {error}") from None

    def url(self, prefix: str) -> str:
        """See `Server`."""
        return f"http://127.0.0.1:{self.port}"

    def environment(self, prefix: str) -> dict[str, str]:
        """See `Server`."""
        return {
            f"{prefix}_URI": self.url(prefix),
            f"{prefix}_USER": USER,
            f"{prefix}_PASSWORD": self.password,
        }

    def _program(self) -> list[str]:
        """The program, with new settings in place: PostgreSQL may have another port now."""
        database = f"{self.name}:{self.password}@127.0.0.1:{self._postgres.port}/{self.name}"
        settings = {
            "password": self.password,
            "environment": {
                # It encrypts what Superset keeps, so it has to stay the same.
                "SUPERSET_SECRET_KEY": hashlib.sha256(f"key {self.password}".encode()).hexdigest(),
                "SUPERSET_DATABASE_URI": f"postgresql+psycopg2://{database}",
            },
        }
        file = self.home / "settings.json"
        # Before the passwords are in it.
        file.touch(mode=0o600)
        file.write_text(json.dumps(settings))
        program = _INSIDE / "server.py"
        # Isolated from the user's Python settings.
        return [str(self.product[1]), "-I", str(program), f"--settings={file}"]
