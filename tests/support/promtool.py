"""Prometheus' own checker of rules, from Debian's package.

It is unpacked and not installed, because the package would start a server.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from filelock import FileLock

_CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "softcart"


def promtool() -> Path:
    """The program, fetched once. Raises `CalledProcessError` or `OSError` if apt cannot do so."""
    home = _CACHE / "prometheus"
    program = home / "usr" / "bin" / "promtool"
    _CACHE.mkdir(parents=True, exist_ok=True)
    with FileLock(_CACHE / "prometheus.lock", timeout=300):
        if not program.exists():
            home.mkdir(exist_ok=True)
            try:
                _run(["apt-get", "-qq", "download", "prometheus"], home)
            except subprocess.CalledProcessError:
                # A new machine has no lists of packages.
                _run(["apt-get", "-qq", "update"], home)
                _run(["apt-get", "-qq", "download", "prometheus"], home)
            for package in home.glob("*.deb"):
                _run(["dpkg-deb", "--extract", str(package), str(home)], home)
                package.unlink()
    return program


def _run(command: list[str], folder: Path) -> None:
    subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
