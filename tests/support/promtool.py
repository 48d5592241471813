"""Prometheus' own checker of rules, from Debian's package.

It is unpacked and not installed, because the package would start a server.
"""

from __future__ import annotations

import os
import shutil
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
            # Under another name until it is complete. A kill could leave a part of it.
            unfinished = home.with_name("prometheus.unfinished")
            shutil.rmtree(unfinished, ignore_errors=True)
            unfinished.mkdir()
            download = ["apt-get", "-qq", "download", "prometheus"]
            try:
                _run(download, unfinished)
            except subprocess.CalledProcessError:
                # A new machine has no lists of packages.
                _run(["apt-get", "-qq", "update"], unfinished)
                _run(download, unfinished)
            for package in unfinished.glob("*.deb"):
                _run(["dpkg-deb", "--extract", str(package), "."], unfinished)
            shutil.rmtree(home, ignore_errors=True)
            unfinished.rename(home)
    return program


def _run(command: list[str], folder: Path) -> None:
    subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
