"""`softcart serve pages` as a process, for somebody who is another user of this machine."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from softcart_assets.paths import REPOSITORY
from softcart_assets.stack import Stack
from softcart_assets.stack.server import free_port

NOBODY = 65534


@contextmanager
def served(stack: Stack, folder: Path, **settings: str) -> Iterator[tuple[psutil.Popen, str]]:
    """The process and its address, from its first answer on. `settings`: more of them."""
    if os.geteuid():
        pytest.skip("only root may become another user")
    port = free_port()
    names = {"SOFTCART_EXTRACTS_DIR": str(folder), "SOFTCART_HOME": str(stack.home)}
    process = psutil.Popen(
        [REPOSITORY / ".venv" / "bin" / "softcart", "serve", "pages", f"--port={port}"],
        env=os.environ | names | settings,
        cwd=REPOSITORY,
    )
    try:
        address, deadline = f"http://127.0.0.1:{port}/", time.monotonic() + 60
        while not _answers(address):
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.1)
        yield process, address
    finally:
        if process.is_running():
            process.kill()
            process.wait()


def _answers(address: str) -> bool:
    try:
        urllib.request.urlopen(address, timeout=5).close()
    except urllib.error.HTTPError as error:
        return error.code == 401
    except OSError:
        return False
    return True


def as_nobody(program: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a program as a user who owns nothing."""
    path = shutil.which(program)
    assert path, f"{program} is not on PATH"
    return subprocess.run(
        [path, *map(str, arguments)],
        user=NOBODY,
        group=NOBODY,
        extra_groups=[],
        cwd="/",
        capture_output=True,
        text=True,
    )
