"""A real, current MySQL server in addition to the tests' usual one. Debian's unstable has it.

Its package and the libraries that it was built with are unpacked into a cache folder. This happens
once for all clones of a user: 60 MB to fetch, some seconds. Nothing is installed, and neither root
nor a container is needed. `python tests/support/mysql97.py` fetches it in advance.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from filelock import FileLock

from softcart_assets.connections import MySQLConnection
from softcart_assets.stack.mysql import MySQL
from softcart_assets.stack.server import USER

_PACKAGE = "mysql-server-core"
_CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "softcart"
_KEYRINGS = [Path(f"/usr/share/keyrings/debian-archive-keyring.{kind}") for kind in ("pgp", "gpg")]
_START = """\
#!/bin/sh
# MySQL with the loader and the libraries that it was built with, not this machine's. The loader
# goes by the server's name.
home=$(dirname "$(readlink -f "$0")")
exec "$home/loader/mysqld" --library-path {libraries} "$home/usr/sbin/mysqld" "$@"
"""


class Unavailable(RuntimeError):
    """Real MySQL cannot be had here. The message says why."""


class RealMySQL(MySQL):
    """A MySQL server whose program comes from the cache folder. `MySQL` has the rest."""

    name = "mysql97"

    def products(self) -> dict[str, Path]:
        """See `Server`."""
        return {"MySQL": program()}

    def connection(self) -> MySQLConnection:
        """The way in, with the same prefix as the stack's MySQL."""
        prefix, database = next(iter(self.databases.items()))
        return MySQLConnection(prefix, "127.0.0.1", self.port, USER, self.password, database)


def program() -> Path:
    """The server's program, fetched if it is not there yet. Raises `Unavailable`."""
    home = _CACHE / "mysql-9.7"
    start = home / "mysqld"
    if start.exists():
        return start
    try:
        _CACHE.mkdir(parents=True, exist_ok=True)
        with FileLock(home.with_name("mysql-9.7.lock"), timeout=600):
            if not start.exists():
                # Under another name until it is complete. A kill could leave a part of it.
                unfinished = home.with_name("mysql-9.7.unfinished")
                shutil.rmtree(unfinished, ignore_errors=True)
                _unpack(unfinished)
                _run([str(unfinished / "mysqld"), "--version"])
                unfinished.rename(home)
    except OSError as error:  # FileLock's timeout is one, too
        raise Unavailable(f"no real MySQL in {home}: {error}") from None
    return start


def _unpack(home: Path) -> None:
    """Fetch the packages with this machine's apt and unpack them.

    Lists and status are separate. So apt changes nothing here, and fetches even libraries that are
    installed in another version.
    """
    apt = home / "apt"
    for directory in ("lists/partial", "archives/partial"):
        (apt / directory).mkdir(parents=True)
    (apt / "status").touch()
    architecture = _run(["dpkg", "--print-architecture"]).strip()
    signed_by = "".join([f" signed-by={keyring}" for keyring in _KEYRINGS if keyring.exists()][:1])
    (apt / "sources.list").write_text(
        f"deb [arch={architecture}{signed_by}] {_mirror()} sid main\n"
    )
    settings = {
        "Dir::Etc::SourceList": apt / "sources.list",
        "Dir::Etc::SourceParts": "/dev/null",
        "Dir::Etc::Preferences": "/dev/null",
        "Dir::Etc::PreferencesParts": "/dev/null",
        "Dir::State": apt,
        "Dir::State::Status": apt / "status",
        "Dir::Cache": apt,
        "APT::Sandbox::User": "root",  # the user who fetches for root may not see root's folder
        "Acquire::Languages": "none",
        "Acquire::Retries": "3",
        "Debug::NoLocking": "true",
    }
    apt_get = ["apt-get", "-qq", *(f"-o{name}={value}" for name, value in settings.items())]
    _run([*apt_get, "update", "--error-on=any"])
    _run([*apt_get, "install", "--download-only", "--yes", "--no-install-recommends", _PACKAGE])
    for package in (apt / "archives").glob("*.deb"):
        _run(["dpkg-deb", "--extract", str(package), str(home)])
    shutil.rmtree(apt)
    libraries = next(home.glob("usr/lib/*-linux-*/libc.so.6")).parent
    (home / "loader").mkdir()
    (home / "loader" / "mysqld").symlink_to(
        Path("..", next(libraries.glob("ld-linux*.so.*")).relative_to(home))
    )
    (home / "mysqld").write_text(_START.format(libraries=f'"$home/{libraries.relative_to(home)}"'))
    (home / "mysqld").chmod(0o755)


def _mirror() -> str:
    """Where apt gets Debian from on this machine."""
    wanted = ["Created-By: Packages", "Component: main"]
    # apt knows the origin only after it has fetched its lists.
    for narrower in (
        ["Origin: Debian", "Label: Debian"],
        [],
    ):
        uris = _run(
            ["apt-get", "indextargets", "--format", "$(REPO_URI)", *wanted, *narrower]
        ).split()
        if uris:
            return uris[0]
    raise Unavailable(
        "no real MySQL here: apt is configured for no source with Debian's component main"
    )


def _run(command: list[str]) -> str:
    """The output of a command. Raises `Unavailable` with its errors if it fails."""
    try:
        return subprocess.run(command, check=True, text=True, capture_output=True).stdout
    except FileNotFoundError:
        raise Unavailable(
            f"no real MySQL here: there is no {command[0]}, and only Debian's packages are known"
        ) from None
    except subprocess.CalledProcessError as error:
        last = " ".join(error.stderr.split()[-60:])
        raise Unavailable(
            f"no real MySQL here: `{command[0]} … {command[-1]}` failed: {last}"
        ) from None


if __name__ == "__main__":
    try:
        program()
    except Unavailable as reason:
        sys.exit(f"{reason}. Tests on real MySQL will be skipped.")
